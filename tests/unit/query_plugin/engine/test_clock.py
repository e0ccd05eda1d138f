from __future__ import annotations

import asyncio

import pytest

from lrem_os.errors import ShuttingDown
from lrem_os.query_plugin.engine.clock import LoopClock, wait_for
from tests.fakes.clock import ManualClock, settle


def test_a_result_in_time_is_returned_and_the_timer_is_gone() -> None:
    async def run() -> None:
        clock = ManualClock()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(wait_for(future, 5, clock))
        await settle()
        future.set_result(3)
        assert await waiting == 3
        assert [timer for timer in clock.timers if not timer.cancelled] == []

    asyncio.run(run())


def test_a_late_future_is_left_alone() -> None:
    async def run() -> None:
        clock = ManualClock()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(wait_for(future, 5, clock))
        await settle()
        clock.advance(4.9)
        await settle()
        assert not waiting.done()
        clock.advance(0.1)
        with pytest.raises(TimeoutError):
            await waiting
        future.set_result(4)
        assert await wait_for(future, 0, clock) == 4  # what is done is had without waiting

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_is_no_waiting(seconds: float) -> None:
    async def run() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await wait_for(future, seconds, ManualClock())

    asyncio.run(run())


def test_who_waits_can_be_cancelled_without_the_future() -> None:
    async def run() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(wait_for(future, float("inf"), ManualClock()))
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not future.cancelled()

    asyncio.run(run())


def test_a_cancelled_future_is_no_cancellation_of_who_waits() -> None:
    async def run() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(wait_for(future, 5, ManualClock()))
        await settle()
        future.cancel()
        with pytest.raises(ShuttingDown):
            await waiting

    asyncio.run(run())


def test_the_loops_clock_goes_on() -> None:
    async def run() -> None:
        clock, called = LoopClock(), asyncio.Event()
        begun = clock.now()
        clock.call_later(0.01, called.set)
        await called.wait()
        assert clock.now() - begun >= 0.009

    asyncio.run(run())
