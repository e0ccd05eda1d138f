"""Runs an iterator in a thread of its own, a bounded number of items ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL_S = 0.1
_GRACE_S = 3.0


class Prefetch(Generic[T]):
    """Iterate over it once; leave it as a context manager, and its thread ends.

    Args:
        items: Consumed in the other thread; its exception is raised here, after the items before it.
        ahead: Items that may wait.
    """

    def __init__(self, items: Iterable[T], *, ahead: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lrem-os-reader", daemon=True)

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._stop.set()
        # after an error or an interrupt nobody wants what it reads: it may be waiting for a cluster that is away
        self._thread.join(None if kind is None else _GRACE_S)

    def __iter__(self) -> Iterator[T]:
        for item in self.ticking(None):
            if item is not None:
                yield item

    def ticking(self, every_s: float | None) -> Iterator[T | None]:
        """Yield the items, and ``None`` whenever none has come for so many seconds."""
        while True:
            try:
                item, error, is_last = self._queue.get(timeout=every_s)
            except queue.Empty:
                yield None
                continue
            if error is not None:
                raise error
            if is_last or item is None:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None, False)):
                    return
        except BaseException as exc:
            self._put((None, exc, True))
        else:
            self._put((None, None, True))

    def _put(self, entry: tuple[T | None, BaseException | None, bool]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
