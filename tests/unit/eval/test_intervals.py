from __future__ import annotations

import numpy as np
import pytest

from lrem_os.eval import intervals
from lrem_os.eval.intervals import Estimate, bootstrap


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    values = np.random.default_rng(1).random(50)
    first, again, other = (bootstrap(values, resamples=500, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert first.mean == other.mean == pytest.approx(values.mean())


def test_equal_values_and_a_single_one_have_no_width() -> None:
    assert bootstrap(np.full(9, 0.25), resamples=200, seed=0) == Estimate(0.25, 0.25, 0.25, 9)
    assert bootstrap(np.array([0.5]), resamples=200, seed=0) == Estimate(0.5, 0.5, 0.5, 1)


def test_the_interval_is_the_normal_one_for_many_queries() -> None:
    values = np.random.default_rng(2).normal(0.5, 0.2, size=400)
    estimate = bootstrap(values, resamples=4000, seed=0)
    half = 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(300):
        estimate = bootstrap(rng.beta(0.5, 0.5, size=60), resamples=400, seed=seed)  # like nDCG: much at 0 and at 1
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98  # 0.95 ± 3 standard errors, less what the percentile method loses at n = 60


def test_resampling_in_pieces_draws_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).random(40)
    whole = bootstrap(values, resamples=1001, seed=0)
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 40 * 7)
    pieces = bootstrap(values, resamples=1001, seed=0)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.01)
