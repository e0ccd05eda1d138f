"""Which queries are reasoned about: a gate's score against a threshold that keeps the budget.

The same queries in the same order get the same decisions: there is no clock and no chance in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lrem_os.config_query import RouteSettings
from lrem_os.query_plugin.routing.budget import Budget, FixedBudget, PriceBudget, ShareBudget
from lrem_os.query_plugin.routing.features import features_after, features_before
from lrem_os.query_plugin.routing.gate import Gate, Stage, load_gate
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.search.requests import is_blank
from lrem_os.text import normalise_query


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one query, and why.

    Args:
        reasoned: Whether to reason about it.
        score: Calibrated probability that reasoning helps, in [0, 1]; NaN where a rule decided and none was computed.
        threshold: What it was held against: the score, or with a price the expected gain; NaN likewise.
        why: A stable code: ``above_threshold``, ``below_threshold``, ``allowed``, ``denied``, ``blank``.
        features: What the gate read, by name; empty where a rule decided.
        gain: Expected gain of reasoning, in the measure of the labels (nDCG@10); NaN likewise.
        interval: Where the score lies, at 95 %, as far as the training data tell.
    """

    reasoned: bool
    score: float
    threshold: float
    why: str
    features: Mapping[str, float] = field(default_factory=dict)
    gain: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)


class Router(Protocol):
    """Decides query by query. Holds no connection and no model; not thread-safe: one event loop asks."""

    @property
    def needs_signals(self) -> bool:
        """Whether a probe is worth its milliseconds: the gate was trained on signals of the direct result."""
        ...

    def rule(self, text: str) -> Decision | None:
        """Return what the rules say, for which no probe is needed; ``None``: the gate decides."""
        ...

    def decide(self, text: str, vector: NDArray[np.float32], signals: Signals | None) -> Decision:
        """Decide about one query, by the rules or by the gate.

        Args:
            text: As typed.
            vector: Its direct unit vector, shape (D,).
            signals: What the probe found; ``None``: it failed, was late, or was not asked.
        """
        ...


class GateRouter:
    """A ``Router``: rules first, then the gate.

    Args:
        gate: Gives the score.
        budget: Gives the threshold for queries with signals, and learns from every score.
        blind_budget: The same for queries without: the scores of two stages are not alike.
        allow: Queries that are always reasoned about; ``*`` stands for anything. Case and spacing do not matter.
        deny: Queries that never are; it wins over ``allow``.
    """

    def __init__(
        self,
        gate: Gate,
        budget: Budget,
        blind_budget: Budget,
        *,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
    ) -> None:
        self.gate = gate
        self._budget, self._blind_budget = budget, blind_budget
        self._allow, self._deny = _matcher(allow), _matcher(deny)
        self._is_frozen = False

    @property
    def needs_signals(self) -> bool:
        """Whether the gate was trained on signals of the direct result."""
        return self.gate.needs_signals

    def rule(self, text: str) -> Decision | None:
        """Return what the rules say, for which neither vector nor probe is needed; ``None``: the gate decides."""
        if is_blank(text):
            return _ruled(False, "blank")
        query = normalise_query(text).casefold()
        if self._deny.fullmatch(query):
            return _ruled(False, "denied")
        if self._allow.fullmatch(query):
            return _ruled(True, "allowed")
        return None

    def freeze(self) -> None:
        """Leave the thresholds where they are: what is decided from now on changes nothing."""
        self._is_frozen = True

    def decide(self, text: str, vector: NDArray[np.float32], signals: Signals | None) -> Decision:
        """Decide about one query; see ``Router``."""
        ruled = self.rule(text)
        if ruled is not None:
            return ruled
        stage, features = self._read(text, vector, signals)
        found = stage.predict(features)
        budget = self._blind_budget if signals is None else self._budget
        threshold = budget.threshold()
        reasoned = (found.gain if budget.asks_gain else found.score) >= threshold
        if not self._is_frozen:
            budget.observe(found.score)
        return Decision(
            reasoned=reasoned,
            score=found.score,
            threshold=threshold,
            why="above_threshold" if reasoned else "below_threshold",
            features={name: features[name] for name in stage.features},
            gain=found.gain,
            interval=found.interval,
        )

    def explain(self, text: str, vector: NDArray[np.float32], signals: Signals | None) -> dict[str, float]:
        """Return what each feature adds to the logit of the score, the greatest first; changes nothing."""
        stage, features = self._read(text, vector, signals)
        return stage.contributions(features)

    def _read(self, text: str, vector: NDArray[np.float32], signals: Signals | None) -> tuple[Stage, dict[str, float]]:
        features = features_before(text, vector, self.gate.landmarks)
        if signals is not None:
            features |= features_after(text, signals)
        return self.gate.stage(with_signals=signals is not None), features


def build_router(settings: RouteSettings, *, gate: Gate | None = None) -> GateRouter:
    """Return the configured router.

    Args:
        settings: Gate, budget and lists.
        gate: In place of the configured one.

    Raises:
        CheckpointError: The gate cannot be used.
    """
    gate = gate or load_gate(settings.gate)
    budgets = [_budget(settings, gate.stage(with_signals=with_signals)) for with_signals in (True, False)]
    return GateRouter(gate, budgets[0], budgets[1], allow=settings.allow, deny=settings.deny)


def _budget(settings: RouteSettings, stage: Stage) -> Budget:
    if settings.budget == "fixed":
        return FixedBudget(settings.threshold)
    if settings.budget == "price":
        return PriceBudget(settings.price, settings.cost_ms)
    return ShareBudget(
        settings.share,
        window=settings.window,
        floor=settings.floor,
        hysteresis=settings.hysteresis,
        reference=stage.reference,
    )


def _ruled(reasoned: bool, why: str) -> Decision:
    return Decision(reasoned, math.nan, math.nan, why)


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    """Return what matches a normalised, case-folded query that one of the patterns stands for."""
    known = [translate(_escaped(normalise_query(pattern).casefold())) for pattern in patterns]
    return re.compile("|".join(known) or r"(?!)")


def _escaped(pattern: str) -> str:
    """Return a pattern in which only ``*`` means something: questions end in ``?``."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
