"""Tries out what was registered, as searches and ingest use it: through ML Commons, with real texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
from opensearchpy import exceptions

from lrem_os.errors import LremError, SearchError
from lrem_os.search.client import error_reason, translated
from lrem_os.search.ml_commons.bodies import Wanted
from lrem_os.search.ml_commons.cluster import ML, Cluster
from lrem_os.search.ml_commons.found import Found, look
from lrem_os.search.ml_commons.register import register

_TEXT = "red leather bag"
_FROM_SERVICE = "Error from remote service: "
_HINTS = {  # part of what ML Commons says → what to do
    "private ip address": "`lrem-os connect --allow`; if that was done: `lrem-os connect --remove`, then connect again,"
    " because a model keeps the settings of the time when it was deployed",
    "Error communicating with remote model": "is `lrem-os serve` running, and does connect.url lead there from the"
    " cluster's nodes? serve.host decides who may reach it",
    "Read timed out": "the service is too slow, or something else listens there: look at its /metrics and its log",
    "API key": "set connect.api_key to one of serve.api_keys (LREM_OS__CONNECT__API_KEY) and run `lrem-os connect`",
    "Circuit Breaker": "the node is short of memory or disk: plugins.ml_commons.native_memory_threshold,"
    " plugins.ml_commons.jvm_heap_memory_threshold and plugins.ml_commons.disk_free_space_threshold are its limits",
    "trusted connector": "`lrem-os connect --allow`",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        name: What was tried.
        status: Whether it works.
        message: One line.
        hint: What to do about it; empty when there is nothing to do.
    """

    name: str
    status: Literal["ok", "fail"]
    message: str
    hint: str = ""


def check(cluster: Cluster, wanted: Wanted) -> Iterator[Finding]:
    """Yield what works and what does not; what cannot work without a thing that failed is not tried."""
    rehearsal = replace(cluster, is_rehearsal=True, changes=[])
    registered = _attempt("registered", lambda: _registered(rehearsal, wanted))
    yield registered
    found = look(cluster, wanted.name)
    model_id = found.model_id
    if model_id is None:
        return
    for kind in ("query", "passage"):
        tried = _attempt(kind, lambda kind=kind: _embedded(cluster, wanted, str(model_id), kind))  # type: ignore[misc]
        yield tried
        if tried.status == "fail":
            return
    if found.search_pipeline is not None:
        yield _attempt("search", lambda: _searched(cluster, wanted))
    if found.ingest_pipeline is not None:
        yield _attempt("ingest", lambda: _ingested(cluster, wanted, found))


def _attempt(name: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", find())
    except LremError as exc:
        return Finding(name, "fail", str(exc), exc.hint or "")


def _registered(rehearsal: Cluster, wanted: Wanted) -> str:
    steps = register(rehearsal, wanted)
    if rehearsal.changes:
        differing = ", ".join(dict.fromkeys(step.what for step in steps if step.action != "unchanged"))
        raise SearchError(
            f"not as configured: {differing}", hint="`lrem-os connect` (--dry-run shows what it would do)"
        )
    return f"{len(steps)} objects are as configured, for {wanted.endpoint}"


def _embedded(cluster: Cluster, wanted: Wanted, model_id: str, kind: str) -> str:
    parameters = {"texts": orjson.dumps([_TEXT]).decode(), "content_type": kind}
    answer = _ask(cluster, f"{ML}/models/{model_id}/_predict", {"parameters": parameters})
    try:
        vector = answer["inference_results"][0]["output"][0]["data"]
        length = math.sqrt(sum(float(value) ** 2 for value in vector))
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise SearchError(
            f"the answer of {wanted.endpoint} holds no vector: {str(answer)[:200]}", hint="is it a lrem-os service?"
        ) from exc
    _check_dimension(len(vector), wanted)
    return f"a vector of {len(vector)} numbers, length {length:.3f}"


def _check_dimension(length: int, wanted: Wanted) -> None:
    if length != wanted.dimension:
        raise SearchError(
            f"the service gives vectors of {length} numbers, index {wanted.index!r} has {wanted.dimension}",
            hint="serve with the model that the index was made with, or load the catalog again with the other one",
        )


def _searched(cluster: Cluster, wanted: Wanted) -> str:
    ours = {"neural": {wanted.vector_field: {"query_text": _TEXT, "k": 5}}}
    counts = []
    for query in (ours, {"hybrid": {"queries": [{"match_all": {}}, ours]}}):
        body = {"size": 5, "_source": False, "query": query}
        answer = _ask(cluster, f"/{wanted.index}/_search?search_pipeline={wanted.name}", body)
        hits = answer["hits"]["hits"]
        if any(float(hit["_score"]) < 0 for hit in hits):
            raise SearchError("hybrid queries are not fused", hint="`lrem-os connect` makes the search pipeline anew")
        counts.append(len(hits))
    return f"neural {counts[0]} hits, hybrid {counts[1]} hits"


def _ingested(cluster: Cluster, wanted: Wanted, found: Found) -> str:
    document = {"_index": wanted.index, "_source": {str(found.ingest_field): _TEXT}}
    answer = _ask(cluster, f"/_ingest/pipeline/{wanted.name}/_simulate", {"docs": [document]})
    [done] = answer["docs"]
    if "error" in done:
        raise _explained(error_reason(done))
    vector = done["doc"]["_source"].get(wanted.vector_field) or []
    _check_dimension(len(vector), wanted)
    return f"{found.ingest_field} becomes a vector of {len(vector)} numbers in {wanted.vector_field}"


def _ask(cluster: Cluster, path: str, body: Mapping[str, Any]) -> Any:
    """Return the answer to a request that makes the cluster ask the service.

    Raises:
        LremError: It failed; the hint says what to do where the cause is known.
    """
    try:
        return cluster.send("POST", path, body)
    except exceptions.ConnectionError as exc:  # ours to the cluster: translated as everywhere
        raise translated(exc) from exc
    except exceptions.TransportError as exc:
        # not translated by status: a 401 or 503 of the service comes through as the cluster's
        raise _explained(error_reason(exc.info) or str(exc.error), exc.status_code) from exc


def _explained(reason: str, status: object = None) -> SearchError:
    hint = next((hint for part, hint in _HINTS.items() if part in reason), None)
    if _FROM_SERVICE in reason:
        told = reason.split(_FROM_SERVICE, 1)[1]
        return SearchError(f"the service answered {status or 'with an error'}: {told[:300]}", hint=hint)
    return SearchError(f"the cluster answered {status or 'with an error'}: {reason[:400]}", hint=hint)
