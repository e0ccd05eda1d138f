"""The connection to OpenSearch, or Elasticsearch: builds the client, reads the server's version, translates its errors.

Foreign exceptions are mapped in one context manager, by the most specific class; ``tests/unit/search/test_client.py``
fails when opensearch-py grows one that nobody mapped.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from opensearchpy import OpenSearch, Urllib3HttpConnection, exceptions
from opensearchpy.helpers import errors as helper_errors
from opensearchpy.serializer import JSONSerializer

from lrem_os.config import SearchSettings
from lrem_os.config_fields import without_userinfo
from lrem_os.errors import (
    AccessDenied,
    ConfigError,
    IndexMissing,
    LremError,
    RequestRejected,
    SearchError,
    SearchRejected,
    SearchTimeout,
    SearchUnavailable,
    Unsupported,
)
from lrem_os.search.dialect import Version, dialect_of, kind_of_server
from lrem_os.types import Engine

_STATUS_WRONG_METHOD = 405


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server says about itself.

    Args:
        version: For example ``(3, 6, 0)``.
        plugins: Names of the installed plugins; ``None`` when the user may not list them.
        engine: What it is.
    """

    version: Version
    plugins: frozenset[str] | None
    engine: Engine = "opensearch"


class _Serializer(JSONSerializer):
    """orjson in place of the standard library: responses of thousands of items are parsed on the hot path."""

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError as exc:
            raise exceptions.SerializationError(s, exc) from exc

    def dumps(self, data: Any) -> Any:
        if isinstance(data, str | bytes):
            return data
        try:
            return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as exc:
            raise exceptions.SerializationError(data, exc) from exc


