"""What every request passes on its way in and out: its id, keys, limits on size, number and time, the last resort.

One ASGI application around another. A request is read whole before it is handed on, so that a client that leaves can
be told from one that still sends: whose client is gone is cancelled wherever it stands.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from lrem_os.config_query import ServeSettings
from lrem_os.query_plugin.service.call import too_large
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.problems import Problem, internal, overloaded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FREE = {"/live", "/ready", "/docs", "/openapi.json"}  # without a key
_ALWAYS = {*_FREE, "/metrics"}  # however much there is to do: then it is looked at most
_log = logging.getLogger("lrem_os.serve")


class _Gone(Exception):
    """The client left."""


class Edge:
    """Wraps the service.

    Args:
        app: What answers.
        settings: Keys and limits.
        metrics: Counts.
    """

    def __init__(self, app: App, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        keys = "" if settings.api_keys is None else settings.api_keys.get_secret_value()
        self._keys = [key.strip().encode() for key in keys.split(",") if key.strip()]
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        self._running += 1
        self._metrics.began()
        started, gone = time.perf_counter(), False
        try:
            await self._serve(exchange, receive)
        except _Gone:
            gone = True
        except Problem as exc:
            if exc.status >= 500:
                _log.warning("request %s: %d %s (%r)", exchange.request_id, exc.status, exc.reason, exc.__cause__)
            await exchange.fail(exc)
        except Exception:  # the last resort: the client gets an id, the log the traceback under it
            _log.exception("request %s: %s %s", exchange.request_id, scope["method"], scope["path"])
            await exchange.fail(internal())
        finally:
            self._running -= 1
            self._metrics.ended(exchange.endpoint, None if gone else exchange.status, time.perf_counter() - started)

    async def _serve(self, exchange: _Exchange, receive: Receive) -> None:
        self._check_key(exchange)
        if self._running > self._settings.max_requests and exchange.path not in _ALWAYS:
            raise overloaded(f"[{self._settings.max_requests}] requests are under way already")
        ends = asyncio.get_running_loop().time() + self._settings.timeout_s
        try:
            async with asyncio.timeout_at(ends):
                body = await self._body(exchange, receive)
        except TimeoutError:
            raise Problem(408, "request_timeout_exception", "the request's body did not come in time") from None
        gone = asyncio.ensure_future(_until_gone(receive))
        work = asyncio.ensure_future(self._app(exchange.scope, _replay(body, gone), exchange.send))
        try:
            left_s = ends - asyncio.get_running_loop().time()
            await asyncio.wait({work, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or exchange.is_complete:  # a connection whose answer is out looks like one that was closed
                await work
            elif gone.done():
                raise _Gone
            else:
                raise Problem(504, "timeout_exception", f"there was no answer within [{self._settings.timeout_s:g}] s")
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _check_key(self, exchange: _Exchange) -> None:
        if not self._keys or exchange.path in _FREE:
            return
        shown = exchange.header(b"x-lrem-api-key")
        is_search = exchange.path.endswith(("/_search", "/_msearch"))
        if not shown and not is_search:  # there the header is for OpenSearch
            shown = exchange.header(b"authorization").removeprefix(b"Bearer ")
        if not any(hmac.compare_digest(shown, key) for key in self._keys):
            how = "x-lrem-api-key" if is_search else "x-lrem-api-key or as a bearer token"
            raise Problem(401, "security_exception", f"an API key is missing or wrong: send it in {how}")

    async def _body(self, exchange: _Exchange, receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        announced = exchange.header(b"content-length")
        if announced.isdigit() and int(announced) > limit:
            raise too_large(limit)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit)
            if not message.get("more_body"):
                return b"".join(parts)


class _Exchange:
    """One request and what was answered so far."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id = uuid.uuid4().hex
        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):  # as OpenSearch does
            scope = {**scope, "path": path.rstrip("/")}
        self.scope = {**scope, "state": {**scope.get("state", {}), "request_id": self.request_id}}
        self.path: str = self.scope["path"]
        self.status = 500
        self.is_complete = False
        self._send, self._is_begun = send, False

    @property
    def endpoint(self) -> str:
        """The route that answered, for counting."""
        return str(getattr(self.scope.get("route"), "path", "other"))

    def header(self, name: bytes) -> bytes:
        return next((bytes(value) for key, value in self.scope["headers"] if key == name), b"")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_begun, self.status = True, message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            message = {**message, "headers": headers}
        elif not message.get("more_body"):
            self.is_complete = True
        await self._send(message)

    async def fail(self, problem: Problem) -> None:
        """Answer with an error, unless an answer has begun."""
        if self._is_begun:
            return
        is_openai = self.path.startswith("/v1/")
        told = problem.as_openai(self.request_id) if is_openai else problem.as_opensearch(self.request_id)
        body = orjson.dumps(told)
        headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, gone: asyncio.Future[None]) -> Receive:
    """Return what hands an application a body that was read already, and later that the client left."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if not is_read:
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    return receive
