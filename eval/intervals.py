"""How far a mean over queries can be trusted: the percentile bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_CHUNK_CELLS = 4_000_000  # resampled values held at once: 32 MB


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


def bootstrap(values: npt.NDArray[np.float64], *, resamples: int, seed: int) -> Estimate:
    """Return the mean of at least one value with its 95 % percentile bootstrap interval.

    Queries are drawn with replacement, always the same ones for the same seed and number of values: hand it the
    differences of two runs for the interval of a paired difference.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), §13.3.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_CELLS // len(values))
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), size=(min(rows, resamples - start), len(values)))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))