class _Connection(Urllib3HttpConnection):
    """Keeps the ``Retry-After`` header, which opensearch-py drops, on the exception it raises."""

    _last = threading.local()

    def get_response_headers(self, response: Any) -> Any:
        headers = super().get_response_headers(response)
        self._last.retry_after = headers.get("retry-after")
        return headers

    def _raise_error(self, status_code: int, raw_data: Any, content_type: str | None = None) -> None:
        try:
            super()._raise_error(status_code, raw_data, content_type)
        except exceptions.TransportError as exc:
            exc.retry_after_s = parse_retry_after(getattr(self._last, "retry_after", None))  # type: ignore[attr-defined]
            raise

    def log_request_success(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the original decodes every body for a log line that nobody reads."""


class _ToElasticsearch(_Connection):
    """Tells on every error which server it is about."""

    def perform_request(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().perform_request(*args, **kwargs)
        except exceptions.OpenSearchException as exc:
            exc.server = "Elasticsearch"  # type: ignore[attr-defined]
            raise


class Client(OpenSearch):
    """opensearch-py's client, which speaks with Elasticsearch too, and remembers which of the two it is for."""

    engine: Engine = "opensearch"


def engine_of(client: OpenSearch) -> Engine:
    """Return what kind of server a client was made for."""
    return client.engine if isinstance(client, Client) else "opensearch"


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number or an HTTP date (RFC 9110, 10.2.3).

    >>> parse_retry_after("7"), parse_retry_after(None), parse_retry_after("soon")
    (7.0, None, None)
    """
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value.strip())
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:  # what "-0000" becomes
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def connect(settings: SearchSettings, *, default_url: str | None = None, pool_size: int = 10) -> OpenSearch:
    """Return a client; no request is sent yet.

    Args:
        settings: Hosts, credentials, TLS.
        default_url: Used when no hosts are configured: the local node.
        pool_size: Connections kept open per host.

    Raises:
        ConfigError: No hosts, one that is no URL, or TLS files that do not exist.
    """
    dialect = dialect_of(settings.engine)
    hosts = list(settings.hosts) or ([default_url] if default_url else [])
    if not hosts:
        raise ConfigError(
            f"no {dialect.name} to talk to: search.hosts is empty and no local node is running",
            hint="start one with `lrem-os node up`, or set search.hosts",
        )
    for host in hosts:
        _check_url(host)
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigError(f"search.ca_file: {settings.ca_file} is not a file")
    options: dict[str, Any] = {}
    if any(host.startswith("https://") for host in hosts):
        options |= {"verify_certs": settings.verify_tls, "ssl_show_warn": False}
        if settings.ca_file is not None:
            options["ca_certs"] = str(settings.ca_file)
    if settings.user is not None and settings.password is not None:
        # not http_auth: it is sent as Latin-1, where OpenSearch reads UTF-8 (RFC 7617)
        pair = f"{settings.user}:{settings.password.get_secret_value()}".encode()
        options["headers"] = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    if settings.token is not None:
        options["headers"] = {"Authorization": dialect.token_header(settings.token.get_secret_value())}
    with translate_errors():
        client = Client(
            hosts,
            connection_class=_Connection if settings.engine == "opensearch" else _ToElasticsearch,
            serializer=_Serializer(),
            timeout=settings.timeout_s,
            http_compress=settings.compress,
            pool_maxsize=pool_size,
            max_retries=max(1, len(hosts) - 1),  # another host at once; waiting is the caller's policy
            **options,
        )
    client.engine = settings.engine
    return client


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and (parts.port is None or parts.port > 0) and not re.search(r"\s", url)
    except ValueError:  # a port that is none
        is_url = False
    if not is_url:
        shown = without_userinfo(url)
        raise ConfigError(f"search.hosts has {shown!r}, which is no URL", hint="for example http://localhost:9200")


def server_info(client: OpenSearch) -> ServerInfo:
    """Return version and plugins of the server.

    Raises:
        Unsupported: It is not what ``search.engine`` says, or too old.
        SearchError: It does not answer.
    """
    wanted = engine_of(client)
    dialect = dialect_of(wanted)
    with translate_errors():
        answer = _greeting(client)
    if not isinstance(answer, Mapping):
        raise Unsupported(f"the server is not {dialect.name} (it says {str(answer)[:60]!r})")
    number = str(answer.get("version", {}).get("number", ""))
    found = kind_of_server(answer)
    if found is None:
        raise Unsupported(f"the server is not {dialect.name} (it says version {number or 'unknown'})")
    if found != wanted:
        raise Unsupported(
            f"the server is {dialect_of(found).name} {number}, and search.engine is {wanted}",
            hint=f"set search.engine to {found}: in the configuration, as LREM_OS__SEARCH__ENGINE={found}, or with"
            f" --set search.engine={found}",
        )
    version = parse_version(number)
    if version < dialect.oldest:
        oldest = "{}.{}".format(*dialect.oldest)
        raise Unsupported(
            f"{dialect.name} {number} is too old: lrem-os needs {oldest} or newer",
            hint="upgrade, or use `lrem-os node up`",
        )
    try:
        with translate_errors():
            rows = client.cat.plugins(params={"format": "json", "h": "component"})
    except AccessDenied:
        return ServerInfo(version, None, wanted)
    return ServerInfo(version, frozenset(row["component"] for row in rows), wanted)


def server_version(client: OpenSearch) -> Version:
    """Return the server's version. Raises ``Unsupported`` and opensearch-py's errors."""
    return parse_version(str(_greeting(client)["version"]["number"]))


def _greeting(client: OpenSearch) -> Any:
    """Return what the server says of itself; an Elasticsearch without its module for that is asked for its node."""
    try:
        return client.info()
    except exceptions.TransportError as exc:
        if exc.status_code != _STATUS_WRONG_METHOD:
            raise
    answer = client.nodes.info(node_id="_local", params={"filter_path": "nodes.*.version,nodes.*.build_flavor"})
    nodes = list(answer.get("nodes", {}).values()) or [{}]
    return {"version": {"number": nodes[0].get("version", ""), **nodes[0]}}


def parse_version(number: str) -> Version:
    """Return the three numbers of a version.

    >>> parse_version("3.6.0-SNAPSHOT")
    (3, 6, 0)

    Raises:
        Unsupported: It is no version.
    """
    parts = number.split("-")[0].split(".")
    try:
        return (int(parts[0]), int(parts[1]), int(parts[2]))
    except (IndexError, ValueError) as exc:
        raise Unsupported(f"the server's version {number!r} cannot be understood") from exc


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise our errors in place of opensearch-py's, chained to them."""
    try:
        yield
    except exceptions.ImproperlyConfigured as exc:
        raise ConfigError(f"opensearch-py refuses the configuration: {exc}") from exc
    except (
        exceptions.OpenSearchException,
        exceptions.OpenSearchDslException,
        exceptions.ValidationException,
    ) as exc:
        raise translated(exc) from exc


def search_many(
    client: OpenSearch, index: str, bodies: Iterable[Mapping[str, Any]], *, timeout_s: float | None = None
) -> list[dict[str, Any]]:
    """Return the answers to several searches on one index, in one ``_msearch`` and in their order.

    Args:
        client: Connection to the cluster.
        index: Index or alias.
        bodies: Of the searches.
        timeout_s: In place of the client's own.

    Raises:
        SearchError: The request failed as a whole; a search that failed alone is an answer with ``error``.
    """
    payload = b"".join(b"{}\n" + orjson.dumps(body) + b"\n" for body in bodies)
    with translate_errors():
        options = {} if timeout_s is None else {"params": {"request_timeout": timeout_s}}
        answer = client.msearch(index=index, body=payload, **options)
    responses: list[dict[str, Any]] = answer["responses"]
    return responses


def translated(exc: Exception) -> LremError:
    """Return our error for one of opensearch-py's."""
    server = getattr(exc, "server", "OpenSearch")
    if isinstance(exc, exceptions.ConnectionTimeout):
        return SearchTimeout(f"{server} did not answer in time", hint="raise search.timeout_s, or look at its load")
    if isinstance(exc, exceptions.SSLError):
        return AccessDenied(f"the TLS connection failed: {exc.error}", hint="set search.ca_file to the CA bundle")
    if isinstance(exc, exceptions.ConnectionError):
        return SearchUnavailable(
            f"{server} cannot be reached: {exc.error}", hint="is it running? `lrem-os node status`"
        )
    if isinstance(exc, exceptions.TransportError):
        return _from_status(exc)
    if isinstance(exc, exceptions.SerializationError):
        return SearchError(f"a request or answer is not JSON: {str(exc)[:300]}")
    if isinstance(exc, helper_errors.ScanError):
        return SearchError(f"reading the index stopped half-way: {exc}", hint="run it again")
    return SearchError(f"{type(exc).__name__}: {exc}")


def _from_status(exc: exceptions.TransportError) -> LremError:
    server = getattr(exc, "server", "OpenSearch")
    status = exc.status_code if isinstance(exc.status_code, int) else 0
    reason = error_reason(exc.info) or str(exc.error)[:500]
    if status == 429:
        return SearchRejected(
            f"{server} pushes back (429): {reason}", retry_after_s=getattr(exc, "retry_after_s", None)
        )
    if status == 503:
        return SearchUnavailable(f"{server} is not available (503): {reason}")
    if status in (401, 403):
        return AccessDenied(
            f"{server} denies access ({status}): {reason}",
            hint="set search.user and LREM_OS__SEARCH__PASSWORD, or LREM_OS__SEARCH__TOKEN",
        )
    if status == 404 and "index_not_found" in str(exc.error):
        return IndexMissing(f"{server} has no such index: {reason}", hint="create it with `lrem-os ingest`")
    if status == 404 and "search_context_missing" in reason:
        return SearchUnavailable(f"{server} lost the scroll: it was restarted, or the scroll took too long")
    if status == 408 or status == 504:
        return SearchTimeout(f"{server} did not answer in time ({status}): {reason}")
    if status >= 500:
        return SearchUnavailable(f"{server} failed ({status}): {reason}")
    return RequestRejected(f"{server} refused the request ({status}): {reason}")


def error_reason(info: object) -> str:
    """Return the most telling sentence of an error answer: the innermost ``caused_by`` or root cause; else empty."""
    if not isinstance(info, Mapping) or "error" not in info:
        return ""
    error = info["error"]
    if not isinstance(error, Mapping):
        return str(error)
    return describe_error(error)


def describe_error(error: Mapping[str, Any]) -> str:
    """Return ``type: reason (caused by …)`` of an OpenSearch error object, as a bulk item or an answer holds it."""
    text = f"{error.get('type', 'error')}: {error.get('reason', '')}"
    causes = error.get("root_cause") or []
    if causes and causes[0].get("reason") not in (None, error.get("reason")):
        text += f" ({causes[0]['reason']})"
    cause = error.get("caused_by")
    while isinstance(cause, Mapping):
        text += f" (caused by {cause.get('type', '')}: {cause.get('reason', '')})"
        cause = cause.get("caused_by")
    return text[:1000]
