from __future__ import annotations

import random
import threading
import time

import pytest

from lrem_os.errors import AccessDenied, LremError, SearchRejected, SearchUnavailable
from lrem_os.ingest import throttle
from lrem_os.ingest.throttle import AdaptiveLimit, patiently, wait_time_s


def test_a_refusal_halves_the_limit_down_to_one() -> None:
    limit = AdaptiveLimit(8)
    seen = []
    for _ in range(5):
        limit.turned_away()
        seen.append(limit.limit)
    assert seen == [4, 2, 1, 1, 1]


def test_successes_bring_it_back_to_the_highest_and_no_further() -> None:
    limit = AdaptiveLimit(4)
    limit.turned_away()
    limit.turned_away()
    seen = []
    for _ in range(12):
        limit.succeeded()
        seen.append(limit.limit)
    assert seen[0] == 2
    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_no_more_holders_than_the_limit_and_it_can_shrink_under_them() -> None:
    limit = AdaptiveLimit(4)
    inside, most, after_shrinking, done = 0, 0, 0, threading.Event()
    lock, entered, go, shrunk = threading.Lock(), threading.Semaphore(0), threading.Event(), threading.Event()

    def work() -> None:
        nonlocal inside, most, after_shrinking
        while not done.is_set():
            with limit:
                with lock:
                    inside += 1
                    most = max(most, inside)
                    if shrunk.is_set():
                        after_shrinking = max(after_shrinking, inside)
                entered.release()
                go.wait(30)
                time.sleep(0.002)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert all(entered.acquire(timeout=30) for _ in range(4))
    time.sleep(0.02)  # a fifth could come in
    for _ in range(3):
        limit.turned_away()
    go.set()
    deadline = time.monotonic() + 30
    while limit._holders > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    shrunk.set()
    while not after_shrinking and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02)
    done.set()
    for thread in threads:
        thread.join(30)
    assert most == 4
    assert after_shrinking == 1


def test_waits_grow_and_have_jitter_and_an_end() -> None:
    rng = random.Random(1)
    for attempt, step in ((1, 0.25), (2, 0.5), (5, 4.0), (8, 30.0), (1000, 30.0)):
        waits = [wait_time_s(attempt, None, rng=rng) for _ in range(200)]
        assert step / 2 <= min(waits) < max(waits) <= step
        assert len(set(waits)) == 200


def test_retry_after_is_the_least() -> None:
    assert wait_time_s(1, 7.0, rng=random.Random(1)) == 7.0
    assert wait_time_s(9, 1.0, rng=random.Random(1)) >= 15


class Flaky:
    """Raises a list of errors, then answers."""

    def __init__(self, *errors: LremError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_patience_ends_in_the_answer() -> None:
    told: list[tuple[float, str]] = []
    slept: list[float] = []
    call = Flaky(SearchUnavailable("away"), SearchRejected("busy", retry_after_s=9))
    answer = patiently(call, max_wait_s=60, on_wait=lambda s, why: told.append((s, why)), sleep=slept.append)
    assert answer == "answer"
    assert [why for _, why in told] == ["away", "busy"]
    assert slept == [seconds for seconds, _ in told]
    assert slept[1] == 9


def test_patience_is_not_for_what_waiting_cannot_mend() -> None:
    with pytest.raises(AccessDenied):
        patiently(Flaky(AccessDenied("no")), max_wait_s=60, on_wait=pytest.fail, sleep=pytest.fail)


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with pytest.raises(SearchUnavailable):
        patiently(Flaky(*[SearchUnavailable("away")] * 1000), max_wait_s=100, on_wait=lambda *_: None, sleep=sleep)
    assert 100 < now < 131


def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    with pytest.raises(SearchRejected):
        patiently(
            Flaky(SearchRejected("busy", retry_after_s=86_400)), max_wait_s=60, on_wait=pytest.fail, sleep=pytest.fail
        )


def test_the_sleep_may_end_the_waiting() -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        patiently(Flaky(SearchUnavailable("away")), max_wait_s=60, on_wait=lambda *_: None, sleep=interrupted)
