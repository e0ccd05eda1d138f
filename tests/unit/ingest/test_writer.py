from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config import IngestSettings
from lrem_os.errors import (
    AccessDenied,
    RequestRejected,
    SearchRejected,
    SearchTimeout,
    SearchUnavailable,
)
from lrem_os.ingest import throttle
from lrem_os.ingest.writer import BulkWriter
from lrem_os.search.bulk import BulkItem, Outcome
from lrem_os.types import Document

Fault = Callable[[Sequence[BulkItem]], Outcome | None]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(throttle, "_LONGEST_WAIT_S", 0.004)


def items(*ids: object) -> list[BulkItem]:
    return [BulkItem(Document(str(doc_id), "", {}, "", "c", 1), b"x") for doc_id in ids]


def done(batch: Sequence[BulkItem]) -> Outcome:
    return Outcome(list(batch), [], [])


@dataclass
class Desk:
    """A writer with its callbacks, over a server that is a function."""

    fault: Fault = lambda _batch: None
    settings: IngestSettings = field(default_factory=IngestSettings)
    sent: list[list[str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    waits: list[tuple[float, str]] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)

    def open(self) -> BulkWriter:
        return BulkWriter(
            self._send,
            self.settings,
            on_done=lambda batch: self.done.update(item.document.doc_id for item in batch),
            on_refused=lambda item, reason: self.refused.update({item.document.doc_id: reason}),
            on_wait=lambda seconds, why: self.waits.append((seconds, why)),
            probe=lambda item: self.probed.append(item.document.doc_id),
            rng=random.Random(3),
        )

    def deliver(self, *batches: list[BulkItem]) -> None:
        with self.open() as opened:
            for batch in batches:
                opened.submit(batch)
            opened.drain()

    def _send(self, batch: Sequence[BulkItem]) -> Outcome:
        self.sent.append([item.document.doc_id for item in batch])
        return self.fault(batch) or done(batch)


def once_each(*errors: Exception) -> Fault:
    """Return what raises each error once, then lets pass."""
    left = list(errors)

    def fault(_batch: Sequence[BulkItem]) -> None:
        if left:
            raise left.pop(0)

    return fault


def test_everything_is_written_once() -> None:
    desk = Desk()
    desk.deliver(items("a", "b"), items("c"), items("d"))
    assert desk.done == Counter("abcd")
    assert sorted(map(tuple, desk.sent)) == [("a", "b"), ("c",), ("d",)]
    assert (desk.refused, desk.waits) == ({}, [])


@pytest.mark.parametrize("error", [SearchUnavailable("503"), SearchTimeout("late"), SearchRejected("429")])
def test_a_request_that_is_turned_away_is_sent_again_whole(error: Exception) -> None:
    desk = Desk(once_each(error, error))
    desk.deliver(items("a", "b"))
    assert desk.sent == [["a", "b"]] * 3
    assert desk.done == Counter("ab")
    assert len(desk.waits) == 2


def test_retry_after_is_honoured() -> None:
    desk = Desk(once_each(SearchRejected("busy", retry_after_s=0.05)))
    start = time.monotonic()
    desk.deliver(items("a"))
    assert desk.waits == [(0.05, "busy")]
    assert time.monotonic() - start >= 0.05


def test_documents_that_are_turned_away_are_sent_again_alone() -> None:
    answers: Iterator[Callable[[Sequence[BulkItem]], Outcome]] = iter(
        [lambda batch: Outcome(batch[:1], batch[1:], []), lambda batch: Outcome(batch[1:], batch[:1], []), done]
    )
    desk = Desk(lambda batch: next(answers)(batch))
    desk.deliver(items("a", "b", "c"))
    assert desk.sent == [["a", "b", "c"], ["b", "c"], ["b"]]
    assert desk.done == Counter("abc")


def test_documents_that_are_always_turned_away_are_given_up_with_a_reason() -> None:
    desk = Desk(lambda batch: Outcome(batch[:-1], batch[-1:], []), IngestSettings(max_retries=3))
    desk.deliver(items("a", "b"))
    assert desk.sent == [["a", "b"], ["b"], ["b"], ["b"]]
    assert desk.done == Counter("a")
    assert desk.refused == {"b": "turned away 4 times: the cluster is too busy"}


def test_a_refused_document_does_not_hold_up_the_others() -> None:
    desk = Desk(lambda batch: Outcome(batch[:1], [], [(item, "bad mapping") for item in batch[1:]]))
    desk.deliver(items("a", "b"))
    assert (desk.done, desk.refused, len(desk.sent)) == (Counter("a"), {"b": "bad mapping"}, 1)


def test_a_request_refused_as_a_whole_is_split_down_to_the_culprit() -> None:
    def fault(batch: Sequence[BulkItem]) -> None:
        if any(item.document.doc_id == "13" for item in batch):
            raise RequestRejected("413: too large")

    desk = Desk(fault)
    desk.deliver(items(*range(32)))
    assert desk.refused == {"13": "413: too large"}
    assert desk.done == Counter(str(number) for number in range(32) if number != 13)
    assert len(desk.sent) == 11  # 1 + 2 a level, 5 levels


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_a_request_too_large_is_split_until_it_fits(limit: int) -> None:
    """One node says 413, another cuts the connection: both must come to an end."""
    for error in (RequestRejected("413"), SearchUnavailable("connection reset")):

        def fault(batch: Sequence[BulkItem], error: Exception = error) -> None:
            if len(batch) > limit:
                raise error

        desk = Desk(fault)
        desk.deliver(items(*range(20)))
        assert desk.done == Counter(map(str, range(20)))
        assert desk.refused == {}


def test_a_document_that_always_breaks_its_request_is_refused_once_the_cluster_is_known_to_be_there() -> None:
    def fault(batch: Sequence[BulkItem]) -> None:
        if any(item.document.doc_id == "poison" for item in batch):
            raise SearchUnavailable("connection reset")

    desk = Desk(fault, IngestSettings(max_retries=2))
    desk.deliver(items("a", "poison", "b", "c"), items("d"))
    assert desk.done == Counter("abcd")
    assert desk.refused == {"poison": "connection reset"}
    assert desk.probed == ["poison"]
    assert desk.sent.count(["poison"]) == 4  # first, two retries, one more after the probe


def test_a_cluster_that_is_away_for_a_while_costs_no_document() -> None:
    """Longer away than a document has retries: the probe waits for it, and then all goes through."""
    back = threading.Event()

    def fault(_batch: Sequence[BulkItem]) -> None:
        if not back.is_set():
            raise SearchUnavailable("connection refused")

    desk = Desk(fault, IngestSettings(max_retries=1))
    opened = desk.open()
    opened._probe = lambda _item: back.set()
    with opened:
        for number in range(5):
            opened.submit(items(number, f"{number}b"))
        opened.drain()
    assert sum(desk.done.values()) == len(desk.done) == 10
    assert desk.refused == {}


def test_a_cluster_that_stays_away_ends_the_run() -> None:
    desk = Desk(once_each(*[SearchUnavailable("away")] * 10_000), IngestSettings(max_wait_s=0.05))
    opened = desk.open()
    opened._probe = once_each(*[SearchUnavailable("away")] * 100)  # type: ignore[arg-type]
    with opened, pytest.raises(SearchUnavailable, match="away"):  # noqa: PT012
        for batch in (items("a", "b"), items("c")):
            opened.submit(batch)
        opened.drain()
    assert (desk.done, desk.refused) == (Counter(), {})


def test_patience_begins_at_the_first_failure_and_not_while_nothing_is_sent() -> None:
    """A model that takes long over the first documents leaves the cluster no less time to come back."""
    desk = Desk(once_each(SearchUnavailable("away")), IngestSettings(max_wait_s=0.05))
    with desk.open() as writer:
        time.sleep(0.1)
        writer.submit(items("a"))
        writer.drain()
    assert desk.done == Counter({"a": 1})


def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    desk = Desk(once_each(SearchRejected("busy", retry_after_s=86_400)))
    with pytest.raises(SearchRejected):
        desk.deliver(items("a"))
    assert desk.waits == []


def test_what_waiting_cannot_mend_ends_the_run_at_once() -> None:
    def fault(batch: Sequence[BulkItem]) -> None:
        if batch[0].document.doc_id == "3":
            raise AccessDenied("403")

    desk = Desk(fault)
    with desk.open() as opened, pytest.raises(AccessDenied):  # noqa: PT012 - which of the calls raises is open
        for number in range(1000):
            opened.submit(items(number))
        opened.drain()
    assert len(desk.sent) < 1000


def test_an_error_in_a_callback_ends_the_run() -> None:
    desk = Desk()
    opened = desk.open()

    def full(_batch: Sequence[BulkItem]) -> None:
        raise OSError("disk full")

    opened._on_done = full
    with opened, pytest.raises(OSError, match="disk full"):  # noqa: PT012
        opened.submit(items("a"))
        opened.drain()


def test_submitting_waits_while_the_senders_are_busy() -> None:
    release = threading.Event()
    desk = Desk(lambda _batch: release.wait(30) and None, IngestSettings(senders=2))
    submitted = 0

    def feed() -> None:
        nonlocal submitted
        with desk.open() as opened:
            for number in range(20):
                opened.submit(items(number))
                submitted += 1
            opened.drain()

    feeder = threading.Thread(target=feed)
    feeder.start()
    deadline = time.monotonic() + 30
    while (submitted, len(desk.sent)) != (4, 2) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)
    seen = submitted, len(desk.sent)
    release.set()
    feeder.join(30)
    assert seen == (4, 2)  # two on their way, two wait
    assert len(desk.done) == 20


