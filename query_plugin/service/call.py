"""A client's request as the gateway sees it, and the JSON that it carries. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from lrem_os.query_plugin.service.asked import Params
from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.upstream import Headers, without

_OURS = (b"x-lrem-route", b"x-lrem-keywords", b"x-lrem-report", b"x-lrem-deadline-ms", b"x-lrem-api-key")
_GZIP = 16 + zlib.MAX_WBITS


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
        kind = (self.param("source_content_type") or "application/json").encode()
        headers = [*without(headers, [b"content-type"]), (b"content-type", kind)]
        return replace(self.with_params(rest), method="POST", headers=headers, body=body)


def json_of(call: Call, max_bytes: int) -> bytes | None:
    """Return the JSON that a call carries, in its body or in ``source``; ``None`` if it is none that we read.

    Raises:
        Problem: It is larger than allowed when decompressed (413).
    """
    kind, encoding = call.header("content-type").lower(), call.header("content-encoding").lower()
    if not call.body:
        source = call.param("source")
        return (
            None if source is None or "json" not in (call.param("source_content_type") or "json") else source.encode()
        )
    if kind and "json" not in kind:  # YAML, CBOR, SMILE
        return None
    if encoding in ("", "identity"):
        return call.body
    return _decompressed(call.body, max_bytes) if encoding == "gzip" else None


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
    except zlib.error:
        return None
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
    found = [item for value in named for item in (value if isinstance(value, list) else [value])]
    if not all(isinstance(item, str) for item in found):
        raise ValueError("an index is no string")
    return found or None
