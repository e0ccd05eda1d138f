from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import SearchSettings
from lrem_os.errors import SearchError
from lrem_os.search.fusion import fuse, fused_answer
from lrem_os.types import Hit, Ranking


def leg(**scores: float) -> Ranking:
    hits = sorted((Hit(doc_id, score) for doc_id, score in scores.items()), key=lambda hit: (-hit.score, hit.doc_id))
    return Ranking(tuple(hits), total=len(hits))


def fused(text: Ranking, vector: Ranking, **search: Any) -> dict[str, float]:
    return {hit.doc_id: hit.score for hit in fuse({"bm25": text, "vector": vector}, SearchSettings(**search))}


def test_minmax_is_worked_out_by_hand() -> None:
    text, vector = leg(a=9.0, b=5.0, c=1.0), leg(b=1.8, d=1.2)
    found = fused(text, vector, weights=(0.6, 0.4))
    assert found == pytest.approx({"a": 0.6, "b": 0.6 * 0.5 + 0.4, "c": 0.6 * 0.001, "d": 0.4 * 0.001})
    assert list(found) == ["b", "a", "c", "d"]


def test_a_leg_whose_scores_are_all_alike_counts_whole() -> None:
    assert fused(leg(a=3.0, b=3.0), leg(c=1.0), weights=(0.7, 0.3)) == pytest.approx({"a": 0.7, "b": 0.7, "c": 0.3})


@pytest.mark.parametrize(("weights", "parts"), [((0.5, 0.5), (1.0, 1.0)), ((0.2, 0.8), (0.2, 0.8))])
def test_rrf_is_worked_out_by_hand(weights: tuple[float, float], parts: tuple[float, float]) -> None:
    found = fused(leg(a=2.0, b=1.0), leg(b=1.5), fusion="rrf", weights=weights, rank_constant=10)
    assert found == pytest.approx({"a": parts[0] / 11, "b": parts[0] / 12 + parts[1] / 11})


def test_equal_scores_are_ordered_by_id() -> None:
    assert list(fused(leg(b=1.0), leg(a=1.0), weights=(0.5, 0.5))) == ["a", "b"]


def test_nothing_found_is_nothing() -> None:
    assert fused(leg(), leg()) == {}
    assert fused(leg(), leg(a=1.0), weights=(0.7, 0.3)) == pytest.approx({"a": 0.3})


SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 50, width=32), max_size=8)


@given(text=SCORES, vector=SCORES, weight=st.floats(0, 1), technique=st.sampled_from(["minmax", "rrf"]))
def test_every_hit_is_there_once_and_in_order(
    text: dict[str, float], vector: dict[str, float], weight: float, technique: Any
) -> None:
    search = SearchSettings(fusion=technique, weights=(weight, 1 - weight))
    hits = fuse({"bm25": leg(**text), "vector": leg(**vector)}, search)
    assert sorted(hit.doc_id for hit in hits) == sorted(text.keys() | vector.keys())
    assert [(-hit.score, hit.doc_id) for hit in hits] == sorted((-hit.score, hit.doc_id) for hit in hits)
    assert all(0 <= hit.score <= 1 + 1e-9 for hit in hits)


def answer(total: int, *hits: tuple[str, float], in_both: int = 0) -> dict[str, Any]:
    rows = [{"_id": doc_id, "_score": score} for doc_id, score in hits]
    found = {"hits": {"total": {"value": total}, "hits": rows}, "took": total, "_shards": {"total": 1, "failed": 0}}
    return found | {"aggregations": {"in_both": {"doc_count": in_both}}}


def test_the_total_counts_what_both_legs_find_once() -> None:
    answers = {"bm25": answer(9, ("a", 2.0), ("b", 1.0)), "vector": answer(5, ("b", 1.5), in_both=3)}
    ranking, legs = fused_answer(answers, SearchSettings())
    assert (ranking.total, ranking.took_ms) == (11, 9)
    assert [hit.doc_id for hit in legs["bm25"].hits] == ["a", "b"]


def test_an_error_in_one_leg_is_an_error() -> None:
    failed = {"error": {"type": "query_shard_exception", "reason": "no such dimension"}, "status": 400}
    with pytest.raises(SearchError, match="no such dimension"):
        fused_answer({"bm25": answer(0), "vector": failed}, SearchSettings())