def test_leaving_early_stops_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(throttle, "_LONGEST_WAIT_S", 60.0)
    desk = Desk(once_each(*[SearchUnavailable("away")] * 10))
    start = time.monotonic()
    with desk.open() as opened:
        opened.submit(items("a"))
        while not desk.waits:
            time.sleep(0.005)
    assert time.monotonic() - start < 10
    assert desk.done == Counter()


def test_the_limit_shrinks_under_pressure_and_recovers() -> None:
    lowest: list[float] = []
    desk = Desk(settings=IngestSettings(senders=4))
    opened = desk.open()
    busy = [True]

    def fault(batch: Sequence[BulkItem]) -> None:
        lowest.append(opened.limit.limit)
        if busy[0]:
            busy[0] = len(lowest) < 8
            raise SearchRejected("429")

    desk.fault = fault
    with opened:
        for number in range(30):
            opened.submit(items(number))
        opened.drain()  # no refusal is on its way any more
        for number in range(30, 60):
            opened.submit(items(number))
        opened.drain()
        assert opened.limit.limit == 4
    assert min(lowest) == 1
    assert len(desk.done) == 60


ANSWERS = st.sampled_from(["done", "done", "done", "again", "refused", "429", "503", "timeout", "413"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(ANSWERS, max_size=4), min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 6))
def test_every_document_ends_once_whatever_the_server_does(
    scripts: list[list[str]], senders: int, batch_size: int
) -> None:
    """Each document has a list of what happens to it, try by try; after it, it is written."""
    left = {str(number): list(script) for number, script in enumerate(scripts)}
    lock = threading.Lock()
    errors: dict[str, Any] = {
        "429": SearchRejected("429", retry_after_s=0.001),
        "503": SearchUnavailable("503"),
        "timeout": SearchTimeout("late"),
        "413": RequestRejected("413"),
    }

    def fault(batch: Sequence[BulkItem]) -> Outcome:
        outcome = Outcome([], [], [])
        with lock:
            ends = {item.document.doc_id: (left[item.document.doc_id] or ["done"])[0] for item in batch}
            for doc_id in ends:
                del left[doc_id][:1]
        for end in ends.values():
            if end in errors:
                raise errors[end]
        for item in batch:
            end = ends[item.document.doc_id]
            if end == "refused":
                outcome.refused.append((item, "refused"))
            else:
                (outcome.done if end == "done" else outcome.again).append(item)
        return outcome

    desk = Desk(fault, IngestSettings(senders=senders, max_retries=50))
    batches = [
        items(*range(start, min(start + batch_size, len(scripts)))) for start in range(0, len(scripts), batch_size)
    ]
    desk.deliver(*batches)
    assert Counter(desk.refused.keys()) + desk.done == Counter(map(str, range(len(scripts))))
