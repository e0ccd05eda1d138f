"""A process of its own, over real HTTP: it drains at SIGTERM, and OpenSearch's faults are answered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lrem_os.config import Settings
from lrem_os.config_query import ServeSettings
from lrem_os.errors import ConfigError
from lrem_os.query_plugin.service.server import listen, run
from lrem_os.query_plugin.service.upstream import Upstream
from tests.fakes.engine import FakeEngine
from tests.fakes.opensearch import FakeOpenSearch, Fault, times

ROOT = Path(__file__).parents[4]
PATIENCE_S = 240
SCRIPT = """
import sys
from lrem_os.config import Settings
from lrem_os.query_plugin.service.server import run
from lrem_os.query_plugin.service.upstream import Upstream
from tests.fakes.engine import FakeEngine
settings = Settings.model_validate({"index": {"name": "shop"}, "serve": {"port": 0}})
upstream = Upstream((sys.argv[1],), settings.search, timeout_s=settings.serve.timeout_s, max_connections=8)
run(FakeEngine(), upstream, settings, on_listening=lambda url: print(url, flush=True))
print("ended", flush=True)
"""
BODY = {"query": {"neural": {"lrem_vector": {"query_text": "pot"}}}}


@pytest.fixture
def cluster() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as fake:
        httpx.put(f"{fake.url}/shop", json={}, trust_env=False)
        yield fake


@pytest.fixture
def service(cluster: FakeOpenSearch) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, cluster.url], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def search(url: str, **options: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        return client.post(f"{url}/shop/_search", **{"json": BODY} | options)


def test_what_is_under_way_at_sigterm_is_answered(
    cluster: FakeOpenSearch, service: tuple[subprocess.Popen[str], str]
) -> None:
    process, url = service
    go, arrived = threading.Event(), threading.Event()

    def waits(request: Any) -> Fault | None:
        if request.action == "_search":
            arrived.set()
            go.wait(PATIENCE_S)
        return None

    cluster.fault = waits
    found: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: found.append(search(url)))
    asking.start()
    assert arrived.wait(PATIENCE_S)
    process.send_signal(signal.SIGTERM)
    port = int(url.rsplit(":", 1)[1])
    ends = time.monotonic() + PATIENCE_S
    while _accepts(port):  # nothing new is taken
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert process.poll() is None
    go.set()
    asking.join(PATIENCE_S)
    assert [answer.status_code for answer in found] == [200]
    assert found[0].json()["ext"]["lrem"]["route"] == "direct"
    assert process.wait(PATIENCE_S) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "ended\n"


def test_faults_of_opensearch_are_answered_and_pass(
    cluster: FakeOpenSearch, service: tuple[subprocess.Popen[str], str]
) -> None:
    _, url = service
    cluster.fault = times(1, Fault(drop=True), "_search")
    assert search(url).status_code == 200  # asked again, on another connection
    cluster.fault = times(2, Fault(drop=True), "_search")
    dropped = search(url)
    assert (dropped.status_code, dropped.json()["error"]["type"]) == (503, "upstream_unavailable_exception")
    cluster.fault = times(1, Fault(status=429, headers={"Retry-After": "3"}), "_search")
    pushed_back = search(url)
    assert (pushed_back.status_code, pushed_back.headers["retry-after"]) == (429, "3")
    assert pushed_back.json()["error"]["type"] == "scripted_exception"
    cluster.fault = times(1, Fault(status=502, body=b"<html>"), "_search")
    assert (search(url).status_code, search(url).status_code) == (502, 200)


def test_a_client_that_leaves_ends_the_search(
    cluster: FakeOpenSearch, service: tuple[subprocess.Popen[str], str]
) -> None:
    _, url = service
    arrived, go = threading.Event(), threading.Event()

    def waits(request: Any) -> Fault | None:
        if request.action == "_search":
            arrived.set()
            go.wait(PATIENCE_S)
        return None

    cluster.fault = waits
    data = json.dumps(BODY).encode()
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as client:
        lines = ["POST /shop/_search HTTP/1.1", "Host: x", "Content-Type: application/json"]
        client.sendall("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)
        assert arrived.wait(PATIENCE_S)
    ends = time.monotonic() + PATIENCE_S
    while "lrem_clients_gone_total{" not in httpx.get(f"{url}/metrics", trust_env=False, timeout=PATIENCE_S).text:
        assert time.monotonic() < ends
        time.sleep(0.05)
    go.set()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_head_that_does_not_end_is_cut_off(service: tuple[subprocess.Popen[str], str]) -> None:
    host, port = service[1].removeprefix("http://").split(":")
    for start in (b"GET /live HTTP/1.1\r\n", b"GET /live HTTP/1.1\r\nx-long: ", b"GET /"):
        piece = b"x" * 60 + (b": 1\r\n" if start.endswith(b"\r\n") else b"")
        flood = start + piece * 1_000_000  # far more than a connection holds
        with (
            socket.create_connection((host, int(port)), PATIENCE_S) as client,
            pytest.raises(ConnectionError),  # BrokenPipeError is one
        ):
            client.sendall(flood)
    assert search(service[1], headers={"x-long": "x" * 10_000}).status_code == 200
    long = {"query": {"bool": {"should": [BODY["query"], {"match": {"title": "x " * 300_000}}]}}}
    assert search(service[1], json=long).status_code == 200


def test_the_body_of_an_answer_does_not_wait_for_the_client_to_acknowledge_the_head() -> None:
    with listen(ServeSettings(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_an_address_that_is_taken_or_a_certificate_that_is_none_is_said(tmp_path: Path) -> None:
    def start(**serve: Any) -> None:
        settings = Settings.model_validate({"serve": serve})
        upstream = Upstream(("http://127.0.0.1:1",), settings.search, timeout_s=1, max_connections=1)
        run(FakeEngine(), upstream, settings)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1") as caught:
            start(port=taken.getsockname()[1])
        assert "serve.port" in str(caught.value.hint)
    file = tmp_path / "no.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"serve\.cert_file"):
        start(port=0, cert_file=str(file), key_file=str(file))
