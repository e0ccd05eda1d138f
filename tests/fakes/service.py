"""The service in this process: a client in front of it, and behind it a cluster that answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from lrem_os.config import Settings
from lrem_os.query_plugin.service.app import create_app
from lrem_os.query_plugin.service.edge import Edge
from lrem_os.query_plugin.service.upstream import Upstream
from lrem_os.query_plugin.service.wire import Answer, Headers
from tests.fakes.engine import FakeEngine

HITS = b'{"took":3,"timed_out":false,"hits":{"total":{"value":1.0},"hits":[{"_id":"a","_score":1.50}]}}'
HOST = "http://cluster:9200"


class Cluster:
    """What stands behind the service.

    Attributes:
        requests: All that came, in order.
        answer: Makes the answer to one; it may raise what a wire raises, or wait.
    """

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], Awaitable[httpx.Response]] = self.hits

    async def hits(self, _request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json; charset=UTF-8"}
        # a stream: what comes over the network has not been read or decoded either
        return httpx.Response(200, stream=httpx.ByteStream(HITS), headers=headers)

    def answers(self, status: int, content: bytes, **headers: str) -> None:
        """Answer everything alike."""
        kind = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, stream=httpx.ByteStream(content), headers=kind)

        self.answer = answer

    def fails(self, error: Exception, times: int = 1_000_000) -> None:
        """Raise in place of an answer, so many times."""
        left = [times]

        async def answer(request: httpx.Request) -> httpx.Response:
            left[0] -= 1
            if left[0] >= 0:
                raise error
            return await self.hits(request)

        self.answer = answer

    async def send(self, method: str, url: str, headers: Headers, body: bytes) -> Answer:
        """Be the wire: httpx' own classes show and make messages, so that tests can read and write them."""
        request = httpx.Request(method, url, headers=list(headers), content=body or None)
        self.requests.append(request)
        response = await self.answer(request)
        return Answer(
            response.status_code, response.headers.raw, b"".join([part async for part in response.aiter_raw()])
        )

    async def aclose(self) -> None:
        """Have nothing to close."""


class Service:
    """The service and both its sides.

    Args:
        settings: The configuration.
        engine: Reads queries.
        hosts: Of the cluster.
    """

    def __init__(self, settings: Settings, engine: FakeEngine, hosts: tuple[str, ...] = (HOST,)) -> None:
        self.settings, self.engine, self.cluster = settings, engine, Cluster()
        self.upstream = Upstream(hosts, settings.search, timeout_s=30, max_connections=10, wire=self.cluster)
        self.app: Edge = create_app(engine, self.upstream, settings)
        # an error of the service is an answer here too, as it is behind a real server
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")
        for name in ("user-agent", "accept", "accept-encoding", "connection"):
            del self.client.headers[name]

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request to the service."""
        return await self.client.request(method, path, **options)

    async def aclose(self) -> None:
        """Close both sides."""
        await self.client.aclose()
        await self.upstream.aclose()


def serving(
    check: Callable[[Service], Awaitable[None]],
    *,
    engine: FakeEngine | None = None,
    hosts: tuple[str, ...] = (HOST,),
    **sections: dict[str, Any],
) -> Service:
    """Run a check against a service; return it, for what is to be seen afterwards.

    Args:
        check: Gets the service.
        engine: None: one that reads everything directly.
        hosts: Of the cluster.
        sections: Of the configuration.
    """

    async def run() -> Service:
        service = Service(Settings.model_validate(sections), engine or FakeEngine(), hosts)
        try:
            await check(service)
        finally:
            await service.aclose()
        return service

    return asyncio.run(run())
