from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import IndexMissing, RequestRejected, SearchError, SearchRejected, SearchTimeout, SearchUnavailable
from lrem_os.search.hits import may_tie_beyond, page_of, parse_response, with_legs
from lrem_os.types import Hit, LegScore, Ranking


def answer(*scored: tuple[str, float | None], **more: Any) -> dict[str, Any]:
    rows = [{"_id": doc_id, "_score": score, "_source": {"title": doc_id}} for doc_id, score in scored]
    shards = {"total": 1, "successful": 1, "failed": 0}
    hits = {"total": {"value": 40, "relation": "eq"}, "hits": rows}
    return {"took": 3, "timed_out": False, "_shards": shards, "hits": hits} | more


def ids(ranking: Ranking) -> list[str]:
    return [hit.doc_id for hit in ranking.hits]


def test_an_answer_becomes_a_ranking() -> None:
    ranking = parse_response(answer(("a", 2.0), ("b", 1.5)))
    assert ranking.hits == (Hit("a", 2.0, {"title": "a"}), Hit("b", 1.5, {"title": "b"}))
    assert (ranking.total, ranking.took_ms) == (40, 3.0)


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from([0.0, 0.5, 1.0])), unique_by=lambda pair: pair[0]))
def test_order_is_total_whatever_the_server_did(scored: list[tuple[str, float]]) -> None:
    forward, backward = parse_response(answer(*scored)), parse_response(answer(*reversed(scored)))
    assert forward == backward
    assert [(-hit.score, hit.doc_id) for hit in forward.hits] == sorted((-score, doc_id) for doc_id, score in scored)


def test_a_leg_keeps_the_servers_order() -> None:
    assert ids(parse_response(answer(("b", 1.0), ("a", 1.0)), keep_order=True)) == ["b", "a"]


def test_browsing_has_no_scores() -> None:
    assert parse_response(answer(("a", None), ("b", None))).hits[0].score == 0.0


@pytest.mark.parametrize("score", [-9549512000.0, -4422440400.0])
def test_delimiter_scores_are_an_error(score: float) -> None:
    with pytest.raises(SearchError, match="without fusion"):
        parse_response(answer(("a", score), ("b", 1.0)))


def test_partial_answers_are_errors() -> None:
    with pytest.raises(SearchTimeout):
        parse_response(answer(("a", 1.0), timed_out=True))
    failures = [{"reason": {"type": "x", "reason": "circuit breaker"}}]
    with pytest.raises(SearchUnavailable, match="1 of 3 shards failed: circuit breaker"):
        parse_response(answer(("a", 1.0), _shards={"total": 3, "failed": 1, "failures": failures}))


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (404, "index_not_found_exception", IndexMissing),
        (400, "query_shard_exception", RequestRejected),
        (429, "circuit_breaking_exception", SearchRejected),
        (503, "search_phase_execution_exception", SearchUnavailable),
    ],
)
def test_an_error_inside_msearch_is_raised(status: int, kind: str, expected: type[SearchError]) -> None:
    cause = {"type": "illegal_argument_exception", "reason": "the reason"}
    with pytest.raises(expected, match="the reason"):
        parse_response({"status": status, "error": {"type": kind, "reason": "phase failed", "caused_by": cause}})


def ranking_of(*scores: float) -> Ranking:
    return Ranking(tuple(Hit(f"d{idx}", score) for idx, score in enumerate(scores)))


@pytest.mark.parametrize(
    ("scores", "requested", "end", "expected"),
    [
        ((3, 2, 2, 2), 4, 2, True),  # the tie reaches the last hit that came
        ((3, 2, 2, 1), 4, 2, False),  # the tie ends before
        ((3, 2, 2, 2), 5, 2, False),  # the server had no more
        ((3, 2, 2, 2), 4, 4, True),
        ((3,), 4, 2, False),
        ((), 4, 2, False),
    ],
)
def test_may_tie_beyond(scores: tuple[float, ...], requested: int, end: int, expected: bool) -> None:
    assert may_tie_beyond(ranking_of(*scores), requested=requested, end=end) is expected


def test_page_of_cuts() -> None:
    ranking = ranking_of(5, 4, 3, 2, 1)
    assert ids(page_of(ranking, top_k=2, start=2)) == ["d2", "d3"]
    assert ids(page_of(ranking, top_k=2, start=9)) == []


def test_legs_are_joined_by_id() -> None:
    final = Ranking((Hit("a", 0.9), Hit("b", 0.5)))
    legs = {"bm25": Ranking((Hit("x", 9.0), Hit("a", 7.0))), "vector": Ranking((Hit("a", 1.8), Hit("b", 1.2)))}
    explained = with_legs(final, legs)
    assert explained.hits[0].legs == {"bm25": LegScore(2, 7.0), "vector": LegScore(1, 1.8)}
    assert explained.hits[1].legs == {"vector": LegScore(2, 1.2)}
    assert with_legs(final, {"bm25": final}, first_rank=11).hits[1].legs == {"bm25": LegScore(12, 0.5)}
