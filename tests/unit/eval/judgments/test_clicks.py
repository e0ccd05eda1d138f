from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clicks.compare import compare
from benchmarks.clicks.simulate import Shop, Users, simulate
from lrem_os.errors import InputError
from lrem_os.eval.judgments.clicks import (
    METHODS,
    ClickCounts,
    check_thresholds,
    examination,
    grade_score,
    position_rates,
    score_clicks,
    wilson,
)


def counts(*rows: tuple[str, str, int, int, int]) -> ClickCounts:
    pairs = list(dict.fromkeys((query, doc) for query, doc, *_ in rows))
    return ClickCounts(
        tuple(pairs),
        np.array([pairs.index((query, doc)) for query, doc, *_ in rows]),
        np.array([row[2] for row in rows]),
        np.array([float(row[3]) for row in rows]),
        np.array([float(row[4]) for row in rows]),
    )


# position 1: 30 clicks in 100; position 2: 10 in 100
BY_HAND = counts(("q", "a", 1, 60, 24), ("q", "b", 1, 40, 6), ("q", "a", 2, 40, 4), ("q", "b", 2, 60, 6))


def test_click_rate_by_hand() -> None:
    a, b = score_clicks(BY_HAND, "ctr")
    assert (a.query_id, a.doc_id, a.score, a.clicks, a.impressions) == ("q", "a", 0.28, 28, 100)
    assert (b.score, b.low, b.high) == (0.12, *wilson(12, 100))


def test_coec_by_hand() -> None:
    assert position_rates(BY_HAND).tolist() == [0.0, 0.3, 0.1]
    a, b = score_clicks(BY_HAND, "coec")
    # expected: a 60 × 0.3 + 40 × 0.1 = 22, b 40 × 0.3 + 60 × 0.1 = 18
    assert a.score == pytest.approx(28 / 22)
    assert b.score == pytest.approx(12 / 18)
    low, high = wilson(28, 100)
    assert (a.low, a.high) == pytest.approx((low * 100 / 22, high * 100 / 22))


def test_expected_clicks_add_up_to_the_clicks() -> None:
    log, _ = simulate(Shop("position", num_queries=20, num_searches=50))
    expected = log.impressions * position_rates(log)[log.position]
    assert expected.sum() == pytest.approx(log.clicks.sum())


def test_em_finds_how_often_positions_are_looked_at_where_they_mix() -> None:
    log, _ = simulate(Shop("position", skill=2.0, shuffle=1.0, num_queries=100))
    assert examination(log)[1:] == pytest.approx(1 / np.arange(1, 11), abs=0.03)
    assert position_rates(log)[5] / position_rates(log)[1] < 0.1  # 0.2 is looked at: the rest is the ranker's doing


def test_em_has_an_exact_answer_where_the_model_holds_exactly() -> None:
    looked, liked = (1.0, 0.5), (0.4, 0.2)
    rows = [
        ("q", f"d{doc}", place + 1, 1000, round(1000 * seen * likes))
        for doc, likes in enumerate(liked)
        for place, seen in enumerate(looked)
    ]
    assert examination(counts(*rows)) == pytest.approx([0, 1, 0.5], abs=1e-3)
    scores = [score.score for score in score_clicks(counts(*rows), "pbm")]
    assert scores[0] / scores[1] == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_a_log_without_clicks_is_refused(method: str) -> None:
    with pytest.raises(InputError, match="the log has no click"):
        score_clicks(counts(("q", "a", 1, 10, 0)), method)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "scored"), [("coec", ["a"]), ("pbm", ["a", "b"]), ("ctr", ["a", "b"])])
def test_a_position_without_a_click_says_nothing(method: str, scored: list[str]) -> None:
    scores = score_clicks(counts(("q", "a", 1, 10, 5), ("q", "b", 9, 10, 0)), method)  # type: ignore[arg-type]
    assert [score.doc_id for score in scores] == scored
    assert all(math.isfinite(value) for score in scores for value in (score.score, score.low, score.high))


@given(st.integers(1, 10_000).flatmap(lambda shown: st.tuples(st.just(shown), st.integers(0, shown))))
def test_wilson_holds_the_rate_and_stays_a_rate(pair: tuple[int, int]) -> None:
    shown, clicked = pair
    low, high = wilson(clicked, shown)
    assert 0 <= low <= clicked / shown + 1e-12
    assert clicked / shown - 1e-12 <= high <= 1


def test_thresholds() -> None:
    assert [grade_score(score, (0.5, 1.0, 2.0)) for score in (0.0, 0.5, 0.99, 1.0, 2.5)] == [0, 1, 1, 2, 3]
    for wrong in ((), (0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (math.nan,), (math.inf,)):
        with pytest.raises(InputError, match="the thresholds are"):
            check_thresholds(wrong)


@pytest.mark.parametrize("users", ["position", "cascade"])
def test_coec_and_the_model_order_better_than_the_click_rate_where_the_ranker_errs(users: Users) -> None:
    row = compare(Shop(users, skill=0.3, shuffle=0.3, num_queries=120, num_searches=300), resamples=1000)
    assert row["coec - ctr"]["low"] > 0
    assert row["pbm - ctr"]["low"] > 0
    assert row["coec"]["mean"] > 0.65


@pytest.mark.parametrize("users", ["position", "cascade"])
def test_coec_punishes_what_a_good_ranker_puts_first(users: Users) -> None:
    """What docs/judgments.md warns of: a good ranker's positions hold relevance, and COEC divides by it."""
    row = compare(Shop(users, skill=2.5, shuffle=0.3, num_queries=60, num_searches=200), resamples=500)
    assert row["coec - ctr"]["high"] < 0
    assert row["pbm"]["low"] > row["coec"]["high"]
