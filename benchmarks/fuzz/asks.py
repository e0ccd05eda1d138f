"""Requests of every kind to the service: mutated searches, several in one, and what is ours beside them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from benchmarks.fuzz.mutate import Mutator

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}

_PARAMS = (
    *(
        "",
        "",
        "",
        "",
        "size=1",
        "pretty",
        "q=red+bag",
        "q=%ff",
        "q=",
        "scroll=1m",
        "x=%zz",
        "lrem.route=reasoned",
        "a=b;c",
    ),
    *(
        "lrem.route=direct",
        "lrem.route=%00",
        "lrem.deadline_ms=1",
        "lrem.deadline_ms=nan",
        "lrem.report=false",
        "lrem.x=1",
    ),
    *(
        "filter_path=hits.total",
        "typed_keys",
        "rest_total_hits_as_int=true",
        "format=yaml",
        "index=other",
        "source=%7B%7D",
    ),
    *(
        "q=" + "a" * 3000,
        "size=99999999999999999999",
        "q=a&size=-1",
        "search_pipeline=none",
        "&&;=&=",
        "lrem.keywords=false",
    ),
)
_HEADERS: tuple[dict[str, str], ...] = (
    *({}, {}, {}, {}, {}, {"accept-encoding": "gzip"}, {"x-lrem-route": "reasoned"}, {"x-lrem-route": "\u00e9"}),
    *(
        {"content-type": "text/plain"},
        {"content-type": "application/smile;json"},
        {"content-type": ""},
        {"accept": "*"},
    ),
    *(
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"x-opaque-id": "x" * 500},
        {"x-lrem-deadline-ms": "0"},
    ),
    *({"content-type": "application/x-ndjson"}, {"authorization": "Basic !!"}, {"expect": "100-continue"}),
)
_INDICES = (
    "INDEX",
    "INDEX",
    "INDEX",
    "INDEX",
    "INDEX,INDEX",
    "INDEX*",
    "_all",
    "nope",
    "%00",
    "%ff",
    "a" * 300,
    "%2e%2e",
    "*",
)
_OWN = (
    ("/v1/embeddings", {"input": ["red bag", "hot pot"], "encoding_format": "float", "input_type": "query"}),
    ("/v1/embeddings", {"input": "red bag", "input_type": "passage", "model": "m", "dimensions": 8}),
    ("/v1/route", {"text": "what goes under a hot pot", "route": "auto"}),
    ("/ubi/events", {"action_name": "click", "query_id": "q", "event_attributes": {"position": {"ordinal": 1}}}),
)
_PLAIN_PATHS = (
    "/live",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/",
    "/nope",
    "/_search",
    "/INDEX",
    "//",
    "/INDEX/_search/",
)
_METHODS = ("GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND")


@dataclass(frozen=True)
class Ask:
    """A request.

    Args:
        kind: For the table.
        method: HTTP method.
        path: Encoded, with its parameters.
        headers: Beside host and length.
        body: As it is sent.
    """

    kind: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def asks(mutator: Mutator, index: str) -> Iterator[Ask]:
    """Yield requests without end; the same mutator, the same requests."""
    pick = mutator.random
    kinds = (_search, _search, _search, _search, _search, _bytes, _several, _several, _own, _others)
    while True:
        ask = pick.choice(kinds)(mutator, index)
        if pick.random() < 0.03:
            ask = Ask(
                ask.kind, ask.method, ask.path, ask.headers | {"content-encoding": "gzip"}, gzip.compress(ask.body)
            )
        yield ask


def _search(mutator: Mutator, index: str) -> Ask:
    pick = mutator.random
    where = pick.choice(_INDICES) if pick.random() < 0.1 else "INDEX"
    params = pick.choice(_PARAMS) if pick.random() < 0.3 else ""
    headers = JSON | (pick.choice(_HEADERS) if pick.random() < 0.2 else {})
    body = mutator.body()
    if pick.random() < 0.03:
        params = f"source={quote(body[:1500])}&source_content_type=application/json"
        body = b""
    method = "GET" if pick.random() < 0.1 else "POST"
    return Ask("search", method, _path(where, index, "_search", params), _without_empty(headers), body)


def _bytes(mutator: Mutator, index: str) -> Ask:
    return Ask("bytes", "POST", f"/{index}/_search", JSON, mutator.bytes_of(mutator.body()))


def _several(mutator: Mutator, index: str) -> Ask:
    pick = mutator.random
    lines = []
    for _ in range(pick.randrange(0, 6)):
        header: Any = (
            {} if pick.random() < 0.6 else {"index": pick.choice((index, [index], "*", [], "", None, mutator.value()))}
        )
        lines += [json.dumps(header).encode(), mutator.body()]
    body = b"".join(line + b"\n" for line in lines)
    if pick.random() < 0.15:
        body = mutator.bytes_of(body)
    where = pick.choice(("INDEX", "INDEX", "INDEX", "", "*"))
    params = pick.choice(_PARAMS) if pick.random() < 0.2 else ""
    return Ask("msearch", "POST", _path(where, index, "_msearch", params), pick.choice((JSON, NDJSON)), body)


def _own(mutator: Mutator, _index: str) -> Ask:
    pick = mutator.random
    path, good = pick.choice(_OWN)
    body: Any = {**good}
    for _ in range(pick.choice((0, 1, 1, 2))):
        body[pick.choice((*body, "route", "x", "text", "input"))] = mutator.value()
    data = json.dumps(body).replace("\\u0001number:", "").encode()
    return Ask("own", "POST", path, JSON, mutator.bytes_of(data) if pick.random() < 0.2 else data)


def _others(mutator: Mutator, index: str) -> Ask:
    pick = mutator.random
    path = pick.choice(_PLAIN_PATHS).replace("INDEX", index)
    headers = pick.choice(_HEADERS)
    method = pick.choice(_METHODS)
    body = mutator.body() if method in ("POST", "PUT", "PATCH") else b""
    return Ask("others", method, path, _without_empty(headers), body)


def _path(where: str, index: str, action: str, params: str) -> str:
    where = where.replace("INDEX", index)
    return (f"/{where}/{action}" if where else f"/{action}") + (f"?{params}" if params else "")


def _without_empty(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value}
