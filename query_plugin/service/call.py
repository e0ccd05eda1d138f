"""A client's request as the gateway sees it, and the JSON that it carries. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from lrem_os.query_plugin.service.asked import Params
from lrem_os.query_plugin.service.problems import Problem, bad_request
from lrem_os.query_plugin.service.upstream import without
from lrem_os.query_plugin.service.wire import Headers

_OURS = (b"x-lrem-route", b"x-lrem-keywords", b"x-lrem-report", b"x-lrem-deadline-ms", b"x-lrem-api-key")
_GZIP = 16 + zlib.MAX_WBITS
_JSON = {"application/json", "application/x-ndjson", "application/*"}  # what OpenSearch reads as JSON


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a client.

    Args:
        method: HTTP method.
        index: The index expression of the path, decoded; empty: none.
        query: Of the URL, as it came.
        params: The same, decoded, in their order.
        headers: As they came.
        body: As it came, compressed or not.
    """

    method: str
    index: str
    query: str
    params: Params
    headers: Headers
    body: bytes

    @property
    def is_empty(self) -> bool:
        """Whether it carries nothing to search with."""
        return not self.body and self.param("source") is None

    def header(self, name: str) -> str:
        """Return a header's value; empty if it is not there."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name.encode()), "")

    def param(self, name: str) -> str | None:
        """Return a parameter's value, the last where it stands twice."""
        return next((value for key, value in reversed(self.params) if key == name), None)

    def with_params(self, params: Params) -> Call:
        """Return the call with these parameters; its query string stays as it came where none is gone."""
        query = self.query if list(params) == list(self.params) else urlencode(params)
        return replace(self, params=params, query=query)

    def without_ours(self) -> Call:
        """Return the call without the headers that were meant for this service."""
        return replace(self, headers=without(self.headers, _OURS))

    def with_body(self, body: bytes, *, plain_answer: bool) -> Call:
        """Return the call with another body, in JSON as it is.

        Args:
            body: What to send.
            plain_answer: Whether the answer must come uncompressed, because something is added to it.
        """
        dropped = [b"content-encoding"] + ([b"accept-encoding"] if plain_answer else [])
        headers = without(self.headers, dropped)
        if self.body:
            return replace(self, headers=headers, body=body)
        rest = [(name, value) for name, value in self.params if name not in ("source", "source_content_type")]
        headers = [*without(headers, [b"content-type"]), (b"content-type", b"application/json")]
        return replace(self.with_params(rest), method="POST", headers=headers, body=body)


def params_of(query: str) -> Params:
    """Return the parameters of a query string as OpenSearch reads them: a semicolon separates them, too.

    >>> params_of("size=3;q=red+bag&pretty")
    [('size', '3'), ('q', 'red bag'), ('pretty', '')]
    """
    return parse_qsl(query.replace(";", "&"), keep_blank_values=True)


def json_of(call: Call, max_bytes: int) -> bytes | None:
    """Return the JSON that a call carries, in its body or in ``source``; ``None`` if it is none that we read.

    Raises:
        Problem: It is larger than allowed when decompressed (413), or not compressed as it says (400).
    """
    kind, encoding = call.header("content-type"), call.header("content-encoding").lower()
    if not call.body:
        source = call.param("source")
        return None if source is None or not _is_json(call.param("source_content_type") or "") else source.encode()
    data = call.body if encoding in ("", "identity") else None
    if encoding == "gzip":
        data = _decompressed(call.body, max_bytes)
    return None if kind and not _is_json(kind) else data  # YAML, CBOR, SMILE


def _is_json(media_type: str) -> bool:
    # whole names: what is `application/smile;json` to OpenSearch must not be JSON to us, where indices are checked
    return media_type.partition(";")[0].strip().lower() in _JSON


def too_large(max_bytes: int) -> Problem:
    """Return that a body is longer than allowed."""
    return Problem(413, "content_too_long_exception", f"the request body is longer than [{max_bytes}] bytes")


def search_lines(body: bytes) -> tuple[list[bytes], range]:
    """Return the lines of an ``_msearch``, and where the search bodies stand among them; a header is before each.

    OpenSearch overlooks one empty line at the beginning, and refuses a body that does not end with a line break.

    >>> search_lines(b'{}\\n{"query":{}}\\n')
    ([b'{}', b'{"query":{}}', b''], range(1, 2, 2))
    """
    lines = body.split(b"\n")
    first = 1 if body.startswith(b"\n") else 0
    return lines, range(first + 1, len(lines) - 1, 2)


def _decompressed(body: bytes, max_bytes: int) -> bytes | None:
    stream = zlib.decompressobj(_GZIP)
    try:
        data = stream.decompress(body, max_bytes + 1)
    except zlib.error as exc:  # OpenSearch would close the connection
        raise bad_request("the body is not gzip, as its content-encoding says") from exc
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data if stream.eof and not stream.unused_data else None


def index_of_header(header: object) -> Sequence[str] | None:
    """Return the index expressions that a header line of ``_msearch`` names; ``None``: it names none.

    Raises:
        ValueError: It names them in a way that OpenSearch would not read.
    """
    if not isinstance(header, dict):
        raise ValueError("a header is no object")
    named = [header[key] for key in ("index", "indices") if header.get(key) is not None]
    if [] in named:
        raise ValueError("an empty list of indices means all of them")
    found = [item for value in named for item in (value if isinstance(value, list) else [value])]
    if not all(isinstance(item, str) for item in found):
        raise ValueError("an index is no string")
    return found or None
