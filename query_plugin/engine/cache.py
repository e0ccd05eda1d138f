"""What was computed once: kept for a while, and computed once when many ask at the same moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from lrem_os.query_plugin.engine.clock import Clock, LoopClock, wait_for

V = TypeVar("V")


class Lru(Generic[V]):
    """The values that were used last. Belongs to one event loop.

    Args:
        size: Values kept at most; 0: none.
        ttl_s: Seconds until a value is forgotten.
        clock: Tells when those are over.
    """

    def __init__(self, size: int, *, ttl_s: float = float("inf"), clock: Clock | None = None) -> None:
        self._size, self._ttl_s = size, ttl_s
        self._clock = clock or LoopClock()
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self.num_hits = 0
        self.num_misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> V | None:
        """Return the value, if it is kept and not too old."""
        kept = self._kept.get(key)
        if kept is None or self._clock.now() >= kept[0]:
            self._kept.pop(key, None)
            self.num_misses += 1
            return None
        self._kept.move_to_end(key)
        self.num_hits += 1
        return kept[1]

    def put(self, key: str, value: V) -> None:
        """Keep a value; the one that was not used for longest goes if there are too many."""
        self._kept[key] = (self._clock.now() + self._ttl_s, value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


class _Flight(Generic[V]):
    def __init__(self, compute: Callable[[Callable[[], bool]], Coroutine[Any, Any, V]]) -> None:
        self.num_waiting = 0
        self.outlives = False  # somebody gave up waiting, and it is wanted for the next time
        self.task = asyncio.get_running_loop().create_task(compute(self.is_wanted))

    def is_wanted(self) -> bool:
        return self.num_waiting > 0


class SingleFlight(Generic[V]):
    """Computes once what several want at the same moment. Belongs to one event loop.

    Args:
        clock: Decides what is late.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or LoopClock()
        self._flights: dict[str, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def do(
        self, key: str, compute: Callable[[Callable[[], bool]], Coroutine[Any, Any, V]], *, seconds: float
    ) -> V:
        """Return what ``compute`` returns, or what the computation of this key that is under way does.

        It goes on when the wait is over, so that its result can be kept. When whoever waits is cancelled, it is
        cancelled with the last of them.

        Args:
            key: What is computed.
            compute: Called if this key is not under way, with a function that says whether somebody still waits.
            seconds: How long to wait; zero: only begin.

        Raises:
            TimeoutError: It is not there in time.
            ShuttingDown: All computations were cancelled.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(compute)
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        flight.num_waiting += 1
        try:
            return await wait_for(flight.task, seconds, self._clock)
        except TimeoutError:
            flight.outlives = True
            raise
        except asyncio.CancelledError:
            if flight.num_waiting == 1 and not flight.outlives:
                self._flights.pop(key, None)  # now: who comes next must not join what is being cancelled
                flight.task.cancel()
            raise
        finally:
            flight.num_waiting -= 1

    async def aclose(self) -> None:
        """Cancel what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: str, task: asyncio.Task[V]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who wait are told; there may be nobody
