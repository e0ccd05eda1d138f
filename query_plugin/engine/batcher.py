"""Micro-batches: requests that come while the model works are handed to it together, next.

An idle worker takes what is there at once, so a lone request waits for nothing. Every request is answered exactly
once: with its answer, or with an error of ours; a call that hangs is answered for after its limit, and its thread is
left behind and replaced. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lrem_os.errors import LremError, ModelError, ModelHung, Overloaded, ShuttingDown
from lrem_os.query_plugin.engine.clock import Clock, LoopClock, wait_for
from lrem_os.query_plugin.engine.worker import Runner, Worker

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def always() -> bool:
    """Return that somebody waits."""
    return True


@dataclass(frozen=True, slots=True)
class Answered(Generic[Answer]):
    """One answer.

    Args:
        value: What the model made of the item.
        queue_s: Seconds that the item waited for its batch to begin.
    """

    value: Answer
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Job(Generic[Item, Answer]):
    item: Item
    future: asyncio.Future[Answered[Answer]]
    wanted: Callable[[], bool]
    since: float


class Batcher(Generic[Item, Answer]):
    """Gathers items into batches for one blocking function.

    Args:
        call: From B items to B answers, in their order; an answer that is an error is that item's alone. Runs in a
            thread of its own, one call at a time, except beside calls that hang.
        name: Of the thread and in messages.
        max_batch: Items in one call.
        queue_limit: Items that wait; one more is refused, unless there is one that nobody wants any more.
        limit_s: Seconds after which a call counts as hung.
        max_hung: So many calls may hang at once before no further worker is started.
        clock: Decides what hangs.
        worker: Starts what runs the calls, by the name of its thread.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Sequence[Answer | LremError]],
        *,
        name: str,
        max_batch: int,
        queue_limit: int,
        limit_s: float,
        max_hung: int = 3,
        clock: Clock | None = None,
        worker: Callable[[str], Runner] = Worker,
    ) -> None:
        self._call, self._name = call, name
        self._max_batch, self._queue_limit = max_batch, queue_limit
        self._limit_s, self._max_hung = limit_s, max_hung
        self._clock, self._start_worker = clock or LoopClock(), worker
        self._queue: list[_Job[Item, Answer]] = []
        self._hung: dict[asyncio.Future[list[Answer | LremError]], Runner] = {}
        self._worker: Runner | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def num_waiting(self) -> int:
        """Items in the queue."""
        return sum(not job.future.done() for job in self._queue)

    @property
    def num_hung(self) -> int:
        """Calls that hang at this moment."""
        return sum(worker.alive for worker in self._hung.values())

    @property
    def broken(self) -> bool:
        """Whether so many calls hang that nothing is accepted until one of them ends."""
        return self.num_hung >= self._max_hung

    async def submit(self, item: Item, *, wanted: Callable[[], bool] = always) -> Answered[Answer]:
        """Return the answer to one item. Cancelled, the item is dropped unless its batch has begun.

        Args:
            item: For the model.
            wanted: Whether somebody still waits. Items that nobody waits for are worked on when there are no others,
                and make room for others.

        Raises:
            ModelError: The model failed, or gave no answer to this item.
            ModelHung: It gave none in time, or hangs altogether.
            Overloaded: The queue is full.
            ShuttingDown: The batcher is closed.
        """
        if self._closed:
            raise ShuttingDown(f"the {self._name} is shutting down")
        if self.broken:
            raise self._all_hung()
        self._make_room()
        future: asyncio.Future[Answered[Answer]] = asyncio.get_running_loop().create_future()
        job = _Job(item, future, wanted, self._clock.now())
        self._queue.append(job)
        self._wake()
        return await future

    async def aclose(self) -> None:
        """Refuse what waits and what comes; a call under way is not waited for."""
        self._closed = True
        _fail(self._queue, ShuttingDown(f"the {self._name} is shutting down"))
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _make_room(self) -> None:
        """Drop what is cancelled and, if it must be, the oldest item that nobody waits for."""
        if len(self._queue) < self._queue_limit:
            return
        self._queue = [job for job in self._queue if not job.future.done()]
        if len(self._queue) < self._queue_limit:
            return
        full = Overloaded(f"{len(self._queue)} requests wait for the {self._name} already", hint="try again later")
        for number, job in enumerate(self._queue):
            if not job.wanted():
                _fail([job], full)
                del self._queue[number]
                return
        raise full

    def _wake(self) -> None:
        if self._task is None and self._queue and not self._closed:
            # A task begins after what runs now: requests of the same moment gather.
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while batch := self._take():
                await self._run(batch)
        finally:
            self._task = None

    def _take(self) -> list[_Job[Item, Answer]]:
        """Return the next batch: the oldest items that somebody waits for, or if there are none, the oldest."""
        live = [job for job in self._queue if not job.future.done()]
        batch = ([job for job in live if job.wanted()] or live)[: self._max_batch]
        taken = {id(job) for job in batch}
        self._queue = [job for job in live if id(job) not in taken]
        return batch

    async def _run(self, batch: list[_Job[Item, Answer]]) -> None:
        begun = self._clock.now()
        try:
            worker = self._ready_worker()
        except RuntimeError as exc:  # the system has no thread left
            _fail(batch, ModelError(f"the {self._name} cannot run: {exc}"))
            return
        items = [job.item for job in batch]
        future = worker.run(lambda: self._checked(items))
        try:
            answers = await wait_for(future, self._limit_s, self._clock)
        except TimeoutError:
            self._abandon(future, batch)
        except LremError as exc:
            _fail(batch, exc)
        except asyncio.CancelledError:
            _fail(batch, ShuttingDown(f"the {self._name} is shutting down"))
            raise
        else:
            for job, answer in zip(batch, answers, strict=True):
                if isinstance(answer, LremError):
                    _fail([job], answer)
                elif not job.future.done():
                    job.future.set_result(Answered(answer, begun - job.since))

    def _ready_worker(self) -> Runner:
        if self._worker is None or not self._worker.alive:
            self._worker = self._start_worker(f"lrem-{self._name}")
        return self._worker

    def _checked(self, items: list[Item]) -> list[Answer | LremError]:
        answers = list(self._call(items))
        if len(answers) != len(items):
            raise ModelError(f"the {self._name} gave {len(answers)} answers to {len(items)} requests")
        return answers

    def _abandon(self, future: asyncio.Future[list[Answer | LremError]], batch: list[_Job[Item, Answer]]) -> None:
        """Leave the worker to its call, and answer for it."""
        if self._worker is not None:
            self._worker.stop()  # as soon as the call returns, if it ever does
            self._hung[future] = self._worker
            self._worker = None
        future.add_done_callback(self._returned)
        _fail(batch, ModelHung(f"the {self._name} did not answer within {self._limit_s:g} s"))
        if self.broken:
            _fail(self._queue, self._all_hung())
            self._queue.clear()

    def _returned(self, future: asyncio.Future[list[Answer | LremError]]) -> None:
        """Take note that a call that hung has ended; its answers come too late for everybody."""
        self._hung.pop(future, None)
        if not future.cancelled():
            future.exception()  # is told to nobody, and that is meant
        self._wake()

    def _all_hung(self) -> ModelHung:
        return ModelHung(f"{self.num_hung} calls of the {self._name} hang", hint="restart the service")


def _fail(jobs: Sequence[_Job[Item, Answer]], error: LremError) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
