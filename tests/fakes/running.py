"""The service over real HTTP, in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from lrem_os.config import Settings
from lrem_os.query_plugin.service.app import create_app
from lrem_os.query_plugin.service.upstream import Upstream
from tests.fakes.engine import FakeEngine

_DEAD_MAN_S = 120


@contextmanager
def running_service(settings: Settings, engine: FakeEngine, node: str) -> Iterator[str]:
    """Run the service on a free port of this machine; yield its URL."""
    upstream = Upstream((node,), settings.search, timeout_s=60, max_connections=20)
    app = create_app(engine, upstream, settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + _DEAD_MAN_S
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < ends
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_DEAD_MAN_S)
    assert not thread.is_alive()
