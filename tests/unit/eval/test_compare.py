from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrem_os.eval.compare import (
    ALPHA,
    compare,
    effect_size,
    holm,
    minimum_detectable,
    movers,
    randomisation_p,
    t_p,
)
from lrem_os.eval.intervals import Floats
from lrem_os.eval.result import Mover

VALUES = st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.1, 1 / 3, 0.5, 1.0])


def column(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)[:, None]


def p_of(values: Floats, permutations: int = 10_000, seed: int = 0) -> float:
    return float(randomisation_p(values, permutations=permutations, seed=seed)[0])


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.5, 0.5, 0.5), 2 / 8),  # all plus or all minus
        ((0.5, 0.5, -0.5), 1.0),  # every pattern is as far from 0
        ((0.1, 0.2, 0.3), 2 / 8),  # 0.1 + 0.2 is not 0.3 in floating point, and nothing here may depend on it
        ((0.1, 0.2, -0.3), 1.0),
        ((0.3, 0.2, -0.1), 4 / 8),  # |0.4|: ++-, +++ and their mirror images
        ((1.0, 0.0, 0.0), 1.0),
        ((0.0, 0.0), 1.0),
        ((0.25,), 1.0),
    ],
)
def test_exact_p_by_hand(differences: tuple[float, ...], expected: float) -> None:
    assert p_of(column(*differences)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=9))
def test_exact_p_is_the_share_of_all_patterns(differences: list[float]) -> None:
    observed = abs(math.fsum(differences)) - 1e-9
    sums = [
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    assert p_of(column(*differences)) == pytest.approx(sum(one >= observed for one in sums) / len(sums))


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30), st.randoms())
def test_the_order_of_queries_and_which_run_is_first_are_irrelevant(differences: list[float], rng) -> None:
    shuffled = differences[:]
    rng.shuffle(shuffled)
    (one,), (again,), (mirrored,) = (
        compare(column(*values), less_is_better=[less], test="t")
        for values, less in ((differences, False), (shuffled, False), ([-d for d in differences], True))
    )
    assert (one.wins, one.ties, one.losses) == (again.wins, again.ties, again.losses)
    assert (one.wins, one.ties, one.losses) == (mirrored.wins, mirrored.ties, mirrored.losses)
    assert one.p_value == pytest.approx(again.p_value)
    assert one.p_value == pytest.approx(mirrored.p_value)
    if len(differences) <= 13:
        assert p_of(column(*differences)) == p_of(column(*shuffled)) == p_of(-column(*differences))


def test_drawn_p_is_close_to_the_exact_one_and_to_the_t_test() -> None:
    rng = np.random.default_rng(4)
    few = rng.normal(0.15, 0.3, size=(13, 1))
    exact = p_of(few)
    drawn = p_of(few, permutations=8000)  # 2 ** 13 patterns are more than that: they are drawn
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 8000))
    many = rng.normal(0.04, 0.3, size=(200, 3))
    assert randomisation_p(many, permutations=20_000, seed=1) == pytest.approx(t_p(many), abs=0.02)


def test_drawn_p_is_seeded_and_never_0() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, size=(60, 1))
    assert p_of(values, permutations=2000) == 1 / 2001
    close = rng.normal(0.02, 0.1, size=(60, 1))
    assert p_of(close, seed=3) == p_of(close, seed=3)
    assert p_of(close, seed=3) != p_of(close, seed=4)


def test_a_column_has_the_p_it_has_alone() -> None:
    values = np.random.default_rng(2).normal(0.05, 0.2, size=(40, 3))
    values[5:, 1] = 0.0  # few differences: exact
    together = randomisation_p(values, permutations=3000, seed=0)
    assert together[1] == p_of(values[:, [1]], permutations=3000)
    for at in (0, 2):
        assert together[at] == pytest.approx(p_of(values[:, [at]], permutations=3000), abs=0.05)


def test_under_the_null_hypothesis_p_is_small_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(9)
    # skewed values, most of them 0, as measures have: two runs that answer by the same chance
    pairs = rng.choice([0.0, 0.0, 0.0, 0.3, 1.0], size=(2, 40, 400))
    found = randomisation_p(pairs[0] - pairs[1], permutations=1000, seed=0)
    assert (found <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert (found <= 0.05).mean() >= 0.01


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5])
def test_t_is_scipys(shift: float) -> None:
    values = np.random.default_rng(3).normal(shift, 0.3, size=(25, 2))
    assert t_p(values) == pytest.approx([stats.ttest_1samp(values[:, at], 0.0).pvalue for at in range(2)])


