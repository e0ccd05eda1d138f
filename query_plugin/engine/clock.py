"""Time as the query side sees it: injected, so that a test decides when something is late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from lrem_os.errors import ShuttingDown

T = TypeVar("T")


class Timer(Protocol):
    """A call that is to happen later."""

    def cancel(self) -> None:
        """Let it not happen; nothing if it has."""
        ...


class Clock(Protocol):
    """What decides whether something is late."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back on the event loop after so many seconds."""
        ...


class LoopClock:
    """The running event loop's own clock."""

    def now(self) -> float:
        """Return the seconds of the running loop."""
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back on the running loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)


async def wait_for(future: asyncio.Future[T], seconds: float, clock: Clock) -> T:
    """Return the future's result; unlike ``asyncio.wait_for``, lateness and cancellation leave the future alone.

    Raises:
        ShuttingDown: The future was cancelled.
        TimeoutError: It is not done within so many seconds; without waiting where they are zero or fewer.
    """
    if not future.done() and seconds > 0:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: object = None) -> None:
            if not woken.done():
                woken.set_result(None)

        timer = clock.call_later(seconds, wake) if seconds < float("inf") else None
        future.add_done_callback(wake)
        try:
            await woken
        finally:
            future.remove_done_callback(wake)
            if timer is not None:
                timer.cancel()
    if not future.done():
        raise TimeoutError
    if future.cancelled():
        raise ShuttingDown("the query engine is shutting down")
    return future.result()
