"""uvicorn's protocol over httptools, which has no limit of its own for the head of a request."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65536  # what h11 allows


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request head does not end: nobody's key has been looked at by then."""

    _unread = 0  # bytes since a head, a piece of a body or a request ended

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; its length is limited elsewhere."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        self._unread = 0
        super().on_message_complete()
