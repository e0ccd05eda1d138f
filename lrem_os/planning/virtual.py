"""An event loop whose clock jumps: what takes an hour of waiting is over when its computations are.

The simulation runs the query engine itself on it, and not a copy of its rules: batches, deadlines, breakers and caches
are the ones that serve. Only what takes time (models, cores, OpenSearch) is replaced by the time that it takes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which nothing is waited for: where nothing is ready, its time is that of the next timer."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_Skipping(self.skip))

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._seconds

    def skip(self, seconds: float) -> None:
        """Let time pass, and the least bit more: a timer that time only equals is not due where floats are coarse."""
        self._seconds = math.nextafter(self._seconds + seconds, math.inf)


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing, and says how long it would have."""

    def __init__(self, skip: Callable[[float], None]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return nothing: nothing ever comes from outside, so a wait without end is one that never ends."""
        if timeout is None:
            raise RuntimeError("the simulation waits for something that no timer brings about")
        self._skip(max(timeout, 0.0))
        return []


def run_virtual(main: Coroutine[Any, Any, R]) -> R:
    """Return the result of a coroutine that is run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class Cores:
    """Processor cores that jobs share: with more jobs than cores, each is slowed down alike.

    Processor sharing (Kleinrock, "Queueing Systems" II, 1976, ch. 4), which is what an operating system's fair
    scheduler comes to. Belongs to one event loop.

    Args:
        number: Of cores; infinity: nobody ever waits.
    """

    def __init__(self, number: float) -> None:
        self._number = number
        self._width = 0.0  # cores that the jobs would keep busy
        self._done = 0.0  # seconds of work that a job has got that was here from the beginning
        self._at = 0.0
        self._jobs: list[tuple[float, int, float, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.busy_s = 0.0
        """Core seconds used."""

    async def run(self, seconds: float, width: float = 1.0) -> None:
        """Return when a job is done.

        Args:
            seconds: That it takes alone.
            width: Cores that it keeps busy meanwhile; at most all of them.
        """
        if seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        self._advance(loop.time())
        future: asyncio.Future[None] = loop.create_future()
        width = min(width, self._number)
        heapq.heappush(self._jobs, (self._done + seconds, next(self._numbers), width, future))
        self._width += width
        self._plan(loop)
        await future

    def _speed(self) -> float:
        return min(1.0, self._number / self._width) if self._width > 0 else 1.0

    def _advance(self, now: float) -> None:
        passed = now - self._at
        self._done += passed * self._speed()
        self.busy_s += passed * min(self._width, self._number)
        self._at = now

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._jobs:
            left = max(0.0, self._jobs[0][0] - self._done)
            self._timer = loop.call_later(left / self._speed(), self._finish, loop)

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._advance(loop.time())
        while self._jobs and self._jobs[0][0] <= self._done + 1e-9:
            _, _, width, future = heapq.heappop(self._jobs)
            self._width = self._width - width if self._jobs else 0.0  # no rounding is carried on
            if not future.done():
                future.set_result(None)
        self._plan(loop)
