from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.errors import ModelError, ShuttingDown
from lrem_os.query_plugin.engine.cache import Lru, SingleFlight
from tests.fakes.clock import ManualClock, settle


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(
    size=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 6)), max_size=60),
)
def test_the_least_recently_used_goes_first(size: int, steps: list[tuple[str, int]]) -> None:
    cache: Lru[int] = Lru(size, clock=ManualClock())
    model: OrderedDict[str, int] = OrderedDict()
    hits = 0
    for number, (action, which) in enumerate(steps):
        key = str(which)
        if action == "put":
            cache.put(key, number)
            model[key] = number
            model.move_to_end(key)
            while len(model) > size:
                model.popitem(last=False)
        else:
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
                hits += 1
        assert len(cache) == len(model) <= size
    assert cache.num_hits == hits
    assert cache.num_hits + cache.num_misses == sum(action == "get" for action, _ in steps)


def test_a_value_is_forgotten_when_it_is_old() -> None:
    clock = ManualClock()
    cache: Lru[int] = Lru(3, ttl_s=10, clock=clock)
    cache.put("a", 1)
    clock.advance(9)
    cache.put("b", 2)
    assert (cache.get("a"), cache.get("b")) == (1, 2)
    clock.advance(1)
    assert (cache.get("a"), cache.get("b"), len(cache)) == (None, 2, 1)


class Source:
    """Computes on demand, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.wanted: dict[str, Callable[[], bool]] = {}
        self.futures: dict[str, asyncio.Future[str]] = {}

    def of(self, key: str) -> Callable[[Callable[[], bool]], Any]:
        async def compute(wanted: Callable[[], bool]) -> str:
            self.asked.append(key)
            self.wanted[key] = wanted
            self.futures[key] = asyncio.get_running_loop().create_future()
            try:
                return await self.futures[key]
            except asyncio.CancelledError:
                self.cancelled.append(key)
                raise

        return compute


def test_many_at_once_are_one_computation() -> None:
    async def run() -> None:
        source, flights = Source(), SingleFlight[str](clock=ManualClock())
        tasks = [asyncio.ensure_future(flights.do(key, source.of(key), seconds=5)) for key in "aabab"]
        await settle()
        assert (source.asked, len(flights)) == (["a", "b"], 2)
        source.futures["a"].set_result("A")
        source.futures["b"].set_exception(ModelError("no"))
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one if isinstance(one, str) else type(one) for one in found] == ["A", "A", ModelError, "A", ModelError]
        await settle()
        assert len(flights) == 0
        again = asyncio.ensure_future(flights.do("b", source.of("b"), seconds=5))  # a failure is not kept
        await settle()
        source.futures["b"].set_result("B")
        assert await again == "B"

    asyncio.run(run())


def test_who_is_late_goes_and_the_computation_stays() -> None:
    async def run() -> None:
        clock = ManualClock()
        source, flights = Source(), SingleFlight[str](clock=clock)
        impatient = asyncio.ensure_future(flights.do("a", source.of("a"), seconds=1))
        patient = asyncio.ensure_future(flights.do("a", source.of("a"), seconds=9))
        await settle()
        clock.advance(1)
        with pytest.raises(TimeoutError):
            await impatient
        assert source.wanted["a"]()
        patient.cancel()  # the last who waits goes, but one wants it for the next time
        await settle()
        assert not source.wanted["a"]()
        assert source.cancelled == []
        with pytest.raises(TimeoutError):
            await flights.do("a", source.of("a"), seconds=0)
        source.futures["a"].set_result("A")
        await settle()
        assert (source.asked, len(flights)) == (["a"], 0)

    asyncio.run(run())


def test_a_computation_ends_with_the_last_who_is_cancelled() -> None:
    async def run() -> None:
        source, flights = Source(), SingleFlight[str](clock=ManualClock())
        first, second = (asyncio.ensure_future(flights.do("a", source.of("a"), seconds=5)) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert source.cancelled == []
        second.cancel()
        third = asyncio.ensure_future(flights.do("a", source.of("a"), seconds=5))  # in the same moment
        await settle()
        assert source.cancelled == ["a"]
        assert source.asked == ["a", "a"]
        source.futures["a"].set_result("A")
        assert await third == "A"

    asyncio.run(run())


def test_closing_is_no_cancellation_of_who_waits() -> None:
    async def run() -> None:
        source, flights = Source(), SingleFlight[str](clock=ManualClock())
        task = asyncio.ensure_future(flights.do("a", source.of("a"), seconds=5))
        await settle()
        await flights.aclose()
        with pytest.raises(ShuttingDown):
            await task

    asyncio.run(run())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abc")),
        st.tuples(st.just("finish"), st.sampled_from("abc")),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.just(2)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_never_two_computations_of_one_key_and_never_a_lost_waiter(steps: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        clock = ManualClock()
        source, flights = Source(), SingleFlight[str](clock=clock)
        running: dict[str, int] = {}
        most: list[int] = []
        tasks: list[tuple[str, asyncio.Task[str]]] = []

        def counted(key: str) -> Callable[[Callable[[], bool]], Any]:
            compute = source.of(key)

            async def count(wanted: Callable[[], bool]) -> str:
                running[key] = running.get(key, 0) + 1
                most.append(running[key])
                try:
                    return str(await compute(wanted))
                finally:
                    running[key] -= 1

            return count

        def finish(key: str) -> None:
            future = source.futures.get(key)
            if future is not None and not future.done():
                future.set_result(key.upper())

        for action, what in steps:
            if action == "ask":
                tasks.append((what, asyncio.ensure_future(flights.do(what, counted(what), seconds=5))))
            elif action == "finish":
                finish(what)
            elif action == "cancel" and what < len(tasks):
                tasks[what][1].cancel()
            else:
                clock.advance(2)
            await settle()
        for key in "abc":
            finish(key)
        found = await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        await settle()
        assert all(count == 1 for count in most)
        assert len(flights) == 0
        for (key, _), one in zip(tasks, found, strict=True):
            assert one == key.upper() or isinstance(one, (TimeoutError, asyncio.CancelledError))

    asyncio.run(run())
