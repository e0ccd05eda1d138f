"""OpenSearch as the service sees it: one request in, status, headers and bytes out, whatever they are.

Nothing is decoded, followed or kept. Hosts are asked in turn; one that cannot be reached is passed over, and so is one
that says 503 while another answers: it starts, ends, or has lost the cluster. A kept connection that turns out to be
closed is replaced; where it breaks while a request is under way, the request is sent again, by us or by the client
library. Searching twice does no harm, and behaviour records carry their ids.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import SplitResult, unquote, urlsplit

from lrem_os.config import SearchSettings
from lrem_os.config_fields import without_userinfo
from lrem_os.errors import ConfigError
from lrem_os.query_plugin.service.hosts import Hosts
from lrem_os.query_plugin.service.problems import Problem, bad_request
from lrem_os.query_plugin.service.wire import AiohttpWire, Answer, CannotSend, Headers, TooSlow, Unreachable, Wire

_CONNECT_S = 5.0
_NOT_NOW = 503

_HOP_BY_HOP = {  # RFC 9110, 7.6.1: meant for the next hop alone
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),  # expect: its body is here already
}


class Upstream:
    """The cluster.

    Args:
        hosts: URLs of its nodes, or of what stands before them.
        search: Credentials and TLS.
        timeout_s: Until a connection or a pause in an answer is given up.
        max_connections: At once.
        wire: In place of the network, for tests.

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
        wire: Wire | None = None,
    ) -> None:
        urls = [_split(host) for host in hosts]
        self._credentials = _credentials(search, urls)
        # credentials in a URL are ours: left there, they would be shown for every caller
        self._hosts = Hosts([f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}" for url in urls])
        tls = _tls(search) if any(url.scheme == "https" for url in urls) else None
        self._wire: Wire = wire or AiohttpWire(
            # a host that is silent must leave time for the others, and for the answer
            connect_s=min(_CONNECT_S, timeout_s / (len(hosts) + 2)),
            timeout_s=timeout_s,
            max_connections=max_connections,
            tls=tls,
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
            Problem: OpenSearch cannot be reached (503), does not answer in time (504), or cannot be asked that (400).
        """
        sent = end_to_end(headers)
        if own_credentials and self._credentials and not any(name == b"authorization" for name, _ in sent):
            sent.append((b"authorization", self._credentials))
        target = path + (f"?{query}" if query else "")
        last: Exception | None = None
        turned_away: tuple[str, Answer] | None = None
        order = self._hosts.order()
        for host in [*order, order[0]]:
            try:
                answer = await self._wire.send(method, host + target, sent, body)
            except TooSlow as exc:
                self._hosts.failed(host)
                raise Problem(504, "upstream_timeout_exception", "OpenSearch did not answer in time") from exc
            except CannotSend as exc:
                raise bad_request("the URL or a header of the request cannot be sent on") from exc
            except Unreachable as exc:
                self._hosts.failed(host)
                last = exc
            else:
                if answer.status == _NOT_NOW and turned_away is None and len(order) > 1:
                    turned_away = host, answer
                    continue
                if turned_away is not None and answer.status != _NOT_NOW:
                    self._hosts.failed(turned_away[0])
                self._hosts.worked(host)
                return _passed_on(answer)
        if turned_away is not None:
            return _passed_on(turned_away[1])
        raise Problem(
            503,
            "upstream_unavailable_exception",
            "OpenSearch cannot be reached, or broke the connection",
            retry_after_s=1,
        ) from last

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()


def _passed_on(answer: Answer) -> Answer:
    return replace(answer, headers=end_to_end(answer.headers))


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


def _split(host: str) -> SplitResult:
    try:
        url = urlsplit(host)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError("want http:// or https://, a host, perhaps a port and a path")
        _ = url.port  # raises where it is none
    except ValueError as exc:
        raise ConfigError(f"search.hosts has {without_userinfo(host)!r}: {exc}", hint="http://localhost:9200") from exc
    return url


def _credentials(search: SearchSettings, urls: Iterable[SplitResult]) -> bytes | None:
    if search.token is not None:
        return f"Bearer {search.token.get_secret_value()}".encode()
    pairs = [f"{unquote(url.username)}:{unquote(url.password or '')}" for url in urls if url.username]
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
