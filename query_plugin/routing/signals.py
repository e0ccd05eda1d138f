"""The probe of a query: both legs asked by themselves, in one ``_msearch``. Pure: bodies out, answers in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrem_os.search.hits import parse_response
from lrem_os.search.requests import SearchSetup, knn_query, text_query

PROBE_DEPTH = 20
"""Hits of each leg that a probe asks for; the features are made for this depth."""


@dataclass(frozen=True, slots=True)
class Leg:
    """The hits of one leg, best first.

    Args:
        ids: At most ``PROBE_DEPTH`` of them.
        scores: As OpenSearch gives them: BM25, or for the vector leg ``1 + cosine`` (below 0: ``1 / (1 - cosine)``).
    """

    ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Signals:
    """What a probe found.

    Args:
        bm25: The text leg, without keywords.
        vector: The vector leg, of the direct vector.
    """

    bm25: Leg = Leg()
    vector: Leg = Leg()


def probe_bodies(setup: SearchSetup, text: str, vector: Sequence[float]) -> list[dict[str, Any]]:
    """Return the two searches of a probe, for ``parse_probe`` in this order: ids and scores alone.

    Args:
        setup: Fields, and the filter that the query's hits must pass.
        text: As typed.
        vector: Its direct unit vector, length D.
    """
    shallow = replace(setup, search=setup.search.model_copy(update={"candidates": PROBE_DEPTH}))
    return [
        {"size": PROBE_DEPTH, "_source": False, "track_total_hits": False, "query": query}
        for query in (text_query(shallow, text), knn_query(shallow, vector))
    ]


def parse_probe(responses: Sequence[Mapping[str, Any]], *, bm25_scale: float = 1.0) -> Signals:
    """Return what the two searches found.

    Args:
        responses: Of ``probe_bodies``, in that order.
        bm25_scale: What the server's BM25 scores are multiplied by, see ``search/dialect.py``.

    Raises:
        SearchError: One of them failed.
    """
    bm25, vector = (_leg(response) for response in responses)
    return Signals(Leg(bm25.ids, tuple(bm25_scale * score for score in bm25.scores)), vector)


def _leg(response: Mapping[str, Any]) -> Leg:
    hits = parse_response(response).hits[:PROBE_DEPTH]
    return Leg(tuple(hit.doc_id for hit in hits), tuple(hit.score for hit in hits))
