"""The fusion of two legs, for a server that does not do it. Pure.

The same formulas as OpenSearch's processors, so that a ranking does not depend on where it was fused. What is fused is
the best ``search.candidates`` of each leg, over all shards.

Source: OpenSearch documentation, "Normalization processor" and "Score ranker processor"; the floor of 0.001 and the
score of a leg whose scores are all alike are those of neural-search 3.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrem_os.config import SearchSettings
from lrem_os.search.hits import parse_response
from lrem_os.search.requests import IN_BOTH
from lrem_os.types import Hit, Ranking

_FLOOR = 0.001  # of the last hit of a leg, so that it counts for more than one that is not there


def fused_answer(
    answers: Mapping[str, Mapping[str, Any]], search: SearchSettings
) -> tuple[Ranking, dict[str, Ranking]]:
    """Return the whole fused ranking of a query, without fields, and that of each leg.

    Args:
        answers: Per leg the JSON of its search, as ``requests.build_fused_bodies`` asks for it.
        search: Fusion and weights.

    Raises:
        SearchError: An answer holds an error, or is incomplete.
    """
    legs = {leg: parse_response(answer, keep_order=True) for leg, answer in answers.items()}
    in_both = answers["vector"]["aggregations"][IN_BOTH]["doc_count"]
    total = sum(ranking.total for ranking in legs.values()) - in_both
    took_ms = max(ranking.took_ms for ranking in legs.values())
    return Ranking(tuple(fuse(legs, search)), total=total, took_ms=took_ms), legs


def fuse(legs: Mapping[str, Ranking], search: SearchSettings) -> list[Hit]:
    """Return all hits of the legs, by fused score descending, equal scores by id ascending, without their fields.

    RRF: ``sum of w / (rank_constant + rank)``, with ``w = 1`` when the weights are equal. Min-max: ``sum of w x score
    normalised to [0, 1] per leg``, divided by the sum of ``w``.

    Args:
        legs: ``bm25`` and ``vector``, each in its order.
        search: Fusion and weights.
    """
    share = _by_rank(search.rank_constant) if search.fusion == "rrf" else _by_score
    equal = search.fusion == "rrf" and search.weights[0] == search.weights[1]
    weights = dict(zip(("bm25", "vector"), (1.0, 1.0) if equal else search.weights, strict=True))
    total = sum(weights.values()) if search.fusion == "minmax" else 1.0
    scores: dict[str, float] = {}
    for leg, ranking in legs.items():
        for hit, part in zip(ranking.hits, share(ranking.hits), strict=True):
            scores[hit.doc_id] = scores.get(hit.doc_id, 0.0) + weights[leg] * part / total
    return sorted(
        (Hit(doc_id, score, {}) for doc_id, score in scores.items()), key=lambda hit: (-hit.score, hit.doc_id)
    )


def _by_rank(constant: int) -> Callable[[Sequence[Hit]], list[float]]:
    return lambda hits: [1.0 / (constant + rank) for rank in range(1, len(hits) + 1)]


def _by_score(hits: Sequence[Hit]) -> list[float]:
    if not hits:
        return []
    low, high = min(hit.score for hit in hits), max(hit.score for hit in hits)
    if low == high:
        return [1.0] * len(hits)
    return [(hit.score - low) / (high - low) or _FLOOR for hit in hits]
