"""OpenSearch as the service sees it: one request in, status, headers and bytes out, whatever they are.

Nothing is decoded, followed or kept. A host that cannot be reached is passed over; a kept connection that turns out to
be closed is replaced once. Searching twice does no harm, and nothing else goes through ``send`` twice.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.config import SearchSettings
from lrem_os.config_fields import without_userinfo
from lrem_os.errors import ConfigError
from lrem_os.extras import require
from lrem_os.query_plugin.service.problems import Problem

Headers = Sequence[tuple[bytes, bytes]]

_HOP_BY_HOP = {  # RFC 9110, 7.6.1: meant for the next hop alone
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),  # expect: its body is here already
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What OpenSearch answered.

    Args:
        status: HTTP status.
        headers: End to end, without the length of the body.
        body: As it came over the wire, compressed if it was.
    """

    status: int
    headers: Headers
    body: bytes


class Upstream:
    """The cluster.

    Args:
        hosts: URLs; the first that answers is used.
        search: Credentials and TLS.
        timeout_s: Until a connection or a pause in an answer is given up.
        max_connections: At once.
        transport: In place of the network, for tests.

    Raises:
        ConfigError: A host is no URL, or the CA bundle cannot be read.
        DependencyMissing: The extra ``serve`` is not installed.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        search: SearchSettings,
        *,
        timeout_s: float,
        max_connections: int,
        transport: Any = None,
    ) -> None:
        self._httpx: Any = require("httpx", extra="serve")
        try:
            urls = [self._httpx.URL(host) for host in hosts]
        except self._httpx.InvalidURL as exc:
            raise ConfigError(f"search.hosts: {without_userinfo(str(exc))}", hint="http://localhost:9200") from exc
        self._credentials = _credentials(search, urls)
        # credentials in a URL are ours: left there, httpx would show them for every caller
        self._hosts = [url.copy_with(userinfo=b"") for url in urls]
        self._client = self._httpx.AsyncClient(
            timeout=timeout_s,
            limits=self._httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            verify=_tls(search) if any(host.startswith("https") for host in hosts) else False,
            trust_env=False,  # a proxy of the environment is not meant for the cluster
            transport=transport,
        )

    async def send(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        headers: Headers = (),
        body: bytes = b"",
        own_credentials: bool = False,
    ) -> Answer:
        """Return the answer, whatever its status.

        Args:
            method: HTTP method.
            path: Encoded, from the slash on.
            query: Encoded, without the question mark.
            headers: Of the caller; those that are not end to end are left out.
            body: Sent as it is.
            own_credentials: Show those of the configuration where the headers hold none.

        Raises:
            Problem: OpenSearch cannot be reached (503), or does not answer in time (504).
        """
        sent = end_to_end(headers)
        if own_credentials and self._credentials and not any(name == b"authorization" for name, _ in sent):
            sent.append((b"authorization", self._credentials))
        last: Exception | None = None
        for host in [*self._hosts, self._hosts[0]]:
            full = host.raw_path.rstrip(b"/") + path.encode() + (f"?{query}".encode() if query else b"")
            target = host.copy_with(raw_path=full)
            try:
                return await self._send_once(method, target, sent, body)
            except self._httpx.TimeoutException as exc:
                if not isinstance(exc, self._httpx.ConnectTimeout):
                    raise Problem(504, "upstream_timeout_exception", "OpenSearch did not answer in time") from exc
                last = exc
            except self._httpx.TransportError as exc:
                last = exc
        raise Problem(
            503,
            "upstream_unavailable_exception",
            "OpenSearch cannot be reached, or broke the connection",
            retry_after_s=1,
        ) from last

    async def _send_once(self, method: str, target: Any, headers: Headers, body: bytes) -> Answer:
        # built here and not by the client, which would add headers of its own
        request = self._httpx.Request(method, target, headers=list(headers), content=body or None)
        response = await self._client.send(request, stream=True, auth=None)
        try:
            data = b"".join([part async for part in response.aiter_raw()])
        finally:
            await response.aclose()
        return Answer(response.status_code, end_to_end(response.headers.raw), data)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that are meant for the other end; without host and length, which are made anew."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {name.strip().lower() for key, value in lowered if key == b"connection" for name in value.split(b",")}
    dropped = _HOP_BY_HOP | named | {b"host", b"content-length"}
    return [(name, value) for name, value in lowered if name not in dropped]


def without(headers: Headers, names: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers that have none of these names, which are in lower case."""
    dropped = set(names)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _credentials(search: SearchSettings, urls: Iterable[Any]) -> bytes | None:
    if search.token is not None:
        return f"Bearer {search.token.get_secret_value()}".encode()
    pairs = [f"{url.username}:{url.password}" for url in urls if url.username]
    if search.user is not None and search.password is not None:
        pairs.insert(0, f"{search.user}:{search.password.get_secret_value()}")
    return b"Basic " + base64.b64encode(pairs[0].encode()) if pairs else None  # UTF-8: RFC 7617


def _tls(search: SearchSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if search.ca_file is None else str(search.ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"search.ca_file: {search.ca_file} cannot be read as a CA bundle") from exc
    if not search.verify_tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
