"""How well each method orders a query's documents: Kendall's tau-b with the true grades, per query."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from benchmarks.clicks.simulate import Shop, simulate
from lrem_os.eval.intervals import bootstrap
from lrem_os.eval.judgments.clicks import METHODS, ClickScore, score_clicks


def compare(shop: Shop, *, min_impressions: int = 20, resamples: int = 2000) -> dict[str, Any]:
    """Return the mean tau of each method, and of each one's difference to the click rate, with 95 % intervals."""
    counts, grades = simulate(shop)
    taus = {
        method: _taus(score_clicks(counts, method), grades, min_impressions, shop.num_queries) for method in METHODS
    }
    usable = np.isfinite(np.stack(list(taus.values()))).all(axis=0)
    row: dict[str, Any] = {"queries": int(usable.sum())}
    for method, values in taus.items():
        row[method] = _estimate(values[usable], resamples)
        if method != "ctr":
            row[f"{method} - ctr"] = _estimate((values - taus["ctr"])[usable], resamples)
    return row


def _taus(
    scores: list[ClickScore], grades: npt.NDArray[np.int64], min_impressions: int, num_queries: int
) -> npt.NDArray[np.float64]:
    by_query: dict[str, list[tuple[float, int]]] = {f"q{number:04}": [] for number in range(num_queries)}
    for score, grade in zip(scores, grades.tolist(), strict=True):
        if score.impressions >= min_impressions:
            by_query[score.query_id].append((score.score, grade))
    return np.array([_tau(pairs) for pairs in by_query.values()])


def _tau(pairs: list[tuple[float, int]]) -> float:
    if len({grade for _, grade in pairs}) < 2 or len({score for score, _ in pairs}) < 2:
        return float("nan")  # nothing to order
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def _estimate(values: npt.NDArray[np.float64], resamples: int) -> dict[str, float]:
    found = bootstrap(values, resamples=resamples, seed=0)
    return {"mean": round(found.mean, 4), "low": round(found.low, 4), "high": round(found.high, 4)}
