"""A discrete-event simulation of one service: the query engine itself in virtual time, with costs in place of models.

What is simulated: arrivals, the service's own CPU (one event loop: one request at a time), the embedder's and the
reasoner's micro-batches, the router's probe, deadlines, breakers, queue limits and caches, and OpenSearch's answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from lrem_os.config_query import ServeSettings
from lrem_os.errors import LremError
from lrem_os.planning.calibration import Calls
from lrem_os.planning.traffic import Arrival, Outcome
from lrem_os.planning.virtual import Cores, run_virtual
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.types import Reasoned, Reasoning, Vectors

R = TypeVar("R")
Stage = Literal["embed", "reason", "probe"]

_DIMENSION = 2  # of the vectors that stand for real ones: nobody looks at them
_WHENEVER_S = 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """What takes how long, alone on the machine.

    Args:
        embed: Calls of the embedder, by number of queries.
        reason: Calls of the reasoner, the embedding of its keywords included; none: there is no reasoner.
        probe: The router's request to OpenSearch, by number of queries; none: it decides without.
        service_ms: CPU of the service for one request, beside the models.
        search_ms: Times of OpenSearch's answer, of which each request draws one.
        search_width: Cores of OpenSearch that a search keeps busy.
        models: Where models run: on the ``cpu`` of the service, together on one ``gpu``, or ``elsewhere``, where each
            has what it needs.
        cores: Of the service's machine.
        search_cores: Of OpenSearch, for the searches of this service; none: OpenSearch has the same cores.
    """

    embed: Calls
    reason: Calls | None
    service_ms: float
    search_ms: Sequence[float]
    probe: Calls | None = None
    search_width: float = 1.0
    models: Literal["cpu", "gpu", "elsewhere"] = "elsewhere"
    cores: float = 2.0
    search_cores: float | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation saw.

    Args:
        outcomes: In the order in which the queries came.
        seconds: From the first arrival to the last answer.
        busy: Shares of that time: ``embed``, ``reason``, ``probe`` (a call was under way), ``cores``, ``search_cores``.
        mean_batch: Queries in one call, by stage.
    """

    outcomes: Sequence[Outcome]
    seconds: float
    busy: Mapping[str, float]
    mean_batch: Mapping[str, float]


def simulate(
    arrivals: Sequence[Arrival],
    costs: Costs,
    settings: ServeSettings,
    *,
    warm: Sequence[Arrival] = (),
    hard_by_rule: bool = False,
    seed: int = 0,
) -> Simulated:
    """Return what becomes of queries in one service.

    Args:
        arrivals: By time; at least one.
        costs: Of everything that takes time.
        settings: Of the service.
        warm: Queries that were read before the first arrival, and so are cached.
        hard_by_rule: A rule (``route.allow``) finds the hard queries, which then need no probe; else the gate does.
        seed: Of what is drawn.
    """
    return run_virtual(_Service(costs, settings, [*arrivals, *warm], hard_by_rule, seed).run(arrivals, warm))


@dataclass(slots=True)
class _Meter:
    """What the models were asked, and what that took."""

    pending: tuple[Stage, int] | None = None
    calls: dict[str, list[int]] = field(default_factory=dict)
    busy_s: dict[str, float] = field(default_factory=dict)

    def ask(self, stage: Stage, number: int) -> None:
        self.pending = (stage, number)
        self.calls.setdefault(stage, []).append(number)


class _Mind:
    """A ``ReasoningEmbedder`` whose vectors mean nothing."""

    dimension = _DIMENSION
    identity: Mapping[str, Any] = {"model": "simulated"}

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        return np.tile(np.array([1, 0], np.float32), (len(texts), 1))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self._meter.ask("embed", len(texts))
        return self.embed_items(texts)

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        return [(Reasoning(("keyword",)),)] * len(queries)

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        self._meter.ask("reason", len(queries))
        return Reasoned(self.embed_items(queries), tuple(self.reason(queries)))


class _Router:
    """A ``Router`` that knows which queries are hard."""

    def __init__(self, hard: frozenset[str], *, by_rule: bool, needs_signals: bool) -> None:
        self._hard, self._by_rule, self.needs_signals = hard, by_rule, needs_signals

    def rule(self, text: str) -> Decision | None:
        return self._decided(text) if self._by_rule and text in self._hard else None

    def decide(self, text: str, vector: npt.NDArray[np.float32], signals: Signals | None) -> Decision:  # noqa: ARG002
        return self._decided(text)

    def _decided(self, text: str) -> Decision:
        hard = text in self._hard
        return Decision(hard, float(hard), 0.5, "above_threshold" if hard else "below_threshold")


