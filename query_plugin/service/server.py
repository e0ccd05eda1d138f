"""Runs the service: one socket, one event loop, a drain at the end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lrem_os.config import Settings
from lrem_os.config_query import ServeSettings
from lrem_os.errors import ConfigError
from lrem_os.extras import require
from lrem_os.query_plugin.service.upstream import Upstream

if TYPE_CHECKING:
    from lrem_os.query_plugin.engine.several import Engine

_KEEP_ALIVE_S = 75  # longer than clients keep a connection, so that they close it and not we


def run(
    engine: Engine, upstream: Upstream, settings: Settings, *, on_listening: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or Ctrl-C; then requests under way may end, for ``serve.drain_s``.

    Args:
        engine: Reads queries; warmed up first, closed at the end.
        upstream: The cluster; closed at the end.
        settings: The configuration.
        on_listening: Told the address, when requests are answered.

    Raises:
        ConfigError: The address is taken or none of this machine's, or TLS files that cannot be used.
        DependencyMissing: The extra ``serve`` is not installed.
        ModelError: A model does not answer.
    """
    for package in ("uvicorn", "fastapi", "httptools"):
        require(package, extra="serve")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(engine, upstream, settings, on_listening))


async def _serve(engine: Engine, upstream: Upstream, settings: Settings, on_listening: Callable[[str], None]) -> None:
    from lrem_os.query_plugin.service.app import create_app
    from lrem_os.query_plugin.service.bounded import BoundedHttp

    uvicorn: Any = require("uvicorn", extra="serve")
    serve = settings.serve
    with listen(serve) as listening:
        config = uvicorn.Config(
            create_app(engine, upstream, settings),
            lifespan="on",
            http=BoundedHttp,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(serve.drain_s)),
            ssl_certfile=serve.cert_file,
            ssl_keyfile=serve.key_file,
        )
        try:
            config.load()
        except OSError as exc:  # ssl.SSLError is one
            raise ConfigError(f"serve.cert_file or serve.key_file cannot be used: {exc}") from exc
        await engine.warm_up()
        server = uvicorn.Server(config)
        # uvicorn hands SIGTERM on when it is done, to whoever had it before: draining is no error
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        on_listening(address(serve, listening.getsockname()[1]))
        try:
            await server.serve(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)
    if not server.started:
        raise ConfigError("the service could not start: see the messages above")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop where there is one, as there is not on Windows; none: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def address(serve: ServeSettings, port: int) -> str:
    """Return the URL of the service.

    >>> address(ServeSettings(host="::1"), 8099)
    'http://[::1]:8099'
    """
    host = f"[{serve.host}]" if ":" in serve.host else serve.host
    return f"{'https' if serve.cert_file else 'http'}://{host}:{port}"


def listen(serve: ServeSettings) -> socket.socket:
    """Return the socket that connections come in by. Raises ``ConfigError`` where it cannot be had."""
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        listening = socket.create_server((serve.host, serve.port), family=family, backlog=2048)
    except OSError as exc:
        raise ConfigError(
            f"cannot listen on {serve.host}, port {serve.port}: {exc.strerror}",
            hint="set serve.port to another, or to 0 for a free one",
        ) from exc
    # connections inherit it: asyncio sets it only on sockets that name their protocol, which these do not, and an
    # answer's body would wait 40 ms for the client to acknowledge its head
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
