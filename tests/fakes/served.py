"""The service over real HTTP, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from lrem_os.config import Settings
from lrem_os.query_plugin.engine.several import Engine
from lrem_os.query_plugin.service.app import create_app
from lrem_os.query_plugin.service.upstream import Upstream
from tests.corpus import search_bodies
from tests.fakes.engine import FakeEngine, vector_of

SECRET = "not for everybody"


@dataclass(frozen=True)
class Ways:
    """The index of the search bodies by two ways; beside it lies one with ``SECRET``, closed to the service.

    Args:
        straight: To the node.
        through: To the service.
        index: The index that may be searched; the other is ``INDEX-secret``.
    """

    straight: httpx.Client
    through: httpx.Client
    index: str


@contextmanager
def served(settings: Settings, engine: FakeEngine, node: str) -> Iterator[str]:
    """Run the service before a node; yield its URL."""
    with running(settings, engine, node) as url:
        yield url
    assert engine.is_closed


@contextmanager
def running(settings: Settings, engine: Engine, node: str) -> Iterator[str]:
    """Run the service with any engine; yield its URL."""
    upstream = Upstream((node,), settings.search, timeout_s=60, max_connections=20)
    config = uvicorn.Config(
        create_app(engine, upstream, settings),
        port=0,
        log_config=None,
        lifespan="on",
        date_header=False,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 120
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < ends
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


def two_ways(node: str) -> Iterator[Ways]:
    """Yield a service before a node, with the index of the search bodies."""
    index = f"test-same-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"index": {"name": index}})
    lines = {"content-type": "application/x-ndjson"}
    with httpx.Client(base_url=node, timeout=120) as straight:
        straight.put(f"/{index}", json=search_bodies.index_body()).raise_for_status()
        load = straight.post(f"/{index}/_bulk?refresh=true", content=search_bodies.bulk(vector_of), headers=lines)
        assert not load.raise_for_status().json()["errors"]
        straight.put(f"/{index}-secret/_doc/1?refresh=true", json={"text": SECRET}).raise_for_status()
        with (
            served(settings, FakeEngine(), node) as url,
            httpx.Client(base_url=url, timeout=120) as through,
        ):
            yield Ways(straight, through, index)
        straight.delete(f"/{index},{index}-secret")
