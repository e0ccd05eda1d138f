from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lrem_os.errors import EmbeddingError, LremError, ModelError
from lrem_os.query_plugin.engine import worker as worker_module
from lrem_os.query_plugin.engine.worker import Worker
from tests.fakes.clock import until


def test_calls_run_in_a_thread_of_their_own_in_order() -> None:
    async def run() -> None:
        worker = Worker("model")
        seen: list[int] = []
        names = await asyncio.gather(
            *(
                worker.run(lambda number=number: (seen.append(number), threading.current_thread().name))
                for number in range(5)
            )
        )
        assert seen == list(range(5))
        assert {name for _, name in names} == {"model"}
        worker.stop()
        await until(lambda: not worker.alive)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("raised", "expected", "message", "survives"),
    [
        (EmbeddingError("NaN"), EmbeddingError, "NaN", True),
        (ZeroDivisionError("x"), ModelError, "ZeroDivisionError: x", True),
        (StopIteration(), ModelError, "StopIteration", True),
        (SystemExit(3), ModelError, "SystemExit: 3", False),
    ],
)
def test_whatever_a_call_raises_is_an_error_of_ours(
    raised: BaseException, expected: type[LremError], message: str, survives: bool
) -> None:
    def call() -> None:
        raise raised

    async def run() -> None:
        worker = Worker("model")
        with pytest.raises(expected, match=message):
            await worker.run(call)
        if survives:
            assert await worker.run(lambda: 1) == 1
            worker.stop()
        await until(lambda: not worker.alive)

    asyncio.run(run())


def test_a_call_that_outlives_its_loop_harms_nobody() -> None:
    go, ended = threading.Event(), threading.Event()
    failures: list[object] = []

    def call() -> None:
        go.wait(60)
        ended.set()

    async def run() -> Worker:
        worker = Worker("model")
        worker.run(call)
        worker.stop()
        return worker

    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        worker = asyncio.run(run())
        go.set()
        assert ended.wait(60)
        _join(lambda: not worker.alive)
    finally:
        threading.excepthook = hook
    assert failures == []


def _join(ended: Callable[[], bool]) -> None:
    asyncio.run(until(ended))


def test_a_worker_that_ends_takes_no_call_once_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may hear of the end before the thread is over."""
    seen: list[bool] = []
    settled = worker_module._settle

    def settle(*args: Any) -> None:
        seen.append(worker.alive)
        settled(*args)

    def die() -> None:
        raise SystemExit(1)

    async def run() -> None:
        with pytest.raises(ModelError, match="SystemExit"):
            await worker.run(die)

    monkeypatch.setattr(worker_module, "_settle", settle)
    worker = Worker("dying")
    monkeypatch.setattr(worker._thread, "is_alive", lambda: True)
    asyncio.run(run())
    assert seen == [False]
