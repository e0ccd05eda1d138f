from __future__ import annotations

import numpy as np
import pytest

from lrem_os.eval import intervals
from lrem_os.eval.intervals import Estimate, alike, bootstrap, bootstrap_columns


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


def test_columns_have_the_intervals_they_have_alone() -> None:
    values = np.random.default_rng(3).random((30, 4))
    together = bootstrap_columns(values, resamples=300, seed=1)
    for at, one in enumerate(together):
        alone = bootstrap(values[:, at], resamples=300, seed=1)
        assert one is not None
        assert (one.mean, one.low, one.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_columns_without_some_values_are_over_those_they_have() -> None:
    values = np.array([[1.0, np.nan, np.nan], [0.0, 0.5, np.nan], [1.0, 0.25, np.nan]])
    first, second, third = bootstrap_columns(values, resamples=200, seed=0)
    assert first == bootstrap(values[:, 0], resamples=200, seed=0)
    assert second == bootstrap(values[1:, 1], resamples=200, seed=0)
    assert third is None
    assert [(rows.tolist(), columns.tolist()) for rows, columns in alike(values)] == [
        ([False, True, True], [1]),
        ([True, True, True], [0]),
    ]


def test_a_weighted_mean_is_that_of_the_traffic() -> None:
    values, weights = np.array([[1.0], [0.0], [0.5]]), np.array([90.0, 9.0, 1.0])
    (estimate,) = bootstrap_columns(values, resamples=500, seed=0, weights=weights)
    (scaled,) = bootstrap_columns(values, resamples=500, seed=0, weights=weights * 7)
    assert estimate is not None
    assert scaled is not None
    assert estimate.mean == pytest.approx(0.905)
    assert (estimate.low, estimate.num_queries) == (0.0, 3)  # the second query alone, drawn three times
    assert 0.98 < estimate.high < 1.0
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx((estimate.mean, estimate.low, estimate.high))


def test_weights_count_as_if_a_query_were_asked_that_often() -> None:
    rng = np.random.default_rng(8)
    values = rng.random(200)
    weights = rng.integers(1, 4, 200).astype(float)
    (weighted,) = bootstrap_columns(values[:, None], resamples=2000, seed=0, weights=weights)
    assert weighted is not None
    assert weighted.mean == pytest.approx(np.repeat(values, weights.astype(int)).mean())
    residuals = weights * (values - weighted.mean) / weights.mean()  # of the ratio estimator, by linearisation
    half = 1.96 * residuals.std() / np.sqrt(200)
    assert (weighted.high - weighted.low) / 2 == pytest.approx(half, rel=0.1)
