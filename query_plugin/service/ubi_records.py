"""What a behaviour record holds: the fields of ``ubi_queries`` and ``ubi_events``, and the documents themselves. Pure.

The names and types are those of User Behavior Insights, so whatever reads UBI reads these. What only this service knows
of a search is told twice: whole under ``query_attributes``, as UBI wants it, and under ``lrem``, typed. UBI maps the
former as a ``flat_object``, over which an aggregation answers nonsense (3.6.0); a panel needs fields.

Source: UBI 1.3 (o19s/ubi), mappings of the OpenSearch plugin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.routing.features import phrasing
from lrem_os.query_plugin.service.report import described

Index = Literal["ubi_queries", "ubi_events"]
QUERIES: Index = "ubi_queries"
EVENTS: Index = "ubi_events"
APPLICATION = "lrem-os"
CLICK = "click"
"""The ``action_name`` that counts as a click."""

_MAX_HITS = 100  # ids kept of one answer
_MAX_REQUEST_CHARS = 8000
_MAX_ANSWER_BYTES = 2_000_000  # a larger answer is not read for its hits: the event loop has better to do

_KEYWORD = {"type": "keyword", "ignore_above": 256}
_DATE = {"type": "date", "format": "strict_date_time", "ignore_malformed": True}
_FLOAT = {"type": "float"}
_LONG = {"type": "long"}
_IDS = dict.fromkeys(("application", "client_id", "query_id", "user_query"), _KEYWORD)
_OF_SEARCH = dict.fromkeys(("route", "type", "why"), _KEYWORD)
"""What an event knows of the search that it belongs to, so that a filter on it keeps both."""

_LREM: Mapping[Index, Mapping[str, Any]] = {
    QUERIES: {
        **_OF_SEARCH,
        **dict.fromkeys(("keywords", "degraded"), _KEYWORD),
        **dict.fromkeys(("took_ms", "search_ms", "embed_ms", "route_ms", "reason_ms", "queue_ms"), _FLOAT),
        **dict.fromkeys(("score", "threshold", "gain", "budget"), _FLOAT),
        **dict.fromkeys(("searches", "reasoned", "cached", "is_degraded", "zero_results"), _LONG),
        **dict.fromkeys(("hits", "reasoning_tokens"), _LONG),
    },
    # an event has no "searches", but both indices are sorted by it together: without a mapping that fails
    EVENTS: {**_OF_SEARCH, **dict.fromkeys(("events", "clicks", "searches"), _LONG)},
}
MAPPINGS: Mapping[Index, Mapping[str, Any]] = {
    QUERIES: {
        "dynamic": False,
        "properties": {
            **_IDS,
            "timestamp": _DATE,
            "query": {"type": "text"},
            "query_response_id": _KEYWORD,
            "query_response_hit_ids": {"type": "keyword"},
            "query_attributes": {"type": "flat_object"},
            "lrem": {"properties": _LREM[QUERIES]},
        },
    },
    EVENTS: {
        "dynamic": False,
        "properties": {
            **_IDS,
            "timestamp": _DATE,
            "action_name": _KEYWORD,
            "message": {"type": "keyword", "ignore_above": 1024},
            "message_type": _KEYWORD,
            "event_attributes": {"dynamic": True, "properties": {"object": {"properties": {"object_id": _KEYWORD}}}},
            "lrem": {"properties": _LREM[EVENTS]},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Found:
    """What OpenSearch answered to a search, as far as it is recorded.

    Args:
        hits: Documents that match, as OpenSearch counts them (at most 10,000 unless asked for more).
        ids: Of the hits in the answer, the best first.
        search_ms: OpenSearch's own time.
        request: The search as it came, as Dev Tools takes it; empty: not told.
    """

    hits: int | None = None
    ids: tuple[str, ...] = ()
    search_ms: float | None = None
    request: str = ""


def found_in(data: bytes, *, id_field: str | None = None, request: str = "") -> Found:
    """Return what an answer of ``_search`` says; what it does not say, or is too long to be read for, is absent.

    Args:
        data: The answer's body.
        id_field: Field of a hit that names the product for events; none, or absent in a hit: its ``_id``.
        request: See ``Found``.

    >>> found_in(b'{"took":3,"hits":{"total":{"value":1},"hits":[{"_id":"a"}]}}')
    Found(hits=1, ids=('a',), search_ms=3.0, request='')
    """
    if len(data) > _MAX_ANSWER_BYTES:
        return Found(request=request)
    try:
        answer = orjson.loads(data)
        hits = answer["hits"]
        total = hits.get("total")
        value = total.get("value") if isinstance(total, dict) else total
        ids = tuple(_id_of(hit, id_field) for hit in hits["hits"][:_MAX_HITS])
        took = answer.get("took")
    except (ValueError, KeyError, TypeError, AttributeError):  # an error, or filtered
        return Found(request=request)
    return Found(
        value if isinstance(value, int) else None, ids, float(took) if isinstance(took, int) else None, request
    )


def request_text(method: str, path: str, query: str, body: bytes) -> str:
    r"""Return a request as Dev Tools takes it; one that is too long is cut.

    >>> request_text("POST", "/shop/_search", "", b'{"size":1}')
    'POST shop/_search\n{"size":1}'
    """
    head = f"{method} {path.lstrip('/')}{f'?{query}' if query else ''}"
    text = f"{head}\n{body.decode('utf-8', 'replace').strip()}" if body else head
    return text if len(text) <= _MAX_REQUEST_CHARS else f"{text[:_MAX_REQUEST_CHARS]} …"


def query_record(
    readings: Sequence[Reading],
    took_ms: float,
    said: Mapping[str, Any],
    *,
    query_id: str,
    response_id: str,
    user_query: str,
    found: Found = Found(),
    budget: float | None = None,
    is_hashed: bool = False,
    timestamp: str = "",
) -> dict[str, Any]:
    """Return the document of one search.

    Args:
        readings: Of its texts, at least one.
        took_ms: From the request to the answer.
        said: What the client said in ``ext.ubi``: ``application``, ``client_id``, ``query_attributes``.
        query_id: Events name it.
        response_id: Of the answer.
        user_query: What was typed, or a hash of it.
        found: What OpenSearch answered.
        budget: Share of the queries that may be reasoned about; ``None``: no share is kept.
        is_hashed: Nothing that tells what was typed may be in it.
        timestamp: ISO 8601 with milliseconds and zone; empty: now.
    """
    theirs = said.get("query_attributes")
    theirs = theirs if isinstance(theirs, dict) and not is_hashed else {}
    own = described(readings[0]) | {"took_ms": round(took_ms, 3)}
    mine = _typed(readings[0], took_ms, theirs, found, budget)
    if is_hashed:
        for of in (own, mine):
            del of["keywords"]
    return {
        "timestamp": timestamp or now(),
        "application": short(said.get("application")) or APPLICATION,
        "query_id": query_id,
        "query_response_id": response_id,
        "client_id": short(said.get("client_id")),
        "user_query": user_query,
        "query": None if is_hashed else found.request or None,
        "query_response_hit_ids": list(found.ids) or None,
        "query_attributes": {**theirs, **own},
        "lrem": {name: value for name, value in mine.items() if value is not None},
    }


def event_record(
    event: Mapping[str, Any], search: Mapping[str, Any] | None = None, *, timestamp: str = ""
) -> dict[str, Any]:
    """Return the document of one event.

    Args:
        event: As the client sent it.
        search: ``lrem`` of the search that it belongs to; ``None``: not known.
        timestamp: In place of none; empty: now.
    """
    of_search = {name: search[name] for name in _OF_SEARCH if search and name in search}
    counted = {"events": 1, "clicks": int(event.get("action_name") == CLICK)}
    return {"timestamp": timestamp or now(), "application": APPLICATION, **event, "lrem": of_search | counted}


def short(value: object) -> str | None:
    """Return a text cut to the mapping's limit; ``None`` for what is none."""
    return value[:100] if isinstance(value, str) and value else None


