from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.errors import LremError, ModelError, ModelHung, Overloaded, ShuttingDown
from lrem_os.query_plugin.engine.batcher import Batcher
from tests.fakes.clock import ManualClock, settle, until


class Model:
    """Answers each item with itself times ten; every call waits for a permission, unless it has been told not to."""

    def __init__(self, *, free: bool = False) -> None:
        self.batches: list[list[int]] = []
        self._free = free
        self._gate = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[Any]:
        self.batches.append(list(items))
        if not self._free and not self._gate.acquire(timeout=60):
            raise AssertionError("no permission for a minute")
        return [item * 10 for item in items]

    def let(self, calls: int = 1) -> None:
        self._gate.release(calls)


def build(model: Any, **options: Any) -> Batcher[int, int]:
    given = {"max_batch": 4, "queue_limit": 100, "limit_s": 10.0, "max_hung": 2, "clock": ManualClock()}
    return Batcher(model, name="model", **(given | options))


def test_a_lone_request_waits_for_nothing() -> None:
    async def run() -> None:
        clock = ManualClock()
        batcher = build(Model(free=True), clock=clock)
        answer = await batcher.submit(7)
        assert (answer.value, answer.queue_s) == (70, 0.0)
        assert clock.now() == ManualClock().now()
        await batcher.aclose()

    asyncio.run(run())


def test_what_comes_while_the_model_works_is_one_batch_up_to_the_limit() -> None:
    async def run() -> None:
        model, clock = Model(), ManualClock()
        batcher = build(model, clock=clock)
        first = asyncio.ensure_future(batcher.submit(0))
        await until(lambda: model.batches == [[0]])
        rest = [asyncio.ensure_future(batcher.submit(number)) for number in range(1, 7)]
        await settle()
        assert batcher.num_waiting == 6
        clock.advance(3)
        model.let(3)
        answers = await asyncio.gather(first, *rest)
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert [answer.value for answer in answers] == [number * 10 for number in range(7)]
        assert [answer.queue_s for answer in answers][:2] == [0.0, 3.0]
        await batcher.aclose()

    asyncio.run(run())


