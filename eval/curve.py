"""The cost-quality curve: the mean of a measure when a share of the queries is reasoned about. Pure.

A policy orders the queries; at a share s the first s·N of them have their reasoned value and the others their direct
one. Between two queries the curve is straight, as if part of the next one's traffic were reasoned about, and queries
that a policy cannot tell apart (equal scores) share what they are given: that is the mean over all orders of them.

* ``router``: the router's score, the highest first, with a bootstrap band over queries.
* ``random``: no order; the expectation is the straight line from direct to reasoned.
* ``length``: the query with the most words first.
* ``oracle``: the query that gains most first, and none that loses: the best that the budget can do, so that it may
  leave part of it unspent.

The area between a curve and the direct mean is divided by the oracle's: 0 is direct at every budget, 1 the oracle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrem_os.errors import RunError
from lrem_os.eval.intervals import CONFIDENCE

Floats = NDArray[np.float64]

SHARES = tuple(step / 20 for step in range(21))
"""Shares of the queries that a report shows: 0 to 100 %, every 5 %."""


def cost_quality_curve(
    measure: str,
    direct: Sequence[float],
    reasoned: Sequence[float],
    scores: Sequence[float],
    lengths: Sequence[float],
    *,
    resamples: int = 2000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the curves and their areas, as JSON values.

    Args:
        measure: Its name.
        direct: Value of every query without reasoning, shape (N,).
        reasoned: With it, shape (N,).
        scores: Of the router, shape (N,); infinite where a rule decided.
        lengths: Words of every query, shape (N,).
        resamples: Of the bootstrap.
        confidence: Of the band.
        seed: Of the bootstrap.

    Raises:
        RunError: The sequences are not equally long or empty, or a value is NaN.
    """
    base, with_reasoning = np.asarray(direct, np.float64), np.asarray(reasoned, np.float64)
    orders = {"router": np.asarray(scores, np.float64), "length": np.asarray(lengths, np.float64)}
    _check(measure, base, with_reasoning, orders)
    gains = with_reasoning - base
    oracle = _Curve(gains, np.maximum(gains, 0.0))
    curves = {"router": _Curve(orders["router"], gains), "random": _Curve(np.zeros(len(gains)), gains)}
    curves |= {"length": _Curve(orders["length"], gains), "oracle": oracle}
    best = oracle.area()
    start = float(base.mean())
    points = {name: [_point(share, start + one.at(share)) for share in SHARES] for name, one in curves.items()}
    band, areas = _bootstrap(base, gains, orders["router"], resamples, seed)
    edges = [(1 - confidence) / 2 * 100, (1 + confidence) / 2 * 100]
    low, high = np.percentile(band, edges, axis=0)
    for point, lower, upper in zip(points["router"], low.tolist(), high.tolist(), strict=True):
        point |= {"low": lower, "high": upper}
    known = areas[np.isfinite(areas)]
    return {
        "measure": measure,
        "num_queries": len(gains),
        "points": points,
        "area": {name: one.area() / best if best > 0 else None for name, one in curves.items()},
        "area_interval": {
            "router": [float(x) for x in np.percentile(known, edges)] if best > 0 and len(known) else None
        },
        "direct": start,
        "reasoned": float((base + gains).mean()),
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
    }


def curve_of_runs(
    measure: str,
    direct: Mapping[str, Mapping[str, float]],
    reasoned: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, float],
    texts: Mapping[str, str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return the curve over the queries for which all is known; see ``cost_quality_curve``.

    Args:
        measure: Its name.
        direct: Query id → measure → value.
        reasoned: Likewise.
        scores: Query id → router score.
        texts: Query id → what was typed.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        RunError: There is no such query.
    """
    common = [qid for qid in direct if measure in direct[qid] and measure in reasoned.get(qid, {})]
    ids = [qid for qid in common if not math.isnan(scores.get(qid, math.nan))]
    if not ids:
        raise RunError(
            f"no query has {measure} in both runs and a router score: there is no curve",
            hint="add routed to the runs, or ask direct and reasoned anew with a router",
        )
    return cost_quality_curve(
        measure,
        [direct[qid][measure] for qid in ids],
        [reasoned[qid][measure] for qid in ids],
        [scores[qid] for qid in ids],
        [len(texts[qid].split()) for qid in ids],
        resamples=resamples,
        seed=seed,
    )


class _Curve:
    """Mean gain at every share, straight between its corners.

    Args:
        order: The highest first, shape (N,); equal ones go together.
        gains: Of reasoning, shape (N,).
        counts: How often each query counts, shape (N,); none: once.
    """

    def __init__(self, order: Floats, gains: Floats, counts: NDArray[np.int64] | None = None) -> None:
        _, group = np.unique(-order, return_inverse=True)
        weights = np.ones(len(gains)) if counts is None else counts.astype(np.float64)
        total = weights.sum()
        self.shares = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights)) / total])
        self.means = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights * gains)) / total])
        self.shares[-1] = 1.0

    def at(self, share: float) -> float:
        """Return the mean gain at a share."""
        return float(np.interp(share, self.shares, self.means))

    def area(self) -> float:
        """Return the integral over all shares: exact, since the curve is straight between its corners."""
        return float(np.sum(np.diff(self.shares) * (self.means[1:] + self.means[:-1]) / 2))


def _bootstrap(base: Floats, gains: Floats, scores: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Return the router's curve, shape (R, shares), and its normalised area, shape (R,), on resampled queries.

    An area is NaN where no query of the resample gains.
    """
    rng = np.random.default_rng(seed)
    num = len(gains)
    band, areas = np.empty((resamples, len(SHARES))), np.full(resamples, np.nan)
    for row in range(resamples):
        counts = np.bincount(rng.integers(num, size=num), minlength=num)
        curve = _Curve(scores, gains, counts)
        band[row] = base @ counts / num + np.interp(SHARES, curve.shares, curve.means)
        best = _Curve(gains, np.maximum(gains, 0.0), counts).area()
        if best > 0:
            areas[row] = curve.area() / best
    return band, areas


def _point(share: float, mean: float) -> dict[str, float]:
    return {"share": share, "mean": mean}


def _check(measure: str, direct: Floats, reasoned: Floats, orders: Mapping[str, Floats]) -> None:
    if not len(direct):
        raise RunError(f"there is no query with {measure}: there is no curve")
    if any(given.shape != direct.shape for given in (reasoned, *orders.values())) or direct.ndim != 1:
        raise RunError("values, scores and lengths of a curve must be one a query")
    if not (np.isfinite(direct).all() and np.isfinite(reasoned).all()) or np.isnan([*orders.values()]).any():
        raise RunError("a value, score or length of a curve is not a number")