def now() -> str:
    """Return this moment as the mapping wants it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _typed(
    reading: Reading, took_ms: float, theirs: Mapping[str, Any], found: Found, budget: float | None
) -> dict[str, Any]:
    decision = reading.decision
    numbers = {} if decision is None else {name: getattr(decision, name) for name in ("score", "threshold", "gain")}
    return {
        "route": reading.route,
        "type": short(theirs.get("type")) or phrasing(reading.text),
        "why": "forced" if decision is None else decision.why,
        "keywords": list(reading.keywords),
        "degraded": list(reading.degraded),
        "took_ms": round(took_ms, 3),
        "search_ms": found.search_ms,
        **{f"{name}_ms": round(value, 3) for name, value in reading.timings_ms.items()},
        **{name: value for name, value in numbers.items() if not math.isnan(value)},
        "budget": budget,
        "searches": 1,
        "reasoned": int(reading.route == "reasoned"),
        "cached": int(reading.cached),
        "is_degraded": int(bool(reading.degraded)),
        "zero_results": None if found.hits is None else int(found.hits == 0),
        "hits": found.hits,
        "reasoning_tokens": sum(sample.num_tokens for sample in reading.reasonings),
    }


def _id_of(hit: Mapping[str, Any], id_field: str | None) -> str:
    value = (hit.get("_source") or {}).get(id_field) if id_field else None
    return str(hit["_id"] if value is None else value)
