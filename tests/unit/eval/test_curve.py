from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import RunError
from lrem_os.eval.curve import SHARES, cost_quality_curve, curve_of_runs

DIRECT = [0.2, 0.8, 0.5, 0.5]
REASONED = [0.8, 0.4, 0.5, 0.7]  # gains .6, -.4, 0, .2: mean .5 → .6


def curve(scores: list[float], lengths: list[float], **options: Any) -> dict[str, Any]:
    return cost_quality_curve("ndcg@10", DIRECT, REASONED, scores, lengths, **{"resamples": 50, **options})


def means(found: dict[str, Any], policy: str, *shares: float) -> list[float]:
    points = {round(point["share"], 2): point["mean"] for point in found["points"][policy]}
    return [points[share] for share in shares]


def test_by_hand() -> None:
    found = curve([0.9, 0.1, 0.3, 0.8], [1, 9, 2, 3])
    # router: q1, q4, q3, q2 → cumulated gains / 4: .15, .2, .2, .1
    assert means(found, "router", 0, 0.25, 0.5, 0.75, 1) == pytest.approx([0.5, 0.65, 0.7, 0.7, 0.6])
    # between two queries the line is straight: 10 % of four queries is 0.4 of the first
    assert means(found, "router", 0.1) == pytest.approx([0.5 + 0.4 * 0.15])
    # length: q2, q4, q3, q1 → -.1, -.05, -.05, .1
    assert means(found, "length", 0.25, 0.5, 0.75, 1) == pytest.approx([0.4, 0.45, 0.45, 0.6])
    assert means(found, "random", 0, 0.3, 1) == pytest.approx([0.5, 0.53, 0.6])
    # the oracle: q1, q4, and then it stops
    assert means(found, "oracle", 0.25, 0.5, 0.75, 1) == pytest.approx([0.65, 0.7, 0.7, 0.7])
    assert (found["direct"], found["reasoned"]) == pytest.approx((0.5, 0.6))
    # areas over the direct mean, by trapezoids of width 1/4: oracle (.075 + .175 + .2 + .2) / 4
    oracle, router, length = 0.1625, (0.075 + 0.175 + 0.2 + 0.15) / 4, (-0.05 - 0.075 - 0.05 + 0.025) / 4
    assert found["area"] == pytest.approx(
        {"router": router / oracle, "random": 0.05 / oracle, "length": length / oracle, "oracle": 1.0}
    )
    assert [point["share"] for point in found["points"]["router"]] == list(SHARES)


def test_queries_of_equal_score_share_what_they_are_given() -> None:
    found = curve([0.5, 0.5, 0.1, 0.1], [1, 1, 1, 1])
    assert means(found, "router", 0.25, 0.5, 0.75, 1) == pytest.approx([0.525, 0.55, 0.575, 0.6])
    assert means(found, "length", *(0.25, 0.5)) == pytest.approx(means(found, "random", 0.25, 0.5))


def test_rules_are_infinite_scores() -> None:
    found = curve([0.5, math.inf, 0.4, -math.inf], [1, 1, 1, 1])
    assert means(found, "router", 0.25, 0.5, 0.75, 1) == pytest.approx([0.4, 0.55, 0.55, 0.6])


def test_the_band_holds_the_curve_and_shrinks_with_more_queries() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for num in (40, 640):
        direct = rng.uniform(size=num)
        reasoned = direct + rng.normal(0.05, 0.2, size=num)
        found = cost_quality_curve("ndcg@10", direct, reasoned, rng.uniform(size=num), np.ones(num), resamples=300)
        for point in found["points"]["router"]:
            assert point["low"] <= point["mean"] <= point["high"]
        widths.append(found["points"]["router"][10]["high"] - found["points"]["router"][10]["low"])
        low, high = found["area_interval"]["router"]
        assert low <= found["area"]["router"] <= high
    assert widths[1] < widths[0] / 2  # four times as narrow, but for chance


def test_the_same_seed_gives_the_same_band() -> None:
    scores, lengths = [0.9, 0.1, 0.3, 0.8], [1.0, 9.0, 2.0, 3.0]
    assert curve(scores, lengths, seed=3) == curve(scores, lengths, seed=3)
    assert curve(scores, lengths, seed=3)["points"]["router"] != curve(scores, lengths, seed=4)["points"]["router"]


def test_where_nothing_gains_there_is_no_area() -> None:
    found = cost_quality_curve("ndcg@10", [0.5, 0.5], [0.5, 0.2], [0.1, 0.2], [1, 2], resamples=20)
    assert set(found["area"].values()) == {None}
    assert found["area_interval"] == {"router": None}
    assert means(found, "oracle", 1) == [0.5]


VALUES = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 9)), min_size=1, max_size=25
)


@given(VALUES, st.randoms())
def test_ends_oracle_and_order(rows: list[tuple[float, float, float, int]], random) -> None:  # type: ignore[no-untyped-def]
    def of(some: list[tuple[float, float, float, int]]) -> dict[str, Any]:
        direct, reasoned, scores, lengths = (list(column) for column in zip(*some, strict=True))
        return cost_quality_curve("m", direct, reasoned, scores, lengths, resamples=5)

    found = of(rows)
    for policy in ("router", "random", "length"):
        start, end = means(found, policy, 0, 1)
        assert start == pytest.approx(found["direct"], abs=1e-9)
        assert end == pytest.approx(found["reasoned"], abs=1e-9)
        for one, best in zip(found["points"][policy], found["points"]["oracle"], strict=True):
            assert one["mean"] <= best["mean"] + 1e-9
    shuffled = list(rows)
    random.shuffle(shuffled)
    for policy in ("router", "random", "length", "oracle"):
        again = of(shuffled)["points"][policy]
        assert [one["mean"] for one in again] == pytest.approx([one["mean"] for one in found["points"][policy]])


@pytest.mark.parametrize(
    ("direct", "reasoned", "scores", "message"),
    [
        ([], [], [], "no query with ndcg@10"),
        ([0.1, 0.2], [0.1], [0.1, 0.2], "one a query"),
        ([0.1], [0.1], [0.1, 0.2], "one a query"),
        ([math.nan], [0.1], [0.1], "not a number"),
        ([0.1], [math.inf], [0.1], "not a number"),
        ([0.1], [0.1], [math.nan], "not a number"),
    ],
)
def test_what_is_no_curve_is_refused(
    direct: list[float], reasoned: list[float], scores: list[float], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        cost_quality_curve("ndcg@10", direct, reasoned, scores, scores)


def test_of_runs_takes_the_queries_that_all_know() -> None:
    direct = {"a": {"m@1": 0.2}, "b": {"m@1": 0.8}, "c": {"m@1": 0.5}, "d": {"m@1": 0.5}, "e": {}}
    reasoned = {"a": {"m@1": 0.8}, "b": {"m@1": 0.4}, "d": {"m@1": 0.7}, "e": {"m@1": 1.0}}
    texts = dict.fromkeys("abcde", "two words")
    found = curve_of_runs("m@1", direct, reasoned, {"a": 0.1, "b": 0.9, "d": math.nan}, texts, resamples=5, seed=0)
    assert found["num_queries"] == 2
    assert (found["direct"], found["reasoned"]) == pytest.approx((0.5, 0.6))
    assert means(found, "router", 0.5) == pytest.approx([0.3])
    with pytest.raises(RunError, match="no query has m@1 in both runs and a router score"):
        curve_of_runs("m@1", direct, reasoned, {"e": 0.1}, texts, resamples=5, seed=0)
