"""Queries as they come, and what became of them: the same for a simulation and for a service that was measured."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Arrival:
    """One query that comes.

    Args:
        at_s: Seconds since the beginning.
        text: Of the query.
        hard: Whether the router sends it to the reasoner.
    """

    at_s: float
    text: str
    hard: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One query that was answered.

    Args:
        latency_ms: From its coming to the whole answer.
        route: That it got.
        degraded: Codes of what was missing.
        hard: As it came.
        cached: Whether no model was asked.
    """

    latency_ms: float
    route: str
    degraded: tuple[str, ...] = ()
    hard: bool = False
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """How queries come: independently of each other (a Poisson process), at a steady rate.

    Args:
        rate: Queries a second.
        hard_share: Of the queries, which the router sends to the reasoner.
        repeat_share: Of the queries, which were asked shortly before.
        pool: Different queries among which the repeated ones are drawn.
        seed: The same seed gives the same queries at the same moments.
    """

    rate: float
    hard_share: float
    repeat_share: float = 0.0
    pool: int = 100
    seed: int = 0

    def known(self) -> list[Arrival]:
        """Return the queries that are repeated, each once."""
        chance = random.Random(f"{self.seed} pool")  # noqa: S311 - no secret
        return [self._arrival(0.0, f"known query {number}", chance) for number in range(self.pool)]

    def arrivals(self, number: int) -> list[Arrival]:
        """Return the first so many queries, by time."""
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        known, found, at = self.known(), [], 0.0
        for idx in range(number):
            at += chance.expovariate(self.rate)
            repeated = chance.random() < self.repeat_share
            fresh = self._arrival(at, f"new query {idx}", chance)
            old = chance.choice(known)
            found.append(Arrival(at, old.text, old.hard) if repeated else fresh)
        return found

    def _arrival(self, at: float, text: str, chance: random.Random) -> Arrival:
        hard = chance.random() < self.hard_share
        return Arrival(at, f"{'hard' if hard else 'easy'} {text}", hard)


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of many queries.

    Args:
        queries: How many.
        p50_ms: Median of the latencies.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        hard_p50_ms: Median of those that the router sent to the reasoner; NaN where there is none.
        hard_p95_ms: 95th percentile of those.
        reasoned_share: Queries that were answered with reasoning.
        degraded_share: Queries that got less than was meant.
        cached_share: Queries that asked no model.
        degraded: How often each code was said.
    """

    queries: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    hard_p50_ms: float
    hard_p95_ms: float
    reasoned_share: float
    degraded_share: float
    cached_share: float
    degraded: Mapping[str, int]


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    """Return the summary of at least one outcome."""
    latencies = [outcome.latency_ms for outcome in outcomes]
    hard = [outcome.latency_ms for outcome in outcomes if outcome.hard] or [float("nan")]
    number = len(outcomes)
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
    hard_p50, hard_p95 = (float(value) for value in np.percentile(hard, (50, 95)))
    return Summary(
        queries=number,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        hard_p50_ms=hard_p50,
        hard_p95_ms=hard_p95,
        reasoned_share=sum(outcome.route == "reasoned" for outcome in outcomes) / number,
        degraded_share=sum(bool(outcome.degraded) for outcome in outcomes) / number,
        cached_share=sum(outcome.cached for outcome in outcomes) / number,
        degraded=dict(Counter(code for outcome in outcomes for code in outcome.degraded)),
    )
