"""One thread for the blocking calls of one model. The event loop hands it one call at a time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from lrem_os.errors import LremError, ModelError

R = TypeVar("R")
_Call = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Runner(Protocol):
    """What runs a model's calls, one after the other."""

    @property
    def alive(self) -> bool:
        """Whether it takes another call."""
        ...

    def run(self, call: Callable[[], R]) -> asyncio.Future[R]:
        """Return the future of a call's result; its exception is one of ours."""
        ...

    def stop(self) -> None:
        """End after the calls that it has; nobody waits for it."""
        ...


class Worker:
    """A ``Runner``: a thread that runs calls one after the other, until it is told to stop or a call takes it down.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._is_ending = False
        # A daemon: a call that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs, and takes another call."""
        return self._thread.is_alive() and not self._is_ending

    def run(self, call: Callable[[], R]) -> asyncio.Future[R]:
        """Return the future of a call's result; its exception is a ``ModelError``, or what it raised of ours."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._calls.put((call, loop, future))
        return future

    def stop(self) -> None:
        """Let the thread end after the calls that it has; nobody waits for it."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            call, loop, future = item
            result, error, fatal = None, None, False
            try:
                result = call()
            except LremError as exc:
                error = exc
            except BaseException as exc:  # carried over to the loop, whatever it is: somebody waits for an answer
                error = ModelError(f"the model failed: {type(exc).__name__}: {exc}")
                error.__cause__, fatal = exc, not isinstance(exc, Exception)
            self._is_ending = fatal  # before the loop hears of it, and hands over the next call
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, error)
            if fatal:  # SystemExit and the like: as the thread's own end
                return
            del item, call, future, result, error  # a vector is not kept until the next call


def _settle(future: asyncio.Future[Any], result: object, error: LremError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
