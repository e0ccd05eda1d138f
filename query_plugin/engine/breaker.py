"""A circuit breaker: keeps requests away from what failed lately, and tries it again now and then.

Closed, everything passes, and the last outcomes are remembered; when too many of them are failures it opens. Open,
nothing passes until ``open_s`` are over; then one request may try: if it succeeds the breaker closes, if not it stays
open as long again. A trial of which nothing is heard is followed by another after the same time.

Source: Nygard, "Release It!" (2007), § 5.2; the share over a window of calls is resilience4j's.
"""

from __future__ import annotations

from collections import deque

from lrem_os.query_plugin.engine.clock import Clock, LoopClock


class Breaker:
    """One circuit. Belongs to one event loop.

    Args:
        window: So many last outcomes count; it opens after half as many at the earliest.
        share: Of failures among them, from which on it opens.
        open_s: Seconds until the next trial.
        clock: Tells when those are over.
    """

    def __init__(self, *, window: int, share: float, open_s: float, clock: Clock | None = None) -> None:
        self._outcomes: deque[bool] = deque(maxlen=window)
        self._min_outcomes = (window + 1) // 2
        self._share, self._open_s = share, open_s
        self._clock = clock or LoopClock()
        self._next_trial_at: float | None = None  # None: closed
        self._round = 0

    @property
    def is_open(self) -> bool:
        """Whether requests are kept away, but for trials."""
        return self._next_trial_at is not None

    def ask(self) -> int | None:
        """Return a permit to hand to ``record`` with the outcome; ``None``: stay away."""
        if self._next_trial_at is not None:
            if self._clock.now() < self._next_trial_at:
                return None
            self._turn(open_until=self._clock.now() + self._open_s)  # the trial; one more if it gets lost
        return self._round

    def record(self, permit: int, *, ok: bool) -> None:
        """Take note of an outcome; one that was permitted in another state of the circuit says nothing about this."""
        if permit != self._round:
            return
        if self._next_trial_at is not None:
            self._turn(open_until=None if ok else self._clock.now() + self._open_s)
            return
        self._outcomes.append(ok)
        failures = self._outcomes.count(False)
        if len(self._outcomes) >= self._min_outcomes and failures >= self._share * len(self._outcomes) and failures:
            self._turn(open_until=self._clock.now() + self._open_s)

    def _turn(self, *, open_until: float | None) -> None:
        self._next_trial_at = open_until
        self._round += 1
        self._outcomes.clear()
