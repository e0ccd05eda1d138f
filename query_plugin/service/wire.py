"""One HTTP request over the network, exactly as it is told: nothing is added, decoded or followed."""

from __future__ import annotations

import io
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lrem_os.extras import require

Headers = Sequence[tuple[bytes, bytes]]

_ONE_WRITE = 2**20  # bytes; aiohttp's own limit


class Unreachable(Exception):
    """The host cannot be reached, or broke the connection."""


class TooSlow(Exception):
    """The host has the request and does not answer in time."""


class CannotSend(Exception):
    """The request cannot be written as HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered.

    Args:
        status: HTTP status.
        headers: As they came.
        body: As it came over the wire, compressed if it was.
    """

    status: int
    headers: Headers
    body: bytes


class Wire(Protocol):
    """Sends requests."""

    async def send(self, method: str, url: str, headers: Headers, body: bytes) -> Answer:
        """Return the answer, whatever its status.

        Args:
            method: HTTP method.
            url: Sent as it is, so encoded.
            headers: Sent as they are, beside host and content-length.
            body: Sent as it is; empty: none.

        Raises:
            CannotSend: It is no HTTP.
            TooSlow: No answer in time.
            Unreachable: No connection, or a broken one.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class AiohttpWire:
    """The network, with connections that are kept.

    aiohttp, since its request costs a quarter of the CPU time of httpx's, and the service adds little else to a search.

    Args:
        connect_s: Until a connection that is not made is given up.
        timeout_s: Until a pause in an answer is.
        max_connections: At once.
        tls: How certificates are checked; none: only plain HTTP is spoken.

    Raises:
        DependencyMissing: The extra ``serve`` is not installed.
    """

    def __init__(self, *, connect_s: float, timeout_s: float, max_connections: int, tls: ssl.SSLContext | None) -> None:
        self._aiohttp: Any = require("aiohttp", extra="serve")
        self._url: Any = require("yarl", extra="serve").URL
        self._connect_s, self._timeout_s, self._max_connections = connect_s, timeout_s, max_connections
        self._tls = tls
        self._session: Any = None

    async def send(self, method: str, url: str, headers: Headers, body: bytes) -> Answer:
        """Return the answer; see ``Wire``."""
        session = self._session or self._open()
        try:
            target = self._url(url, encoded=True)
            # it writes UTF-8: what is none would arrive as something else
            told = [(name.decode(), value.decode()) for name, value in headers]
        except ValueError as exc:
            raise CannotSend(str(exc)) from exc
        try:
            async with session.request(
                method, target, headers=told, data=_sent(body), allow_redirects=False
            ) as response:
                return Answer(response.status, response.raw_headers, await response.read())
        except self._aiohttp.ConnectionTimeoutError as exc:
            raise Unreachable("no connection in time") from exc
        except TimeoutError as exc:
            raise TooSlow("no answer in time") from exc
        except self._aiohttp.InvalidURL as exc:
            raise CannotSend(str(exc)) from exc
        except (self._aiohttp.ClientError, OSError) as exc:  # before ValueError: a certificate's error is one, too
            raise Unreachable(str(exc)) from exc
        except ValueError as exc:
            raise CannotSend(str(exc)) from exc

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> Any:
        """Return the session, which must be made where the event loop runs."""
        aiohttp = self._aiohttp
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, ssl=self._tls if self._tls is not None else True, keepalive_timeout=60
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_s, connect=self._timeout_s, sock_read=self._timeout_s
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
            trust_env=False,  # a proxy of the environment is not meant for the cluster
            max_field_size=65536,
            max_line_size=65536,
        )
        return self._session


def _sent(body: bytes) -> Any:
    """Return what aiohttp sends: long bodies in pieces, since it warns that one write would hold up the event loop."""
    if len(body) > _ONE_WRITE:
        return io.BytesIO(body)
    return body or None
