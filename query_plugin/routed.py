"""Readers for a retriever that serve queries as the service does: direct, reasoned, or as the router decides.

What a route asks OpenSearch is what ``lrem-os serve`` asks on it: the same vector, keywords, fusion weights. Two things
differ on purpose: there is no deadline, so that no query goes direct because a machine is slow, and a budget can be
kept over a set of queries.

* ``ByRouter``: the configured budget, the queries in the order of the set, as they would come to one service. All are
  decided about before the first is answered, so that an evaluation that goes on decides as if it had not been stopped.
* ``ByShare``: exactly the queries with the highest scores, as many as the share allows. The threshold that is served
  begins with the scores of the training log and needs hundreds of queries to forget them; on a set of a hundred judged
  queries, of which most may be hard, it would keep another budget than the one that is asked about.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lrem_os.config_query import RouteSettings
from lrem_os.query_plugin.readings import Readings
from lrem_os.query_plugin.retriever import Read
from lrem_os.query_plugin.routing.router import GateRouter, build_router
from lrem_os.search.requests import is_blank
from lrem_os.text import normalise_query


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a query is reasoned about.

    Args:
        reasoned: What was decided.
        score: Of the router; NaN where none was asked.
        own_ms: What the probe took for this query: a batch's time divided by its queries.
    """

    reasoned: bool
    score: float = math.nan
    own_ms: float = 0.0


class Policy(Protocol):
    """Decides which queries are reasoned about."""

    def choose(self, texts: Sequence[str]) -> list[Choice]:
        """Return what is decided about each normalised text, in the order given."""
        ...


@dataclass(frozen=True, slots=True)
class Always:
    """The same for every query."""

    reasoned: bool

    def choose(self, texts: Sequence[str]) -> list[Choice]:
        """Return the same for each."""
        return [Choice(self.reasoned) for _ in texts]


class ByRouter:
    """As the configured router decides, with the budget that it keeps from query to query.

    Args:
        router: Of its own: it remembers what it was asked.
        readings: Vectors and signals.
        texts: The set, in this order. Its threshold moves with these alone: texts that are not in the set, variants of
            its queries, are all held against where it then is.
    """

    def __init__(self, router: GateRouter, readings: Readings, texts: Sequence[str]) -> None:
        self._router, self._readings = router, readings
        self._known: dict[str, Choice] = {}
        self.choose(_keys(texts, readings))
        router.freeze()

    def choose(self, texts: Sequence[str]) -> list[Choice]:
        """Return what is decided about each text; a text that came before is decided about as then."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, choice in zip(new, _decide(self._router, self._readings, new), strict=True):
            self._known[text] = choice
        return [self._known[text] for text in texts]


class ByShare:
    """The queries of a set with the highest scores, as many as a share of the set allows; the rules come first.

    Queries that ``route.allow`` names spend the budget before others; of equal scores, the text that sorts first is
    reasoned about. What is not in the set is held against the lowest score that was.

    Args:
        router: Scores; its budget is not asked.
        readings: Vectors and signals.
        texts: The set, one text a query: a text that comes twice counts twice.
        share: Of the set that is reasoned about at most, in [0, 1].
    """

    def __init__(self, router: GateRouter, readings: Readings, texts: Sequence[str], share: float) -> None:
        self._router, self._readings = router, readings
        asked = Counter(_keys(texts, readings))
        choices = dict(zip(asked, _decide(router, readings, list(asked)), strict=True))
        ruled = {text: choice for text, choice in choices.items() if math.isnan(choice.score)}
        left = math.floor(share * len(texts) + 1e-9) - sum(asked[text] for text, one in ruled.items() if one.reasoned)
        self._threshold = math.inf
        self._known = dict(ruled)
        for text in sorted(choices.keys() - ruled.keys(), key=lambda text: (-choices[text].score, text)):
            left -= asked[text]
            self._known[text] = Choice(left >= 0, choices[text].score, choices[text].own_ms)
            if left >= 0:
                self._threshold = choices[text].score

    def choose(self, texts: Sequence[str]) -> list[Choice]:
        """Return what is decided about each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, choice in zip(new, _decide(self._router, self._readings, new), strict=True):
            is_ruled = math.isnan(choice.score)
            reasoned = choice.reasoned if is_ruled else choice.score >= self._threshold
            self._known[text] = Choice(reasoned, choice.score, choice.own_ms)
        return [self._known[text] for text in texts]


