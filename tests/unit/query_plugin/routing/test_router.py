from __future__ import annotations

import math

import numpy as np
import pytest

from lrem_os.config_query import RouteSettings
from lrem_os.query_plugin.routing.budget import FixedBudget, PriceBudget, ShareBudget
from lrem_os.query_plugin.routing.features import Landmarks
from lrem_os.query_plugin.routing.gate import Gate, Stage
from lrem_os.query_plugin.routing.router import GateRouter, build_router
from lrem_os.query_plugin.routing.signals import Leg, Signals

VECTOR = np.array([1.0, 0.0], np.float32)
FOUND = Signals(Leg(("a",), (9.0,)), Leg(("a",), (1.9,)))
LOST = Signals(Leg(("a",), (1.0,)), Leg(("b",), (1.1,)))


def stage(name: str, mean: float, weight: float) -> Stage:
    one = np.ones(1)
    reference = tuple(at / 100 for at in range(101))
    covariance = 0.01 * np.eye(2)
    return Stage((name,), mean * one, one * 0.1, weight * one, 0.0, 1.0, 0.0, covariance, one * -0.02, 0.03, reference)


GATE = Gate({"before": stage("question", 0.5, 1.0), "after": stage("top_cosine", 0.5, -1.0)}, Landmarks(), {})


def router(**lists: tuple[str, ...]) -> GateRouter:
    return GateRouter(GATE, FixedBudget(0.5), FixedBudget(0.9), **lists)


def test_what_direct_retrieval_finds_is_left_to_it() -> None:
    assert not router().decide("red mug", VECTOR, FOUND).reasoned
    lost = router().decide("mother-in-law tongue", VECTOR, LOST)
    assert (lost.reasoned, lost.why, lost.threshold) == (True, "above_threshold", 0.5)
    assert lost.features == {"top_cosine": pytest.approx(0.1)}
    assert lost.interval[0] < lost.score < lost.interval[1]
    assert lost.score > 0.97
    assert lost.gain == pytest.approx(0.11)  # 0.03 + 4 standard deviations of 0.02


def test_without_signals_the_other_stage_and_its_own_budget_decide() -> None:
    decision = router().decide("what helps?", VECTOR, None)
    assert (decision.reasoned, decision.threshold) == (True, 0.9)
    assert set(decision.features) == {"question"}
    assert not router().decide("red mug", VECTOR, None).reasoned


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("  Red   MUG ", "allowed"),
        ("gift for dad?", "allowed"),
        ("gift for a dad", "denied"),
        ("ab", "above_threshold"),
        ("a[bc]", "allowed"),
        ("a?b", "above_threshold"),
        (" \u200b", "blank"),
    ],
)
def test_lists_match_whole_queries_and_a_star_stands_for_anything(text: str, why: str) -> None:
    lists = {"allow": ("red mug", "gift for*", "a[bc]", "a?"), "deny": ("*a dad",)}
    decision = router(**lists).decide(text, VECTOR, LOST)
    assert decision.why == why
    assert decision.reasoned == (why in ("allowed", "above_threshold"))
    ruled = router(**lists).rule(text)
    assert (ruled.why if ruled is not None else "above_threshold") == why
    assert math.isnan(decision.score) == (ruled is not None)


def test_the_budget_learns_from_scores_and_not_from_rules() -> None:
    seen: list[float] = []

    class Watching(FixedBudget):
        def observe(self, score: float) -> None:
            seen.append(score)

    one = GateRouter(GATE, Watching(0.5), FixedBudget(0.9), deny=("red mug",))
    score = one.decide("blue mug", VECTOR, FOUND).score
    one.decide("red mug", VECTOR, FOUND)
    one.decide("blue mug", VECTOR, None)
    assert seen == [score]


def test_a_price_holds_the_gain_against_the_threshold() -> None:
    one = GateRouter(GATE, PriceBudget(1.0, 50.0), PriceBudget(1.0, 50.0))
    assert one.decide("mug", VECTOR, LOST).reasoned  # 0.11 against 0.05
    found = one.decide("mug", VECTOR, FOUND)
    assert not found.reasoned
    assert found.threshold == pytest.approx(0.05)


def test_explaining_changes_nothing() -> None:
    one = GateRouter(GATE, ShareBudget(0.3, window=10), ShareBudget(0.3))
    before = one.decide("mug", VECTOR, LOST).threshold
    assert list(one.explain("mug", VECTOR, LOST)) == ["top_cosine"]
    fresh = GateRouter(GATE, ShareBudget(0.3, window=10), ShareBudget(0.3))
    assert fresh.decide("mug", VECTOR, LOST).threshold == before


@pytest.mark.parametrize("budget", ["share", "fixed", "price"])
def test_the_router_of_the_settings_uses_the_gate_that_ships(budget: str) -> None:
    settings = RouteSettings(budget=budget, threshold=0.123)  # type: ignore[arg-type]
    one = build_router(settings)
    assert one.needs_signals
    decision = one.decide("what do I put under a hot pot", VECTOR, LOST)
    assert 0 < decision.score < 1
    if budget == "fixed":
        assert decision.threshold == 0.123


def test_the_same_queries_are_decided_alike_by_two_routers() -> None:
    queries = [("what is it?", LOST), ("red mug", FOUND), ("x", LOST), ("red mug", None)] * 20
    first, second = build_router(RouteSettings(window=10)), build_router(RouteSettings(window=10))
    decided = [[one.decide(text, VECTOR, signals) for text, signals in queries] for one in (first, second)]
    assert decided[0] == decided[1]
