"""The texts of searches, read by the models of the indices that each search leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lrem_os.query_plugin.engine.reading import MODEL_UNKNOWN, Reading, RouteName
from lrem_os.query_plugin.engine.several import Engines
from lrem_os.query_plugin.service.guarded import ByModel
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.versions import Targets, Versions
from lrem_os.query_plugin.service.wire import Answer

_AT_ONCE = 32  # texts of one request that are read at the same time: a long _msearch must not fill the queues alone

Wanted = tuple[str, RouteName, float | None]
"""A text, the route that is asked for, and how long to wait for reasoning."""


class Reader(Protocol):
    """What reads queries: the engine, or a fake in tests."""

    async def read(self, text: str, *, route: RouteName = "auto", deadline_s: float | None = None) -> Reading:
        """Return what to ask OpenSearch with; never raises for a fault of a model."""
        ...


@dataclass(frozen=True, slots=True)
class Read:
    """What was made of the texts of one search.

    Args:
        first: By text, what is told about it, and whose keywords are used.
        by_model: What each model made of them; ``None``: there is one model, whatever is searched.
        targets: What the search was thought to lead to.
    """

    first: Mapping[str, Reading]
    by_model: ByModel | None = None
    targets: Targets | None = None


async def read_each(engine: Reader, metrics: Metrics, wanted: Sequence[Wanted]) -> dict[Wanted, Reading]:
    """Return the reading of each text, some at a time."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(text: str, route: RouteName, deadline_s: float | None) -> Reading:
        async with slots:
            reading = await engine.read(text, route=route, deadline_s=deadline_s)
        metrics.read(reading)
        return reading

    each = dict.fromkeys(wanted)
    return dict(zip(each, await asyncio.gather(*(one(*key) for key in each)), strict=True))


class Readers:
    """Reads the texts of searches.

    Args:
        engine: Of one model, or ``Engines`` of several.
        metrics: Counts.
        versions: What each index holds; ``None``: the engine's vectors fit whatever is searched.
    """

    def __init__(self, engine: Reader, metrics: Metrics, versions: Versions | None = None) -> None:
        self._engine, self._metrics, self._versions = engine, metrics, versions
        self._by_model: Mapping[str, Reader] = engine.by_model if isinstance(engine, Engines) else {}

    async def read(self, searches: Sequence[tuple[str | None, Sequence[Wanted]]]) -> list[Read]:
        """Return what is made of the texts of each search; a text that several ask alike is read once.

        Args:
            searches: Index expression and texts of each; no expression: no vector is wanted.
        """
        targets = [await self._targets(expression) for expression, _ in searches]
        wanted: dict[str | None, dict[Wanted, None]] = {}
        for target, (_, texts) in zip(targets, searches, strict=True):
            for model in [None] if target is None else target.holders:
                wanted.setdefault(model, {}).update(dict.fromkeys(texts))
        engines = [self._engine if model is None else self._by_model[model] for model in wanted]
        each = zip(engines, wanted.values(), strict=True)
        readings = await asyncio.gather(*(read_each(engine, self._metrics, [*texts]) for engine, texts in each))
        found = dict(zip(wanted, readings, strict=True))
        return [self._read(target, texts, found) for target, (_, texts) in zip(targets, searches, strict=True)]

    async def model_of(self, expression: str) -> str | None:
        """Return the fingerprint of the model that reads for an expression; ``None``: the service does not have it."""
        targets = await self._targets(expression)
        if targets is None and isinstance(self._engine, Engines):
            return self._engine.configured
        return next(iter(targets.holders), None) if targets is not None else None

    async def is_news(self, found: Sequence[Read], answer: Answer) -> bool:
        """Return whether hits came from indices that were not expected: then what to expect is looked up anew."""
        targets = [read.targets for read in found if read.targets is not None]
        if self._versions is None or not targets:
            return False
        if Targets({}, frozenset().union(*(target.expected for target in targets))).met(answer.body):
            return False
        await self._versions.look()
        self._metrics.asked_again()
        return True

    async def _targets(self, expression: str | None) -> Targets | None:
        if self._versions is None or expression is None:
            return None
        return await self._versions.targets(expression)

    def _read(
        self, target: Targets | None, texts: Sequence[Wanted], found: Mapping[str | None, Mapping[Wanted, Reading]]
    ) -> Read:
        if target is None:
            return Read({wanted[0]: found[None][wanted] for wanted in texts})
        readings = {model: {wanted[0]: found[model][wanted] for wanted in texts} for model in target.holders}
        first = {}
        for text, _, _ in texts:
            of_text = [of_model[text] for of_model in readings.values()]
            with_vector = [reading for reading in of_text if reading.vector is not None]
            if not of_text:
                of_text = [Reading(text, "bm25", None, degraded=(MODEL_UNKNOWN,))]
                self._metrics.read(of_text[0])
            first[text] = (with_vector or of_text)[0]
        return Read(first, ByModel(target.holders, readings), target)
