"""How much is lost: drop rates with spread and interval, changes of route, successful attacks. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrem_os.eval.intervals import ENDS
from lrem_os.types import Ranking

Values = npt.NDArray[np.float64]
_CHUNK_CELLS = 4_000_000  # resampled values held at once: 32 MB

CUTOFFS = (5, 10, 20, 50)
"""Depths at which an attack is looked for (arXiv 2604.16576)."""


@dataclass(frozen=True, slots=True)
class Drop:
    """What a run loses on perturbed queries; NaN where it had nothing to lose.

    Args:
        clean: Mean over the queries as they are.
        perturbed: Mean over queries and seeds.
        drop_rate: (clean - perturbed) / clean, mean over seeds; below 0 where perturbing helped.
        drop_std: Standard deviation of the seeds' drop rates (n - 1); NaN with one seed.
        low: Lower end of the bootstrap interval of the drop rate, queries drawn with replacement.
        high: Upper end.
    """

    clean: float
    perturbed: float
    drop_rate: float
    drop_std: float
    low: float
    high: float


def drop_rates(clean: Values, perturbed: Values, *, resamples: int, seed: int) -> Drop:
    """Return what is lost.

    A query keeps its seeds together in the bootstrap: the interval says how far the drop rate depends on which queries
    were asked, the standard deviation how far on how they were perturbed.

    Args:
        clean: One value a query, shape (Q,), Q at least 1.
        perturbed: The same queries, shape (S, Q), one row a seed.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    mean, per_query = float(clean.mean()), perturbed.mean(axis=0)
    if mean <= 0:
        return Drop(mean, float(per_query.mean()), math.nan, math.nan, math.nan, math.nan)
    rates = 1 - perturbed.mean(axis=1) / mean
    drawn = _resampled_rates(clean, per_query, resamples, seed)
    low, high = np.quantile(drawn, ENDS) if len(drawn) else (math.nan,) * 2
    spread = float(rates.std(ddof=1)) if len(rates) > 1 else math.nan
    return Drop(mean, float(per_query.mean()), float(rates.mean()), spread, float(low), float(high))


def changed_routes(clean: Mapping[str, Ranking], perturbed: Mapping[str, Ranking]) -> tuple[int, int]:
    """Return how many queries took another route, and for how many both routes are known."""
    pairs = [
        (before.trace.route, after.trace.route)
        for query_id, before in clean.items()
        if before.trace is not None
        and (after := perturbed.get(query_id)) is not None
        and after.trace is not None
        and before.trace.route
        and after.trace.route
    ]
    return sum(before != after for before, after in pairs), len(pairs)


def attack_success(
    run: Mapping[str, Ranking], injected: Collection[str], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Return, per cutoff (``@10``), the share of queries with an injected product that high; NaN without queries."""
    ranks = [
        next((rank for rank, hit in enumerate(ranking.hits, 1) if hit.doc_id in injected), math.inf)
        for ranking in run.values()
    ]
    return {
        f"@{cutoff}": sum(rank <= cutoff for rank in ranks) / len(ranks) if ranks else math.nan for cutoff in cutoffs
    }


def _resampled_rates(clean: Values, perturbed: Values, resamples: int, seed: int) -> Values:
    """Return the drop rates of resampled sets of queries; a set whose clean mean is 0 has none and is left out."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_CELLS // len(clean))
    found = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, len(clean), size=(min(rows, resamples - start), len(clean)))
        before, after = clean[drawn].mean(axis=1), perturbed[drawn].mean(axis=1)
        found.append(1 - after[before > 0] / before[before > 0])
    return np.concatenate(found)