@dataclass(frozen=True, slots=True)
class ServedReader:
    """A ``Reader``: the direct vector first, then the decision, then reasoning where it is wanted.

    Args:
        readings: Shared by all runs.
        policy: Decides.
    """

    readings: Readings
    policy: Policy

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Return what is made of each text. Raises ``ModelError``, and ``SearchError`` where the probe fails."""
        keys = [normalise_query(text) for text in texts]
        may_reason = self.policy != Always(False)
        ahead = {key: found for key in keys if may_reason and (found := self.readings.ahead(key)) is not None}
        asked = [key for key in dict.fromkeys(keys) if key not in ahead]
        choices = dict(zip(asked, self.policy.choose(asked), strict=True))
        self.readings.reasonings([key for key in asked if choices[key].reasoned])  # in whole batches
        read = {}
        for key in dict.fromkeys(keys):
            if key in ahead:  # asks no model
                read[key] = Read(key, ahead[key].vector, ahead[key].reasonings, route="reasoned")
            else:
                read[key] = self._read(key, choices[key])
        return [read[key] for key in keys]

    def _read(self, key: str, choice: Choice) -> Read:
        [(direct, embed_ms)] = self.readings.vectors([key])
        own_ms = embed_ms + choice.own_ms
        if not choice.reasoned:
            return Read(key, tuple(direct.decimals.tolist()), own_ms=own_ms, score=choice.score)
        [found] = self.readings.reasonings([key])
        return Read(
            key,
            found.vector,
            found.reasonings,
            found.reason_ms,
            route="reasoned",
            own_reason_ms=found.reason_ms,
            own_ms=own_ms + found.reason_ms,
            num_tokens=sum(sample.num_tokens for sample in found.reasonings),
            score=choice.score,
        )


def build_reader(
    readings: Readings,
    route: RouteSettings,
    texts: Sequence[str],
    *,
    reasoned: bool = False,
    routed: bool = False,
    share: float | None = None,
) -> ServedReader:
    """Return what reads queries on one route.

    Args:
        readings: Shared by all runs.
        route: Gate, budget, lists.
        texts: The set of queries, in its order; asked about where the router decides.
        reasoned: Reason about every query.
        routed: Let the router decide.
        share: Of the set, in place of the configured budget.

    Raises:
        CheckpointError: The gate cannot be used.
        ModelError: The embedder failed.
        SearchError: The probe failed.
    """
    if not routed:
        return ServedReader(readings, Always(reasoned))
    if share is None:
        return ServedReader(readings, ByRouter(build_router(route), readings, texts))
    return ServedReader(readings, ByShare(build_scorer(route), readings, texts, share))


def build_scorer(route: RouteSettings) -> GateRouter:
    """Return a router whose scores and rules count, and whose budget is not asked. Raises ``CheckpointError``."""
    return build_router(route.model_copy(update={"budget": "fixed"}))


def score_queries(readings: Readings, route: RouteSettings, texts: Sequence[str]) -> list[float]:
    """Return the router's score of each query: infinite where a rule says reasoned, minus infinite where direct.

    Raises:
        CheckpointError: The gate cannot be used.
        ModelError: The embedder failed.
        SearchError: The probe failed.
    """
    keys = [normalise_query(text) for text in texts]
    each = list(dict.fromkeys(keys))
    scored = dict(zip(each, _decide(build_scorer(route), readings, each), strict=True))
    choices = [scored[key] for key in keys]
    return [(math.inf if one.reasoned else -math.inf) if math.isnan(one.score) else one.score for one in choices]


def _keys(texts: Sequence[str], readings: Readings) -> list[str]:
    """Return the normalised texts that the router is asked about: the service asks it about no other."""
    keys = [normalise_query(text) for text in texts if not is_blank(text)]
    return [key for key in keys if readings.ahead(key) is None]


def _decide(router: GateRouter, readings: Readings, texts: Sequence[str]) -> list[Choice]:
    """Return what a router decides, in the order given; only what no rule decides is embedded and probed."""
    rules = {text: router.rule(text) for text in texts}
    open_texts = [text for text in texts if rules[text] is None]
    vectors = dict(zip(open_texts, readings.vectors(open_texts), strict=True))
    signals = dict(zip(open_texts, readings.signals(open_texts), strict=True)) if router.needs_signals else {}
    choices = []
    for text in texts:
        rule = rules[text]
        if rule is not None:
            choices.append(Choice(rule.reasoned))
            continue
        found, own_ms = signals.get(text, (None, 0.0))
        decision = router.decide(text, vectors[text][0].vector, found)
        choices.append(Choice(decision.reasoned, decision.score, own_ms))
    return choices
