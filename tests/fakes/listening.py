"""What the fakes that are servers share: an address, and a thread from ``with`` to its end."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Listening:
    """Listens on this machine.

    Args:
        server: Already bound to its port; what it answers is its own.
        path: Behind host and port in the address.
    """

    def __init__(self, server: ThreadingHTTPServer, path: str = "") -> None:
        self._server, self._path = server, path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
