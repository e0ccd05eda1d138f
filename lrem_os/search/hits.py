"""Answers of ``_search`` and ``_msearch`` → rankings. Pure.

What looks like an answer but is none is raised: an error inside ``_msearch``, a time-out, failed shards, the delimiter
scores of a hybrid query that ran without its fusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opensearchpy.exceptions import TransportError

from lrem_os.errors import SearchError, SearchTimeout, SearchUnavailable
from lrem_os.search.client import translated
from lrem_os.types import Hit, LegScore, Ranking

_DELIMITER_SCORE = (
    -1e9
)  # neural-search marks where a leg begins with -9549512000 and -4422440400; no real score is near


def parse_response(response: Mapping[str, Any], *, keep_order: bool = False) -> Ranking:
    """Return the ranking in an answer, by score descending, equal scores by id ascending.

    Args:
        response: The JSON of ``_search``, or one of the ``responses`` of ``_msearch``.
        keep_order: Leave the hits as the server ordered them: a leg's ranks are its positions.

    Raises:
        SearchError: The answer holds an error, is incomplete, or is a hybrid answer that was not fused.
    """
    check_response(response)
    block = response["hits"]
    hits = [
        # no score where the query only filters and sorts by id: all are equal
        Hit(doc_id=row["_id"], score=float(row["_score"] or 0.0), source=row.get("_source", {}))
        for row in block["hits"]
    ]
    if any(hit.score < _DELIMITER_SCORE for hit in hits):
        raise SearchError(
            "the hybrid query came back without fusion: its scores are delimiters, not scores",
            hint="something on the cluster removes search_pipeline from the request; neural-search must be installed",
        )
    if not keep_order:
        hits.sort(key=lambda hit: (-hit.score, hit.doc_id))
    total = block.get("total", {}).get("value", len(hits))
    return Ranking(hits=tuple(hits), total=total, took_ms=float(response.get("took", 0)))


def check_response(response: Mapping[str, Any]) -> None:
    """Raise when an answer is an error or incomplete: part of a result must not pass for the whole."""
    if "error" in response:  # one failed search of an _msearch: the others have answers, so nothing was raised yet
        error = response["error"]
        kind = error.get("type", "") if isinstance(error, Mapping) else str(error)
        failed = TransportError(int(response.get("status", 0)), kind, response)
        failed.server = "the cluster"  # type: ignore[attr-defined]  # which of the two, an answer does not say
        raise translated(failed)
    if response.get("timed_out"):
        raise SearchTimeout("the cluster stopped the search before it was done", hint="raise search.timeout_s")
    shards = response.get("_shards", {})
    if shards.get("failed"):
        reasons = [failure.get("reason", {}).get("reason") for failure in shards.get("failures", ())]
        first = next(filter(None, reasons), "no reason given")
        raise SearchUnavailable(f"{shards['failed']} of {shards.get('total', '?')} shards failed: {first}")


def may_tie_beyond(ranking: Ranking, *, requested: int, end: int) -> bool:
    """Return whether hits that did not come may belong among the first ``end``.

    They may when the server had more to give and the hit at ``end`` ties with the last one that came: the server orders
    ties by its own document numbers, so one with a lower id may be among those left out.

    Args:
        ranking: The hits that came, from the first on, ordered.
        requested: The number asked for.
        end: Position of the last hit wanted, from 1.
    """
    hits = ranking.hits
    return len(hits) >= requested >= end and hits[end - 1].score == hits[-1].score


def page_of(ranking: Ranking, *, top_k: int, start: int) -> Ranking:
    """Return the ``top_k`` hits after the first ``start``."""
    return replace(ranking, hits=ranking.hits[start : start + top_k])


def with_legs(ranking: Ranking, legs: Mapping[str, Ranking], *, first_rank: int = 1) -> Ranking:
    """Return the ranking with each hit's rank and score in each leg that found it.

    Args:
        ranking: The final hits.
        legs: Per leg its hits in the server's order, so that rank is position.
        first_rank: Rank of a leg's first hit.
    """
    places = {
        leg: {hit.doc_id: LegScore(rank, hit.score) for rank, hit in enumerate(found.hits, first_rank)}
        for leg, found in legs.items()
    }
    hits = tuple(
        replace(hit, legs={leg: found[hit.doc_id] for leg, found in places.items() if hit.doc_id in found})
        for hit in ranking.hits
    )
    return replace(ranking, hits=hits)