STEPS = st.lists(
    st.one_of(
        st.just(("submit", 0)),
        st.just(("let", 0)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.just(("wait", 0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, max_batch=st.integers(1, 5))
def test_every_request_is_answered_once_and_rightly_and_cancelled_ones_are_dropped(
    steps: list[tuple[str, int]], max_batch: int
) -> None:
    async def run() -> None:
        model = Model()
        batcher = build(model, max_batch=max_batch)
        tasks: list[asyncio.Task[Any]] = []
        cancelled: set[int] = set()
        begun: set[int] = set()  # of those cancelled, the ones that may have been in a batch by then
        for action, which in steps:
            if action == "submit":
                tasks.append(asyncio.ensure_future(batcher.submit(len(tasks))))
            elif action == "let":
                model.let()
            elif action == "cancel" and which < len(tasks) and not tasks[which].done():
                await settle()
                waiting = {job.item for job in batcher._queue}
                if tasks[which].cancel():
                    cancelled.add(which)
                    begun |= set() if which in waiting else {which}
            await settle()
        model.let(len(tasks) + 1)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.aclose()
        worked_on = [item for batch in model.batches for item in batch]
        assert len(worked_on) == len(set(worked_on))
        assert all(len(batch) <= max_batch and batch == sorted(batch) for batch in model.batches)
        assert set(worked_on) & (cancelled - begun) == set()
        for number, answer in enumerate(answers):
            if isinstance(answer, asyncio.CancelledError):
                assert number in cancelled
            else:
                assert answer.value == number * 10

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [[], [1, 2, 3], None, 7, [1], ModelError("broken"), ZeroDivisionError(), SystemExit(1), MemoryError()],
)
def test_a_batch_that_fails_is_answered_and_the_next_one_works(answer: Any) -> None:
    async def run() -> None:
        bad = True

        def call(items: Sequence[int]) -> Any:
            if not bad:
                return list(items)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        batcher = build(call)
        found = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
        assert [type(error) for error in found] == [ModelError, ModelError]
        bad = False
        assert (await batcher.submit(3)).value == 3
        await batcher.aclose()

    asyncio.run(run())


def test_an_error_for_one_item_is_its_own() -> None:
    async def run() -> None:
        batcher = build(lambda items: [ModelError("NaN") if item == 2 else item for item in items])
        found = await asyncio.gather(*(batcher.submit(number) for number in (1, 2, 3)), return_exceptions=True)
        assert isinstance(found[1], ModelError)
        assert [answer.value for answer in (found[0], found[2])] == [1, 3]  # type: ignore[union-attr]
        await batcher.aclose()

    asyncio.run(run())


def test_a_call_that_hangs_is_answered_for_and_its_worker_replaced() -> None:
    async def run() -> None:
        model, clock = Model(), ManualClock()
        batcher = build(model, clock=clock)
        hung = asyncio.ensure_future(batcher.submit(1))
        await until(lambda: model.batches == [[1]])
        waiting = asyncio.ensure_future(batcher.submit(2))
        await settle()
        clock.advance(10)
        with pytest.raises(ModelHung, match="10 s"):
            await hung
        await until(lambda: model.batches == [[1], [2]])  # in another thread: the first still hangs
        assert (batcher.num_hung, batcher.broken) == (1, False)
        model.let(2)
        assert (await waiting).value == 20
        await until(lambda: batcher.num_hung == 0)
        await batcher.aclose()

    asyncio.run(run())


def test_with_too_many_hung_calls_it_is_broken_until_one_returns() -> None:
    async def run() -> None:
        model, clock = Model(), ManualClock()
        batcher = build(model, clock=clock)
        hung = []
        for number in range(2):
            hung.append(asyncio.ensure_future(batcher.submit(number)))
            await until(lambda number=number: len(model.batches) == number + 1)
            if number == 1:
                waiting = asyncio.ensure_future(batcher.submit(5))
                await settle()
            clock.advance(10)
            await until(hung[-1].done)
        assert batcher.broken
        with pytest.raises(ModelHung, match="2 calls"):
            await waiting  # nobody is left hanging with them
        with pytest.raises(ModelHung, match="2 calls"):
            await batcher.submit(6)
        model.let(3)
        await until(lambda: not batcher.broken)
        assert (await batcher.submit(7)).value == 70
        assert all(isinstance(task.exception(), ModelHung) for task in hung)
        await batcher.aclose()

    asyncio.run(run())


def test_a_system_without_threads_left_is_a_fault_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        batcher = build(Model(free=True))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(ModelError, match="new thread"):
                await batcher.submit(1)
        assert (await batcher.submit(2)).value == 20
        await batcher.aclose()

    asyncio.run(run())


def test_a_full_queue_refuses_but_first_drops_what_nobody_wants() -> None:
    async def run() -> None:
        model = Model()
        batcher = build(model, queue_limit=2)
        busy = asyncio.ensure_future(batcher.submit(0))
        await until(lambda: model.batches == [[0]])
        unwanted = asyncio.ensure_future(batcher.submit(1, wanted=lambda: False))
        wanted = asyncio.ensure_future(batcher.submit(2))
        await settle()
        another = asyncio.ensure_future(batcher.submit(3))
        with pytest.raises(Overloaded):
            await unwanted
        with pytest.raises(Overloaded, match="2 requests"):
            await batcher.submit(4)
        wanted.cancel()
        await settle()
        last = asyncio.ensure_future(batcher.submit(5))  # in the place of the cancelled one
        await settle()
        model.let(2)
        answers = await asyncio.gather(busy, another, last)
        assert [answer.value for answer in answers] == [0, 30, 50]
        assert model.batches == [[0], [3, 5]]
        await batcher.aclose()

    asyncio.run(run())


def test_what_nobody_waits_for_is_done_last() -> None:
    async def run() -> None:
        model = Model()
        batcher = build(model)
        tasks = [asyncio.ensure_future(batcher.submit(0))]
        await until(lambda: model.batches == [[0]])
        tasks += [asyncio.ensure_future(batcher.submit(n, wanted=lambda n=n: n % 2 == 0)) for n in range(1, 5)]
        await settle()
        model.let(3)
        await asyncio.gather(*tasks)
        assert model.batches == [[0], [2, 4], [1, 3]]
        await batcher.aclose()

    asyncio.run(run())


def test_closing_answers_everybody_and_waits_for_no_call() -> None:
    async def run() -> None:
        model = Model()
        batcher = build(model)
        tasks = [asyncio.ensure_future(batcher.submit(0))]
        await until(lambda: model.batches == [[0]])
        tasks.append(asyncio.ensure_future(batcher.submit(1)))
        await settle()
        await batcher.aclose()
        assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [ShuttingDown] * 2
        with pytest.raises(ShuttingDown):
            await batcher.submit(2)
        model.let()

    asyncio.run(run())


def test_a_storm_of_faults_leaves_nobody_without_an_answer() -> None:
    """Calls that raise, kill their thread, answer garbage and hang, with requests all the while."""

    async def run() -> None:
        clock, hanging = ManualClock(), threading.Event()
        calls = 0

        def call(items: Sequence[int]) -> Any:
            nonlocal calls
            calls += 1
            kind = calls % 6
            if kind == 1:
                raise RuntimeError("CUDA error")
            if kind == 2:
                raise SystemExit(1)
            if kind == 3:
                return []
            if kind == 4:
                hanging.wait(60)
            return [item * 10 for item in items]

        batcher = build(call, clock=clock, max_batch=3, max_hung=1000)
        tasks = []
        for number in range(200):
            tasks.append(asyncio.ensure_future(batcher.submit(number)))
            if number % 3 == 0:
                await settle()
                clock.advance(4)
        for _ in range(1000):
            if all(task.done() for task in tasks):
                break
            clock.advance(4)
            await asyncio.sleep(0.005)
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert all(isinstance(one, LremError) or one.value == number * 10 for number, one in enumerate(found))
        assert {type(one) for one in found} >= {ModelError, ModelHung}
        assert any(not isinstance(one, LremError) for one in found)
        hanging.set()
        await until(lambda: batcher.num_hung == 0)
        await batcher.aclose()

    asyncio.run(run())
