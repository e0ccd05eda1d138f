from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.robustness.drop import attack_success, changed_routes, drop_rates
from lrem_os.types import Hit, Ranking, Trace

VALUES = st.lists(st.floats(0, 1).map(lambda value: round(value, 3)), min_size=1, max_size=12)


def test_by_hand() -> None:
    clean = np.array([1.0, 0.5, 0.5])  # mean 2/3
    perturbed = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.5]])  # means 1/2, 1/2
    drop = drop_rates(clean, perturbed, resamples=500, seed=0)
    assert drop.clean == pytest.approx(2 / 3)
    assert drop.perturbed == pytest.approx(0.5)
    assert drop.drop_rate == pytest.approx(0.25)
    assert drop.drop_std == pytest.approx(0)
    assert drop.low <= 0.25 <= drop.high
    other = drop_rates(clean, np.array([[1.0, 0.5, 0.5], [0.0, 0.5, 0.5]]), resamples=500, seed=0)
    assert other.drop_rate == pytest.approx(0.25)  # seeds drop 0 and 1/2
    assert other.drop_std == pytest.approx(0.5 / math.sqrt(2))


def test_one_seed_has_no_spread_and_nothing_to_lose_has_no_rate() -> None:
    assert math.isnan(drop_rates(np.array([1.0]), np.array([[0.5]]), resamples=100, seed=0).drop_std)
    nothing = drop_rates(np.zeros(3), np.ones((2, 3)), resamples=100, seed=0)
    assert nothing.clean == 0
    assert nothing.perturbed == 1
    assert all(map(math.isnan, (nothing.drop_rate, nothing.drop_std, nothing.low, nothing.high)))


@given(VALUES, st.integers(1, 4), st.integers(0, 99))
def test_what_is_not_perturbed_loses_nothing(clean: list[float], seeds: int, seed: int) -> None:
    values = np.array(clean)
    drop = drop_rates(values, np.tile(values, (seeds, 1)), resamples=100, seed=seed)
    if values.mean() > 0:
        assert drop.drop_rate == pytest.approx(0, abs=1e-9)
        assert (drop.low, drop.high) == pytest.approx((0, 0), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_neither_the_order_of_the_queries_nor_of_the_seeds_matters(rows: list[tuple[float, float, float]]) -> None:
    first = np.array(rows)
    shuffled = np.array(sorted(rows))[:, [0, 2, 1]]
    one = drop_rates(first[:, 0], first[:, 1:].T, resamples=100, seed=1)
    two = drop_rates(shuffled[:, 0], shuffled[:, 1:].T, resamples=100, seed=1)
    assert one.drop_rate == pytest.approx(two.drop_rate, abs=1e-9)
    assert one.drop_std == pytest.approx(two.drop_std, abs=1e-9)
    assert one.drop_rate == pytest.approx((one.clean - one.perturbed) / one.clean, abs=1e-9)


def test_the_interval_covers_the_true_rate_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        clean = rng.uniform(0, 1, 80)
        perturbed = np.stack([clean * rng.uniform(0.4, 1.0, 80) for _ in range(3)])  # a true drop of 0.3
        drop = drop_rates(clean, perturbed, resamples=300, seed=trial)
        covered += drop.low <= 0.3 <= drop.high
    assert 175 <= covered <= 200


def ranking(route: str | None, *ids: str) -> Ranking:
    hits = tuple(Hit(doc_id, 1.0 / rank) for rank, doc_id in enumerate(ids, 1))
    return Ranking(hits, trace=None if route is None else Trace(route=route))


def test_routes_are_compared_where_both_are_known() -> None:
    clean = {
        "a": ranking("direct"),
        "b": ranking("reasoned"),
        "c": ranking(""),
        "d": ranking(None),
        "e": ranking("direct"),
    }
    perturbed = {"a": ranking("reasoned"), "b": ranking("reasoned"), "c": ranking("direct"), "d": ranking("direct")}
    assert changed_routes(clean, perturbed) == (1, 2)


def test_an_attack_succeeds_from_its_rank_on() -> None:
    run = {
        "q1": ranking(None, "x", "p1"),
        "q2": ranking(None, *"abcdef", "p2"),
        "q3": ranking(None, "a"),
        "q4": ranking(None),
    }
    assert attack_success(run, {"p1", "p2"}, (1, 2, 5, 10)) == {"@1": 0.0, "@2": 0.25, "@5": 0.25, "@10": 0.5}
    assert math.isnan(attack_success({}, {"p"}, (5,))["@5"])
