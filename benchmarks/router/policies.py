"""How well an order of queries spends a budget of reasoning: shares of gain, of loss, and what a stream gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
RESAMPLES = 1000


@dataclass(frozen=True)
class Log:
    """A query log: each query stands for a share of the traffic.

    Args:
        gains: Of each query, shape (N,).
        direct: Measure without reasoning, shape (N,).
        hard: Whether it is one of the hard ones, shape (N,).
        weights: Share of the traffic, shape (N,), sum 1.
    """

    gains: Floats
    direct: Floats
    hard: NDArray[np.bool_]
    weights: Floats

    def drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return rows drawn with replacement, as many hard and easy ones as there are."""
        parts = [np.flatnonzero(self.hard), np.flatnonzero(~self.hard)]
        return np.concatenate([rng.choice(part, len(part)) for part in parts])

    def at(self, rows: NDArray[np.int64]) -> Log:
        weights = self.weights[rows] / self.weights[rows].sum()
        return Log(self.gains[rows], self.direct[rows], self.hard[rows], weights)


def make_log(gains: Floats, direct: Floats, hard: NDArray[np.bool_], hard_share: float) -> Log:
    """Return a log in which hard queries are such a share of the traffic."""
    weights = np.where(hard, hard_share / hard.sum(), (1 - hard_share) / (~hard).sum())
    return Log(gains, direct, hard, weights)


def chosen_share(scores: Floats, weights: Floats, budget: float) -> Floats:
    """Return how much of each query is reasoned about: the best until the budget is spent, equal scores alike."""
    _, group = np.unique(-scores, return_inverse=True)
    size = np.bincount(group, weights)
    spent_before = np.cumsum(size) - size
    taken: Floats = np.clip((budget - spent_before) / size, 0, 1)[group]
    return taken


def outcome(log: Log, taken: Floats) -> dict[str, float]:
    """Return what reasoning about these queries brings, against reasoning about all."""
    brought, everywhere = log.weights * log.gains * taken, log.weights * log.gains
    losses, easy = log.gains < 0, ~log.hard
    lost = everywhere[losses].sum()
    return {
        "gain": float(brought.sum()),
        "share_of_gain": float(brought.sum() / everywhere.sum()) if everywhere.sum() else float("nan"),
        "loss_avoided": float(1 - brought[losses].sum() / lost) if lost else float("nan"),
        "easy_and_head_change": float(brought[easy].sum() / log.weights[easy].sum()),
        "reasoned": float((log.weights * taken).sum()),
    }


def curve(log: Log, scores: Floats, *, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Return the outcome at every budget, each value with its 95 % bootstrap interval over queries."""
    rng = np.random.default_rng(seed)
    draws = [log.drawn(rng) for _ in range(RESAMPLES)]
    told = {}
    for budget in BUDGETS:
        point = outcome(log, chosen_share(scores, log.weights, budget))
        many = [outcome(part := log.at(rows), chosen_share(scores[rows], part.weights, budget)) for rows in draws]
        told[f"{budget:.0%}"] = {name: interval(point[name], [one[name] for one in many]) for name in point}
    return told


def interval(point: float, values: Sequence[float]) -> list[float]:
    """Return value, lower and upper end at 95 %."""
    found = np.array(values)
    low, high = np.nanquantile(found, [0.025, 0.975]) if np.isfinite(found).any() else (np.nan, np.nan)
    return [round(float(value), 4) for value in (point, low, high)]


def auc(scores: Floats, positive: NDArray[np.bool_], *, seed: int = 0) -> list[float]:
    """Return the area under the ROC curve with its bootstrap interval (both classes drawn apart)."""
    rng = np.random.default_rng(seed)
    up, down = scores[positive], scores[~positive]
    values = [_auc(rng.choice(up, len(up)), rng.choice(down, len(down))) for _ in range(RESAMPLES)]
    return interval(_auc(up, down), values)


def _auc(up: Floats, down: Floats) -> float:
    """Return how often a positive scores above a negative; a tie is half of one. Source: Mann & Whitney (1947)."""
    below = np.sort(down)
    wins = np.searchsorted(below, up, "left") + np.searchsorted(below, up, "right")
    return float(wins.mean() / 2 / len(down))


def reliability(scores: Floats, helped: NDArray[np.bool_], weights: Floats, bins: int = 5) -> dict[str, Any]:
    """Return per bin of equal traffic what was predicted and what happened, and the mean distance (ECE)."""
    order = np.argsort(scores, kind="stable")
    reached = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    rows = []
    for number in range(bins):
        inside = order[(reached >= number / bins) & (reached < (number + 1) / bins)]
        if len(inside):
            share = weights[inside] / weights[inside].sum()
            rows.append(
                {
                    "queries": len(inside),
                    "predicted": round(float(share @ scores[inside]), 4),
                    "helped": round(float(share @ helped[inside]), 4),
                    "traffic": round(float(weights[inside].sum() / weights.sum()), 4),
                }
            )
    error = sum(row["traffic"] * abs(row["predicted"] - row["helped"]) for row in rows)
    return {"bins": rows, "ece": round(error, 4)}


def stream(
    log: Log, decide: Callable[[int], Mapping[str, float]], *, num: int = 5000, seed: int = 0
) -> dict[str, float]:
    """Return what a stream of queries, drawn from the log, gets from a router that knows only what came before.

    Args:
        log: What is drawn from.
        decide: Decides about a query by its row: ``reasoned`` (0 or 1) and ``threshold``.
        num: Length of the stream.
        seed: Of the draw.
    """
    rows = np.random.default_rng(seed).choice(len(log.gains), num, p=log.weights)
    decided = [decide(int(row)) for row in rows]
    taken = np.array([one["reasoned"] for one in decided])
    thresholds = np.array([one["threshold"] for one in decided])
    gains = log.gains[rows]
    easy = ~log.hard[rows]
    return {
        "queries": num,
        "reasoned": round(float(taken.mean()), 4),
        "share_of_gain": round(float((gains * taken).sum() / gains.sum()), 4),
        "easy_and_head_change": round(float((gains * taken)[easy].mean()), 4),
        "threshold_moves": int((np.diff(thresholds) != 0).sum()),
        "threshold_low": round(float(thresholds[num // 5 :].min()), 4),
        "threshold_high": round(float(thresholds[num // 5 :].max()), 4),
    }
