"""How many bulk requests may be on their way, and how long to wait after a refusal.

Additive increase, multiplicative decrease: a request that is turned away halves the limit, each one that succeeds adds
``1 / limit``, as TCP does (Chiu and Jain 1989). Waiting grows exponentially with full jitter (Brooker, "Exponential
Backoff And Jitter", 2015), and never undercuts what the server asked for.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lrem_os.errors import SearchError, SearchRejected

T = TypeVar("T")

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 30.0


class AdaptiveLimit:
    """A gate that lets at most ``limit`` holders in, where the limit moves between 1 and ``highest``."""

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.limit = float(highest)
        self._holders = 0
        self._changed = threading.Condition()

    def __enter__(self) -> AdaptiveLimit:
        with self._changed:
            self._changed.wait_for(lambda: self._holders < int(self.limit))
            self._holders += 1
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._holders -= 1
            self._changed.notify_all()

    def succeeded(self) -> None:
        """A request went through: let a little more in."""
        with self._changed:
            self.limit = min(float(self.highest), self.limit + 1.0 / self.limit)
            self._changed.notify_all()

    def turned_away(self) -> None:
        """The cluster pushed back: let half as many in."""
        with self._changed:
            self.limit = max(1.0, self.limit / 2.0)


def wait_time_s(attempt: int, retry_after_s: float | None, *, rng: random.Random) -> float:
    """Return the seconds to wait before attempt number ``attempt`` (from 1), drawn at random.

    At least what the server asked for, if it asked; else between half and all of the exponential step, so that it is
    never no wait at all.
    """
    step = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt - 1, 10))
    return max(retry_after_s or 0.0, rng.uniform(step / 2, step))


def patiently(
    call: Callable[[], T], *, max_wait_s: float, on_wait: Callable[[float, str], None], sleep: Callable[[float], object]
) -> T:
    """Return what ``call`` returns, calling again while the cluster is busy or away.

    Args:
        call: Idempotent.
        max_wait_s: Give up after this long.
        on_wait: Told, before a wait, how long and why.
        sleep: Waits; may raise to end the waiting.

    Raises:
        SearchError: What ``call`` raised, when it is not worth another try or the time is up.
    """
    rng, start, attempt = random.Random(), time.monotonic(), 0  # noqa: S311 - jitter, not a secret
    while True:
        try:
            return call()
        except SearchError as exc:
            retry_after_s = exc.retry_after_s if isinstance(exc, SearchRejected) else None
            if not exc.retryable or time.monotonic() - start + (retry_after_s or 0.0) > max_wait_s:
                raise
            attempt += 1
            seconds = wait_time_s(attempt, retry_after_s, rng=rng)
            on_wait(seconds, exc.message)
            sleep(seconds)
