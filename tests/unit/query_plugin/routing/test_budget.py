from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.query_plugin.routing.budget import FixedBudget, PriceBudget, ShareBudget


def share_reasoned(budget: ShareBudget, scores: list[float]) -> list[bool]:
    decided = []
    for score in scores:
        decided.append(score >= budget.threshold())
        budget.observe(score)
    return decided


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_the_share_is_kept(share: float) -> None:
    rng = random.Random(0)
    decided = share_reasoned(ShareBudget(share, window=500), [rng.random() for _ in range(4000)])
    assert 0.8 * share <= sum(decided[500:]) / 3500 <= 1.05 * share


def test_it_follows_when_the_queries_change() -> None:
    rng = random.Random(0)
    budget = ShareBudget(0.2, window=200)
    share_reasoned(budget, [rng.random() / 2 for _ in range(1000)])
    assert 0.38 < budget.threshold() < 0.42
    decided = share_reasoned(budget, [0.5 + rng.random() / 2 for _ in range(1000)])
    assert 0.88 < budget.threshold() < 0.92
    assert sum(decided[300:]) / 700 < 0.22


def test_the_threshold_stands_still_inside_the_band() -> None:
    rng = random.Random(0)
    scores = [rng.random() for _ in range(3000)]

    def moves(hysteresis: float) -> int:
        budget = ShareBudget(0.3, window=1000, hysteresis=hysteresis)
        seen = []
        for score in scores:
            seen.append(budget.threshold())
            budget.observe(score)
        return sum(one != two for one, two in itertools.pairwise(seen[1000:]))

    assert moves(0.2) < moves(0.0) / 10
    assert moves(0.2) > 0


def test_the_floor_leaves_the_budget_unspent() -> None:
    decided = share_reasoned(ShareBudget(0.5, floor=0.6, window=100), [at / 1000 for at in range(500)])
    assert not any(decided)


def test_it_begins_with_the_reference() -> None:
    reference = [at / 100 for at in range(101)]
    assert ShareBudget(0.2, reference=reference).threshold() == pytest.approx(0.81, abs=0.02)
    assert ShareBudget(0.2, hysteresis=0, reference=reference).threshold() == pytest.approx(0.8, abs=0.02)


def test_without_a_reference_nothing_is_reasoned_about_before_something_is_known() -> None:
    assert ShareBudget(0.3).threshold() > 1.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 50)])
def test_none_and_all(share: float, expected: int) -> None:
    budget = ShareBudget(share, reference=[0.1, 0.5, 0.9])
    assert sum(share_reasoned(budget, [0.9 if at % 2 else 0.2 for at in range(50)])) == expected


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9, 1.0]), min_size=1, max_size=300),
    st.floats(0, 0.99),
    st.integers(10, 100),
)
def test_equal_scores_stay_out_together_rather_than_break_the_budget(
    scores: list[float], share: float, window: int
) -> None:
    budget = ShareBudget(share, window=window)
    for score in scores:
        budget.observe(score)
    recent = scores[-window:]
    assert sum(score >= budget.threshold() for score in recent) <= share * len(recent) + 0.5


@given(st.lists(st.floats(0, 1), max_size=60))
def test_the_same_queries_get_the_same_decisions(scores: list[float]) -> None:
    first, second = (share_reasoned(ShareBudget(0.3, reference=[0.2, 0.4, 0.6]), scores) for _ in range(2))
    assert first == second


def test_a_fixed_threshold_learns_nothing() -> None:
    budget = FixedBudget(0.4)
    budget.observe(0.99)
    assert (budget.threshold(), budget.asks_gain) == (0.4, False)


def test_a_price_asks_for_gain_in_proportion_to_the_time() -> None:
    budget = PriceBudget(0.5, 80.0)
    budget.observe(0.99)
    assert budget.asks_gain
    assert budget.threshold() == pytest.approx(0.04)
