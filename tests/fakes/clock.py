"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class ManualTimer:
    """A call that is to happen when the clock gets there."""

    at: float
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ManualClock:
    """A ``Clock`` of the query side."""

    seconds: float = 1000.0
    timers: list[ManualTimer] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, callback: Callable[[], object]) -> ManualTimer:
        timer = ManualTimer(self.seconds + seconds, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen in its order."""
        end = self.seconds + seconds
        while due := [timer for timer in self.timers if timer.at <= end and not timer.cancelled]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.seconds = max(self.seconds, timer.at)
            timer.callback()
        self.seconds = end


async def until(happened: Callable[[], bool]) -> None:
    """Let the event loop run until something has happened; the dead man's limit is a minute."""
    limit = time.monotonic() + 60
    while not happened():
        if time.monotonic() > limit:
            raise AssertionError("it did not happen within a minute")
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Let the event loop do what is ready, and what becomes ready by that."""
    for _ in range(20):
        await asyncio.sleep(0)
