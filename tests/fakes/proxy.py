"""An HTTP proxy between the service and a real OpenSearch, which delays, refuses, hangs, or is gone, as a test says."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.ports import quiet_port


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        status: Answered in the node's place, with an error as the node would write it.
        headers: Sent with it.
        delay_s: Wait before the request is passed on.
        hang: Say nothing before the fault is over, then break the connection.
        drop: Break the connection at once.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang: bool = False
    drop: bool = False


Decide = Callable[[str, str], Fault | None]
"""Gets method and path of a request, the query string included."""

_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultyProxy:
    """Stands before one server. Use as a context manager.

    Attributes:
        ids: The ``x-opaque-id`` of every request that came.
        num_waiting: Requests that are held up at this moment.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.port = quiet_port()
        self.ids: set[str] = set()
        self.num_waiting = 0
        self.lock = threading.Lock()
        self.sockets: set[socket.socket] = set()
        self._decide: Decide = lambda _method, _path: None
        self.over = threading.Event()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultyProxy:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def strikes(self, fault: Fault, *actions: str) -> None:
        """Let a fault begin, for requests whose path ends with one of these; without any, for all."""
        self.decides(lambda _method, path: fault if not actions or path.split("?")[0].endswith(actions) else None)

    def decides(self, decide: Decide) -> None:
        """Let a fault begin."""
        self.over, self._decide = threading.Event(), decide

    def heals(self) -> None:
        """Let the fault end; what hangs is broken off."""
        self._decide = lambda _method, _path: None
        self.over.set()

    def fault(self, method: str, path: str) -> Fault:
        return self._decide(method, path) or Fault()

    def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.proxy = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Be gone, as a process that was killed is: nobody listens, and every connection breaks."""
        self.over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self.lock:
            sockets = list(self.sockets)
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    proxy: FaultyProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: broken connections are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        target = self.server.proxy.target
        self.node = http.client.HTTPConnection(target.hostname or "", target.port, timeout=120)
        with self.server.proxy.lock:
            self.server.proxy.sockets.add(self.connection)

    def finish(self) -> None:
        with self.server.proxy.lock:
            self.server.proxy.sockets.discard(self.connection)
        self.node.close()
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if opaque := self.headers.get("x-opaque-id"):
            proxy.ids.add(opaque)
        fault, over = proxy.fault(self.command, self.path), proxy.over
        if fault.hang or fault.delay_s:
            with proxy.lock:
                proxy.num_waiting += 1
            over.wait(None if fault.hang else fault.delay_s)
            with proxy.lock:
                proxy.num_waiting -= 1
        if fault.hang or fault.drop:
            self.close_connection = True
            return
        if fault.status is not None:
            error = b'{"error":{"type":"scripted_exception","reason":"this was asked for"},"status":%d}' % fault.status
            self._send(fault.status, {"content-type": "application/json", **fault.headers}, error)
            return
        self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
        try:
            self.node.request(self.command, self.path, body or None, headers)
            answer = self.node.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):  # the node itself is gone
            self.node.close()
            self.close_connection = True
            return
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_PASSED_ON}
        length = answer.getheader("content-length")
        self._send(answer.status, kept, data, length=length if self.command == "HEAD" else None)

    def _send(self, status: int, headers: Mapping[str, str], data: bytes, *, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