class _Worker:
    """A ``Runner`` whose calls are over at once, and answered when they would be."""

    alive = True

    def __init__(self, meter: _Meter, take: Callable[[Stage, int], asyncio.Task[None]]) -> None:
        self._meter, self._take = meter, take

    def run(self, call: Callable[[], R]) -> asyncio.Future[R]:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        try:
            result: R | LremError = call()
        except LremError as exc:
            result = exc
        asked, self._meter.pending = self._meter.pending, None
        if asked is None:
            raise RuntimeError("a call asked no model")

        def settle(_task: asyncio.Task[None]) -> None:
            if future.done():
                return
            if isinstance(result, LremError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._take(*asked).add_done_callback(settle)
        return future

    def stop(self) -> None:
        self.alive = False


class _Service:
    """One service, in virtual time."""

    def __init__(
        self, costs: Costs, settings: ServeSettings, queries: Sequence[Arrival], by_rule: bool, seed: int
    ) -> None:
        self._costs, self._settings = costs, settings
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._meter = _Meter()
        self._cores = Cores(costs.cores)
        self._search = self._cores if costs.search_cores is None else Cores(costs.search_cores)
        self._gpu = Cores(1)
        self._turn = asyncio.Lock()
        hard = frozenset(query.text for query in queries if query.hard)
        self._router = _Router(hard, by_rule=by_rule, needs_signals=costs.probe is not None)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, arrivals: Sequence[Arrival], warm: Sequence[Arrival]) -> Simulated:
        engine = self._engine()
        for query in warm:
            await engine.read(query.text, deadline_s=_WHENEVER_S)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._meter.calls.clear()
        self._meter.busy_s.clear()
        before = self._cores.busy_s, self._search.busy_s
        tasks = []
        for query in arrivals:
            await asyncio.sleep(max(0.0, begun + query.at_s - loop.time()))
            tasks.append(asyncio.create_task(self._one(engine, query)))
        outcomes = await asyncio.gather(*tasks)
        seconds = loop.time() - begun
        busy = {stage: used / seconds for stage, used in self._meter.busy_s.items()}
        busy["cores"] = (self._cores.busy_s - before[0]) / seconds / self._costs.cores
        if self._costs.search_cores is not None:
            busy["search_cores"] = (self._search.busy_s - before[1]) / seconds / self._costs.search_cores
        await engine.aclose()
        batches = {stage: sum(sizes) / len(sizes) for stage, sizes in self._meter.calls.items()}
        return Simulated(outcomes, seconds, busy, batches)

    def _engine(self) -> QueryEngine:
        mind = _Mind(self._meter)
        return QueryEngine(
            mind,
            self._settings,
            reasoner=mind if self._costs.reason is not None else None,
            router=self._router,
            probe=self._ask_probe if self._costs.probe is not None else None,
            worker=lambda _name: _Worker(self._meter, self._begin),
        )

    def _ask_probe(self, texts: Sequence[str], vectors: Vectors) -> list[Signals]:  # noqa: ARG002
        self._meter.ask("probe", len(texts))
        return [Signals()] * len(texts)

    async def _one(self, engine: QueryEngine, query: Arrival) -> Outcome:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._serve()
        reading = await engine.read(query.text)
        await self._search.run(self._chance.choice(self._costs.search_ms) / 1000, self._costs.search_width)
        await self._serve()
        took_ms = (loop.time() - begun) * 1000
        return Outcome(took_ms, reading.route, reading.degraded, query.hard, reading.cached)

    async def _serve(self) -> None:
        """Half of what the service itself does for a request: its event loop does one thing at a time."""
        async with self._turn:
            await self._cores.run(self._costs.service_ms / 2000)

    def _begin(self, stage: Stage, number: int) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._take(stage, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _take(self, stage: Stage, number: int) -> None:
        """Let the time of a call pass."""
        calls = {"embed": self._costs.embed, "reason": self._costs.reason, "probe": self._costs.probe}[stage]
        seconds = 0.0 if calls is None else calls.seconds(number)
        begun = asyncio.get_running_loop().time()
        if stage == "probe":
            await self._search.run(seconds, self._costs.search_width)
        elif self._costs.models == "elsewhere":
            await asyncio.sleep(seconds)
        elif self._costs.models == "gpu":
            await self._gpu.run(seconds)
        else:
            await self._cores.run(seconds, self._costs.cores)
        used = asyncio.get_running_loop().time() - begun
        self._meter.busy_s[stage] = self._meter.busy_s.get(stage, 0.0) + used
