from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import InputError
from lrem_os.eval.judgments.agreement import measure_agreement


def judged(grades: list[int], queries: int = 1) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for number, grade in enumerate(grades):
        found.setdefault(f"q{number % queries}", {})[f"d{number}"] = grade
    return found


def test_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5
    first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = measure_agreement(judged(first), judged(second))
    assert found.plain.value == pytest.approx(0.4)
    assert found.quadratic.value == pytest.approx(0.4)
    assert (found.pairs, found.queries, found.exact) == (50, 1, 0.7)
    assert (found.grades, found.table) == ((0, 1), ((15, 10), (5, 20)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_the_same_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = [one for one, _ in pairs], [two for _, two in pairs]
    found = measure_agreement(judged(first, 3), judged(second, 3), resamples=10)
    if len({*first, *second}) == 1:  # scikit-learn warns and says NaN
        assert found.plain.value is found.quadratic.value is None
        return
    for ours, weights in ((found.plain, None), (found.quadratic, "quadratic")):
        theirs = cohen_kappa_score(first, second, labels=range(4), weights=weights)
        assert ours.value == pytest.approx(theirs, abs=1e-12)


def test_intervals_are_drawn_over_queries() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 4, 400)
    second = np.where(rng.random(400) < 0.5, first, rng.integers(0, 4, 400))
    found = measure_agreement(judged(first.tolist(), 40), judged(second.tolist(), 40))
    assert found.plain.low is not None
    assert found.plain.high is not None
    assert found.plain.value is not None
    assert found.plain.low < found.plain.value < found.plain.high
    assert 0.05 < found.plain.high - found.plain.low < 0.3
    again = measure_agreement(judged(first.tolist(), 40), judged(second.tolist(), 40))
    assert again == found


def test_only_pairs_that_both_have_count() -> None:
    found = measure_agreement({"q": {"a": 3, "b": 0, "c": 1}, "r": {"a": 1}}, {"q": {"a": 2, "b": 0, "x": 3}})
    assert (found.pairs, found.queries) == (2, 1)
    assert found.relevant.value == 1.0  # 3 and 2 are both relevant
    with pytest.raises(InputError, match="judged by both"):
        measure_agreement({"q": {"a": 1}}, {"q": {"b": 1}})
