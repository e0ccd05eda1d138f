"""From scores to a threshold that keeps a budget. Pure: no clock, it counts queries.

A share is kept by the quantile of the last scores: the threshold is where a share of them lies above. It moves only
when the share above it has left a band around the target (hysteresis), so that it does not follow every query, and it
never falls below a floor, so that an easy hour is not reasoned about for the budget's sake.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol


class Budget(Protocol):
    """Tells what a query must bring to be reasoned about."""

    @property
    def asks_gain(self) -> bool:
        """Whether the threshold is for the expected gain, and not for the score."""
        ...

    def threshold(self) -> float:
        """Return what the next query must reach."""
        ...

    def observe(self, score: float) -> None:
        """Take note of a query's score."""
        ...


class FixedBudget:
    """The same threshold for ever.

    Args:
        value: The least score that is reasoned about.
    """

    asks_gain = False

    def __init__(self, value: float) -> None:
        self._value = value

    def threshold(self) -> float:
        """Return what the next query must reach."""
        return self._value

    def observe(self, score: float) -> None:
        """Do nothing: no query changes it."""


class PriceBudget:
    """Reasons where the expected gain is worth its time.

    Args:
        price: Gain, in the measure of the gate's labels, that a second of the reasoner must bring.
        cost_ms: Time of the reasoner for one query, in milliseconds.
    """

    asks_gain = True

    def __init__(self, price: float, cost_ms: float) -> None:
        self._least = price * cost_ms / 1000

    def threshold(self) -> float:
        """Return the gain that the next query must promise."""
        return self._least

    def observe(self, score: float) -> None:
        """Do nothing: no query changes it."""


class ShareBudget:
    """At most a share of the queries.

    Args:
        share: The target, in [0, 1].
        window: Scores that count; the older ones are forgotten.
        floor: The threshold is never lower.
        hysteresis: By which part of the target the share above the threshold may be off before it moves.
        reference: Scores to begin with, in place of queries that were not yet.
    """

    asks_gain = False

    def __init__(
        self,
        share: float,
        *,
        window: int = 1000,
        floor: float = 0.0,
        hysteresis: float = 0.1,
        reference: Sequence[float] = (),
    ) -> None:
        self._share, self._floor, self._band = share, floor, hysteresis * share
        self._recent: deque[float] = deque(_spread(reference, window), maxlen=window)
        self._sorted = sorted(self._recent)
        self._threshold = self._quantile()

    def threshold(self) -> float:
        """Return what the next query must reach."""
        return max(self._floor, self._threshold)

    def observe(self, score: float) -> None:
        """Take note of a query's score; the oldest goes if there are too many."""
        if len(self._recent) == self._recent.maxlen:
            self._sorted.pop(bisect.bisect_left(self._sorted, self._recent[0]))
        self._recent.append(score)
        bisect.insort(self._sorted, score)
        if not self._share - self._band <= self._above() <= self._share:
            self._threshold = self._quantile()

    def _above(self) -> float:
        """Return which share of the recent scores reaches the threshold."""
        return 1 - bisect.bisect_left(self._sorted, self._threshold) / len(self._sorted)

    def _quantile(self) -> float:
        """Return the lowest threshold that at most the wanted share reaches; in the middle of the band, if it can."""
        num = len(self._sorted)
        if self._share >= 1:
            return 0.0
        wanted = int((self._share - self._band / 2) * num + 0.5)
        # what lies just above the first score that stays out; a tie of many equal scores stays out together
        out = self._sorted[max(0, num - wanted - 1)] if num else 1.0  # nothing known yet: nothing is reasoned about
        above = bisect.bisect_right(self._sorted, out)
        return self._sorted[above] if above < num else _beyond(out)


def _beyond(score: float) -> float:
    """Return a threshold that the score does not reach."""
    return score + 1e-9


def _spread(reference: Sequence[float], window: int) -> list[float]:
    """Return at most ``window / 2`` scores, evenly drawn, in an order that mixes low and high: they go one by one."""
    num = min(len(reference), max(1, window // 2))
    if not reference:
        return []
    drawn = [sorted(reference)[at * len(reference) // num] for at in range(num)]
    step = next(step for step in range(num // 2 + 1, 2 * num + 2) if math.gcd(step, num) == 1)
    return [drawn[at * step % num] for at in range(num)]
