"""Sends bulk requests, several at a time, until every document is indexed or refused for good.

Three kinds of trouble, three answers: the cluster is busy (429, 503, per request or per item): wait and send again,
fewer at a time. The cluster is away (no connection, time-out): wait, up to ``max_wait_s``, for it to come back. The
request itself is wrong (too large, or one poisoned document): split it until the culprit stands alone. The second and
the third look alike where a request is cut off without an answer, so one that fails again and again is split as well.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lrem_os.config import IngestSettings
from lrem_os.errors import RequestRejected, SearchError, SearchRejected
from lrem_os.ingest.throttle import AdaptiveLimit, wait_time_s
from lrem_os.search.bulk import BulkItem, Outcome

_SPLIT_AFTER = 3  # failures in a row of the same request

Send = Callable[[Sequence[BulkItem]], Outcome]
"""Sends one batch and says how each item ended. Raises ``SearchError`` when the request as a whole failed."""


class Stopped(Exception):
    """The writer was told to stop while it waited."""


class BulkWriter:
    """A pool of senders with a bounded queue. Use as a context manager; ``drain`` before leaving it.

    Args:
        send: Sends one batch.
        settings: Number of senders, retries, patience.
        on_done: Told about items as they are indexed.
        on_refused: Told about an item that never will be, with the reason.
        on_wait: Told, before a wait, how long and why.
        probe: Returns once the cluster answers to something else about the item. Raises ``SearchError``.
        rng: Source of jitter.
    """

    def __init__(
        self,
        send: Send,
        settings: IngestSettings,
        *,
        on_done: Callable[[Sequence[BulkItem]], None],
        on_refused: Callable[[BulkItem, str], None],
        on_wait: Callable[[float, str], None] = lambda _seconds, _why: None,
        probe: Callable[[BulkItem], object] = lambda _item: None,
        rng: random.Random | None = None,
    ) -> None:
        self._send = send
        self._settings = settings
        self._on_done, self._on_refused, self._on_wait = on_done, on_refused, on_wait
        self._probe = probe
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self.limit = AdaptiveLimit(settings.senders)
        self._stop = threading.Event()
        self._slots = threading.BoundedSemaphore(settings.senders * 2)  # batches waiting or on their way
        self._pool = ThreadPoolExecutor(settings.senders, thread_name_prefix="lrem-os-sender")
        self._failed: BaseException | None = None
        self._away_since: float | None = None  # the first failure after a success

    def __enter__(self) -> BulkWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, batch: list[BulkItem]) -> None:
        """Hand over a batch; blocks while the senders are busy. Raises the first error that ended a sender."""
        self._slots.acquire()
        if self._failed is not None:
            raise self._failed
        self._pool.submit(self._deliver, batch).add_done_callback(self._finished)

    def drain(self) -> None:
        """Wait until everything handed over has been decided. Raises the first error that ended a sender."""
        for _ in range(self._settings.senders * 2):
            self._slots.acquire()
        if self._failed is not None:
            raise self._failed
        for _ in range(self._settings.senders * 2):
            self._slots.release()

    def _finished(self, future: Future[None]) -> None:
        if not future.cancelled() and (exc := future.exception()) is not None and self._failed is None:
            self._failed = exc
            self._stop.set()
        self._slots.release()

    def _deliver(self, batch: list[BulkItem], waits: int = 0) -> None:
        """Send a batch until all of it is decided.

        Args:
            batch: Documents.
            waits: How often the batch that this one is a part of has waited.
        """
        pending, attempt, failures = batch, 0, 0
        while pending:
            try:
                with self.limit:
                    self._check_stopped()
                    outcome = self._send(pending)
            except RequestRejected as exc:
                self._split(pending, exc, waits)
                return
            except SearchError as exc:
                if not exc.retryable:
                    raise
                failures += 1
                if self._is_to_blame(pending, exc, failures, waits + failures):
                    self._split(pending, exc, waits + failures)
                    return
                continue
            failures = 0
            pending, attempt = self._settle(outcome, attempt)

    def _is_to_blame(self, batch: list[BulkItem], exc: SearchError, failures: int, waits: int) -> bool:
        """Wait before a request is sent again; say whether it is the request that fails, and not the cluster."""
        if len(batch) == 1 and failures > self._settings.max_retries + 1:
            return True
        self._back_off(exc, waits)
        if len(batch) == 1 and failures > self._settings.max_retries:
            self._probe(batch[0])  # the cluster is there: one last try
        return len(batch) > 1 and failures >= _SPLIT_AFTER

    def _settle(self, outcome: Outcome, attempt: int) -> tuple[list[BulkItem], int]:
        """Report what is decided; return what is to be sent again, and the number of the attempt behind."""
        self._away_since = None
        for item, reason in outcome.refused:
            self._on_refused(item, reason)
        if outcome.done:
            self._on_done(outcome.done)
        if not outcome.again:
            self.limit.succeeded()
            return [], 0
        if attempt >= self._settings.max_retries:
            for item in outcome.again:
                self._on_refused(item, f"turned away {attempt + 1} times: the cluster is too busy")
            return [], 0
        self.limit.turned_away()
        self._wait(wait_time_s(attempt + 1, None, rng=self._rng), f"{len(outcome.again)} documents were turned away")
        return outcome.again, attempt + 1

    def _back_off(self, exc: SearchError, attempt: int) -> None:
        """Wait before a request is sent again; give up when the cluster has been away for too long."""
        self.limit.turned_away()
        now, since = time.monotonic(), self._away_since  # read once: other senders write it
        if since is None:
            since = self._away_since = now
        away_s = now - since
        retry_after_s = exc.retry_after_s if isinstance(exc, SearchRejected) else None
        if away_s + (retry_after_s or 0.0) > self._settings.max_wait_s:
            raise exc
        self._wait(wait_time_s(attempt, retry_after_s, rng=self._rng), exc.message)

    def _split(self, batch: list[BulkItem], exc: SearchError, waits: int) -> None:
        if len(batch) == 1:
            self._on_refused(batch[0], exc.message)
            return
        middle = len(batch) // 2
        self._deliver(batch[:middle], waits)
        self._deliver(batch[middle:], waits)

    def _wait(self, seconds: float, why: str) -> None:
        self._on_wait(seconds, why)
        self._stop.wait(seconds)
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped
