"""A load balancer before several services: in turn, those alone that say they are ready, and the next one on a failure.

HAProxy does the same with ``benchmarks/cluster/haproxy.cfg``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tests.fakes.ports import quiet_port

_CONFIG = Path(__file__).parents[2] / "benchmarks" / "cluster" / "haproxy.cfg"
_CHECK_S = 0.5


@contextmanager
def balanced(urls: Sequence[str], haproxy: str | None = None) -> Iterator[str]:
    """Run a balancer before three services; yield its URL.

    Args:
        urls: Of the services.
        haproxy: HAProxy's program, to have it in place of the one here.
    """
    port = quiet_port()
    with _own(port, urls) if haproxy is None else _haproxy(haproxy, port, urls):
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"


def find_haproxy() -> str | None:
    """Return HAProxy's program; ``None`` where it is not installed."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def _haproxy(program: str, port: int, urls: Sequence[str]) -> Iterator[None]:
    servers = {f"LREM_SERVICE_{number}": urlsplit(url).netloc for number, url in enumerate(urls, 1)}
    command = [program, "-db", "-f", str(_CONFIG)]
    process = subprocess.Popen(command, env={**os.environ, "LREM_FRONT": f"127.0.0.1:{port}", **servers})
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _own(port: int, urls: Sequence[str]) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(port, urls, stop),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def _wait_for(port: int) -> None:
    ends = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < ends, "the balancer does not listen"
        time.sleep(0.02)


async def _serve(port: int, urls: Sequence[str], stop: asyncio.Event) -> None:
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        balancer = _Balancer(session, urls)
        checks = asyncio.create_task(balancer.check())
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", balancer.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await stop.wait()
        await runner.cleanup()
        checks.cancel()
        await asyncio.gather(checks, return_exceptions=True)


class _Balancer:
    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self.session, self.urls = session, list(urls)
        self.ready = set(urls)
        self.turn = 0

    async def check(self) -> None:
        while True:
            for url in self.urls:
                try:
                    async with self.session.get(f"{url}/ready") as answer:
                        is_ready = answer.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    is_ready = False
                (self.ready.add if is_ready else self.ready.discard)(url)
            await asyncio.sleep(_CHECK_S)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.turn += 1
        turned = [self.urls[(self.turn + place) % len(self.urls)] for place in range(len(self.urls))]
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        for url in sorted(turned, key=lambda url: url not in self.ready):
            try:
                sent = self.session.request(request.method, url + request.raw_path, data=body, headers=headers)
                async with sent as answer:
                    told = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
                    return web.Response(status=answer.status, body=await answer.read(), headers=told)
            except (aiohttp.ClientError, TimeoutError):
                self.ready.discard(url)
        return web.Response(status=503)
