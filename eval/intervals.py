"""How far a mean over queries can be trusted: the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
"""The quantiles of the resamples that an interval lies between."""
_CHUNK_CELLS = 4_000_000  # drawn queries held at once: 32 MB

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries with its confidence interval.

    Args:
        mean: Of the values, or of their paired differences.
        low: Lower end of the interval.
        high: Upper end.
        num_queries: How many values there were; from one alone nothing can be said, and low = mean = high.
    """

    mean: float
    low: float
    high: float
    num_queries: int


def bootstrap(values: Floats, *, resamples: int, seed: int) -> Estimate:
    """Return the mean of at least one value with its 95 % percentile bootstrap interval; see ``bootstrap_columns``."""
    (estimate,) = bootstrap_columns(values[:, None], resamples=resamples, seed=seed)
    if estimate is None:
        raise ValueError("there is no value")
    return estimate


def bootstrap_columns(
    values: Floats, *, resamples: int, seed: int, weights: Floats | None = None
) -> list[Estimate | None]:
    """Return each column's mean with its 95 % percentile bootstrap interval; none where a column has no value.

    Queries are drawn with replacement, always the same ones for the same seed and number of queries: hand it the
    differences of two runs for the interval of a paired difference. With weights the mean is a weighted one, in each
    resample over what was drawn: the weights are resampled together with the values.

    Args:
        values: (number of queries, number of columns); NaN where a column has no value for a query.
        resamples: How often the queries are drawn.
        seed: Of the draws.
        weights: Per query, above 0.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), §13.3.
    """
    found: list[Estimate | None] = [None] * values.shape[1]
    for rows, columns in alike(values):
        part = values if rows.all() and len(columns) == values.shape[1] else values[rows][:, columns]
        heavy = np.ones(len(part)) if weights is None else weights[rows]
        means = heavy @ part / heavy.sum()
        low, high = np.quantile(_resample(part, heavy, resamples, seed), ENDS, axis=0)
        for at, column in enumerate(columns):
            found[column] = Estimate(float(means[at]), float(low[at]), float(high[at]), len(part))
    return found


def alike(values: Floats) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]]:
    """Yield which rows have a value, and the columns of which that is so; columns without any are left out."""
    there = ~np.isnan(values)
    if there.all() and there.size:
        yield np.ones(len(values), dtype=bool), np.arange(values.shape[1])
        return
    patterns, pattern_of = np.unique(there, axis=1, return_inverse=True)
    for at in range(patterns.shape[1]):
        if patterns[:, at].any():
            yield patterns[:, at], np.flatnonzero(pattern_of.reshape(-1) == at)


def _resample(values: Floats, weights: Floats, resamples: int, seed: int) -> Floats:
    """Return (resamples, columns) weighted means. How often each query was drawn, times the values: one product."""
    rng = np.random.default_rng(seed)
    num = len(values)
    offset = values[0].copy()  # what all have in common stays exact, so equal values have an interval without width
    weighted = (values - offset) * weights[:, None]
    rows = max(1, _CHUNK_CELLS // num)
    means = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, num, size=(min(rows, resamples - start), num))
        drawn += np.arange(len(drawn))[:, None] * num
        counts = np.bincount(drawn.reshape(-1), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        means.append(counts @ weighted / (counts @ weights)[:, None] + offset)
    return np.concatenate(means)
