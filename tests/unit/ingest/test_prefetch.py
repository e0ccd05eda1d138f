from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lrem_os.ingest import prefetch
from lrem_os.ingest.prefetch import Prefetch


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lrem-os-reader"]


def test_items_come_in_order_and_the_thread_ends() -> None:
    with Prefetch(iter(range(100)), ahead=2) as items:
        assert list(items) == list(range(100))
    assert readers() == []


def test_nothing_to_do() -> None:
    with Prefetch(iter(()), ahead=1) as items:
        assert list(items) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def produce() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    with Prefetch(produce(), ahead=5) as items:
        taken = iter(items)
        assert [next(taken), next(taken)] == [1, 2]
        with pytest.raises(ValueError, match="three"):
            next(taken)
    assert readers() == []


def test_it_runs_ahead_by_a_bounded_number() -> None:
    produced = 0

    def produce() -> Iterator[int]:
        nonlocal produced
        for number in range(50):
            produced += 1
            yield number

    with Prefetch(produce(), ahead=3) as items:
        taken = iter(items)
        assert next(taken) == 0
        deadline = time.monotonic() + 5
        while produced < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert produced == 5  # one taken, three wait, one is in the hand
    assert produced == 5
    assert readers() == []


def test_leaving_early_does_not_hang_on_a_producer_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_GRACE_S", 0.05)
    release = threading.Event()

    def produce() -> Iterator[int]:
        yield 1
        release.wait(30)  # a cluster that is away
        yield 2

    start = time.monotonic()
    items = Prefetch(produce(), ahead=1).__enter__()
    assert next(iter(items)) == 1
    items.__exit__(KeyboardInterrupt)
    assert time.monotonic() - start < 5
    release.set()
    for thread in readers():
        thread.join(5)
    assert readers() == []


def test_silence_is_told() -> None:
    go_on = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        go_on.wait()
        yield 2

    seen: list[int | None] = []
    with Prefetch(slow(), ahead=1) as items:
        for item in items.ticking(0.01):
            seen.append(item)
            if len(seen) > 2:
                go_on.set()
    assert seen[:3] == [1, None, None]
    assert [item for item in seen if item is not None] == [1, 2]