def test_t_of_differences_that_do_not_vary() -> None:
    assert t_p(column(0.0, 0.0, 0.0)).tolist() == [1.0]
    assert t_p(column(0.1, 0.1, 0.1)).tolist() == [0.0]
    assert t_p(column(0.7)).tolist() == [1.0]


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1, none below the one before
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.02])).tolist() == [0.02]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    found = holm(np.array(p_values))
    assert (found >= np.array(p_values)).all()
    assert (found <= np.minimum(1.0, np.array(p_values) * len(p_values)) + 1e-12).all()
    for at, other in itertools.combinations(range(len(p_values)), 2):
        if p_values[at] < p_values[other]:
            assert found[at] <= found[other]


def test_effect_size_by_hand() -> None:
    assert effect_size(np.array([0.1, 0.3])) == pytest.approx(0.2 / math.sqrt(0.02))
    assert math.isnan(effect_size(np.array([0.1, 0.1, 0.1])))
    assert math.isnan(effect_size(np.array([0.4])))


@pytest.mark.parametrize("num", [8, 25, 200])
def test_what_is_detectable_is_found_four_times_in_five(num: int) -> None:
    differences = np.random.default_rng(num).normal(0.0, 0.25, size=num)
    detectable = minimum_detectable(differences, comparisons=3)
    shift = detectable / (differences.std(ddof=1) / math.sqrt(num))  # the power of the t-test, by the noncentral t
    bound = stats.t.isf(ALPHA / 3 / 2, num - 1)
    assert stats.nct.sf(bound, num - 1, shift) == pytest.approx(0.8, abs=0.03)


def test_more_queries_and_fewer_comparisons_detect_less() -> None:
    values = np.random.default_rng(1).normal(0.0, 0.2, size=400)
    assert (
        minimum_detectable(values) < minimum_detectable(values[:100]) < minimum_detectable(values[:100], comparisons=9)
    )
    assert math.isnan(minimum_detectable(np.array([0.3])))


def test_underpowered_means_nothing_shown_and_much_could_be_missed() -> None:
    rng = np.random.default_rng(0)
    noisy, sharp, large = rng.normal(0, 0.3, 50), rng.normal(0, 0.01, 50), rng.normal(0.5, 0.3, 50)
    found = compare(np.column_stack([noisy, sharp, large]), less_is_better=[False] * 3, relevant_difference=0.02)
    assert [one.underpowered for one in found] == [True, False, False]
    assert [one.p_adjusted < ALPHA for one in found] == [False, False, True]
    assert found[0].minimum_detectable > 0.02 > found[1].minimum_detectable
    (single,) = compare(column(0.5), less_is_better=[False])
    assert single.underpowered


def test_equal_comparisons_count_once_and_families_are_corrected_apart() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(0.1, 0.3, 40), rng.normal(0.1, 0.3, 40)
    alone = compare(np.column_stack([one, two]), less_is_better=[False] * 2)
    doubled = compare(np.column_stack([one, two, one]), less_is_better=[False] * 3)
    assert doubled == [*alone, alone[0]]
    apart = compare(np.column_stack([one, two, one]), less_is_better=[False] * 3, families=["a", "b", "a"])
    assert [found.p_adjusted for found in apart] == [found.p_value for found in apart]
    assert apart[0].minimum_detectable < alone[0].minimum_detectable


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_differences_that_do_not_vary_detect_nothing(value: float) -> None:
    (found,) = compare(column(*[value] * 3), less_is_better=[False])
    assert math.isnan(found.minimum_detectable)
    assert found.underpowered


def test_wins_and_losses_where_less_is_better_and_where_a_value_is_missing() -> None:
    differences = np.column_stack([[0.5, -0.25, 1e-17, 0.5], [np.nan, 0.1, 0.2, -0.3]])
    more, less = compare(differences, less_is_better=[False, True])
    assert (more.wins, more.ties, more.losses) == (2, 1, 1)
    assert (less.wins, less.ties, less.losses) == (1, 0, 2)
    assert less.p_value == p_of(column(0.1, 0.2, -0.3))


def test_movers_up_first_then_down_ties_by_id() -> None:
    ids = ["c", "a", "b", "d", "e", "f"]
    values = np.array([0.5, 0.5, 0.9, 0.1, 0.3, np.nan])
    baseline = np.array([0.0, 0.0, 0.0, 0.8, 0.3, np.nan])
    assert movers(ids, values, baseline, count=2) == (
        Mover("b", 0.9, 0.0, 0.9),
        Mover("a", 0.5, 0.0, 0.5),
        Mover("d", 0.1, 0.8, pytest.approx(-0.7)),
    )
    assert movers(ids, baseline, baseline) == ()
