from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrem_os.query_plugin.engine.breaker import Breaker
from tests.fakes.clock import ManualClock


def build(clock: ManualClock, *, window: int = 4, share: float = 0.5) -> Breaker:
    return Breaker(window=window, share=share, open_s=5.0, clock=clock)


def record(breaker: Breaker, *outcomes: bool) -> None:
    for ok in outcomes:
        permit = breaker.ask()
        assert permit is not None
        breaker.record(permit, ok=ok)


def test_it_opens_at_the_share_of_failures_but_not_for_the_first() -> None:
    breaker = build(ManualClock())
    record(breaker, False)
    assert not breaker.is_open
    record(breaker, True)
    assert breaker.is_open
    assert breaker.ask() is None


def test_successes_never_open_it() -> None:
    breaker = build(ManualClock())
    record(breaker, *[True] * 50)
    assert not breaker.is_open


def test_only_the_last_outcomes_count() -> None:
    breaker = build(ManualClock())
    record(breaker, *[True] * 50, False)
    assert not breaker.is_open
    record(breaker, False)
    assert breaker.is_open


@pytest.mark.parametrize("ok", [True, False])
def test_one_trial_decides(ok: bool) -> None:
    clock = ManualClock()
    breaker = build(clock)
    record(breaker, False, False)
    clock.advance(4.9)
    assert breaker.ask() is None
    clock.advance(0.1)
    trial = breaker.ask()
    assert trial is not None
    assert breaker.ask() is None  # one at a time
    breaker.record(trial, ok=ok)
    assert breaker.is_open is not ok
    assert (breaker.ask() is None) is not ok


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another() -> None:
    clock = ManualClock()
    breaker = build(clock)
    record(breaker, False, False)
    clock.advance(5)
    lost = breaker.ask()
    clock.advance(5)
    trial = breaker.ask()
    assert trial is not None
    assert lost is not None
    breaker.record(lost, ok=True)  # comes after all, and says nothing any more
    assert breaker.is_open
    breaker.record(trial, ok=True)
    assert not breaker.is_open


def test_what_was_permitted_before_it_opened_says_nothing_about_after() -> None:
    clock = ManualClock()
    breaker = build(clock)
    old = breaker.ask()
    assert old is not None
    record(breaker, False, False)
    breaker.record(old, ok=True)
    assert breaker.is_open
    clock.advance(5)
    record(breaker, True)
    breaker.record(old, ok=False)
    record(breaker, True, True)
    assert not breaker.is_open


class BreakerMachine(RuleBasedStateMachine):
    """Against a model of a few lines: closed with a window, or open with the time of the next trial."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker(window=5, share=0.6, open_s=7.0, clock=self.clock)
        self.window: list[bool] = []
        self.trial_at: float | None = None
        self.trial: int | None = None
        self.permits: list[int] = []
        self.stale: list[int] = []

    @rule()
    def ask(self) -> None:
        permit = self.breaker.ask()
        if self.trial_at is None:
            assert permit is not None
            self.permits.append(permit)
        elif self.clock.now() >= self.trial_at:
            assert permit is not None
            if self.trial is not None:
                self.stale.append(self.trial)
            self.trial, self.trial_at = permit, self.clock.now() + 7.0
        else:
            assert permit is None

    @precondition(lambda self: self.permits)
    @rule(ok=st.booleans())
    def record(self, ok: bool) -> None:
        self.breaker.record(self.permits.pop(), ok=ok)
        self.window = [*self.window, ok][-5:]
        if len(self.window) >= 3 and self.window.count(False) >= 0.6 * len(self.window):
            self._open()

    @precondition(lambda self: self.trial is not None)
    @rule(ok=st.booleans())
    def record_trial(self, ok: bool) -> None:
        assert self.trial is not None
        self.breaker.record(self.trial, ok=ok)
        self.stale.append(self.trial)
        self.trial = None
        self.window.clear()
        self.trial_at = None if ok else self.clock.now() + 7.0

    @precondition(lambda self: self.stale)
    @rule(ok=st.booleans())
    def record_stale(self, ok: bool) -> None:
        self.breaker.record(self.stale.pop(), ok=ok)

    @rule(seconds=st.sampled_from([0.5, 3.0, 7.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _open(self) -> None:
        self.stale += self.permits
        self.permits.clear()
        self.window.clear()
        self.trial, self.trial_at = None, self.clock.now() + 7.0

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.is_open == (self.trial_at is not None)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
