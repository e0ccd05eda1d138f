"""The query engine: text in, ``Reading`` out, always and in time.

Direct embedding comes first: it is what the router reads and what every fault of reasoning falls back to. A fault of
the embedder falls back to the text alone. A reasoner may finish after the deadline of whoever asked: the reading went
direct then, and the result is kept for the next who asks the same. A reasoner that is mostly late is not waited for
any more, but for a trial now and then, and keeps working for the cache; one that fails is left alone likewise.

The engine is handed its models and loads nothing. It belongs to one event loop; models run in threads of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from lrem_os.config_query import ServeSettings
from lrem_os.errors import EmbeddingError, LremError, ModelError, ModelHung, Overloaded, ServiceError, ShuttingDown
from lrem_os.model.endpoints import EndpointState
from lrem_os.query_plugin.engine import reading as codes
from lrem_os.query_plugin.engine.batcher import Answered, Batcher
from lrem_os.query_plugin.engine.breaker import Breaker
from lrem_os.query_plugin.engine.cache import Lru, SingleFlight
from lrem_os.query_plugin.engine.calls import Embedded, Thought, Vector, embed_each, reason_each
from lrem_os.query_plugin.engine.clock import Clock, LoopClock, wait_for
from lrem_os.query_plugin.engine.reading import Reading, RouteName
from lrem_os.query_plugin.engine.request import Request
from lrem_os.query_plugin.engine.worker import Runner, Worker
from lrem_os.query_plugin.routing.precomputed import Precomputed
from lrem_os.query_plugin.routing.router import Decision, Router
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.types import Embedder, ReasoningEmbedder, Vectors

Q = TypeVar("Q")
A = TypeVar("A")

Probe = Callable[[Sequence[str], Vectors], Sequence[Signals]]
"""Asks OpenSearch for the direct results of B queries with vectors (B, D); blocks, and so runs in a worker."""


class Ahead(Protocol):
    """Thoughts from a file."""

    def get(self, text: str) -> Precomputed | None:
        """Return what was computed ahead of time for a query."""
        ...


class SharedThoughts(Protocol):
    """What several services keep together. No method raises, none takes long."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of reads and writes since the start, by name."""
        ...

    async def get(self, key: str) -> Thought | None:
        """Return what was kept; ``None`` for whatever reason there is nothing."""
        ...

    def put(self, key: str, thought: Thought) -> None:
        """Have it kept, some time soon."""
        ...

    async def aclose(self) -> None:
        """Write what is left, for a moment."""
        ...


@dataclass(frozen=True, slots=True)
class EngineState:
    """How the engine is, for health checks and metrics.

    Args:
        embedder: ``open``: left alone by the breaker; ``broken``: its calls hang; queries go by text alone.
        reasoner: ``slow``: not waited for; ``open``: left alone by the breaker; ``broken``: its calls hang.
        num_waiting: Queries in the queues of embedder and reasoner, and passages.
        num_hung: Calls that hang.
        num_cached: Direct vectors, thoughts and decisions in memory.
        num_hits: Of each of these caches, since the start.
        num_misses: Likewise.
        shared: What became of reads and writes of the shared cache since the start.
        endpoints: The servers of ``embedder`` and ``reasoner``, where they run on servers.
    """

    embedder: Literal["ok", "open", "broken"]
    reasoner: Literal["ok", "slow", "open", "broken", "none"]
    num_waiting: tuple[int, int, int]
    num_hung: int
    num_cached: tuple[int, int, int]
    num_hits: tuple[int, int, int]
    num_misses: tuple[int, int, int]
    shared: Mapping[str, int] = field(default_factory=dict)
    endpoints: Mapping[str, Sequence[EndpointState]] = field(default_factory=dict)


class _KeptAway(ServiceError):
    """The breaker is open."""


class QueryEngine:
    """Reads queries.

    Args:
        embedder: Of the index.
        settings: Deadlines, limits, sizes.
        reasoner: None: no query is reasoned about.
        router: Decides about ``auto``; none: such queries go direct.
        probe: Fetches the signals that the router may need.
        shared: Thoughts that several services share.
        ahead: Thoughts of queries that need no model, whatever the router would say.
        clock: Decides what is late.
        worker: Starts what runs a model's calls; a simulation has its own.
        endpoints: Tells how the models' servers are.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: ServeSettings,
        *,
        reasoner: ReasoningEmbedder | None = None,
        router: Router | None = None,
        probe: Probe | None = None,
        shared: SharedThoughts | None = None,
        ahead: Ahead | None = None,
        clock: Clock | None = None,
        worker: Callable[[str], Runner] = Worker,
        endpoints: Callable[[], Mapping[str, Sequence[EndpointState]]] = dict,
    ) -> None:
        self._settings, self._clock, self._start_worker = settings, clock or LoopClock(), worker
        self._router, self._shared, self._ahead = router, shared, ahead
        dimension = partial(getattr, embedder, "dimension")
        self._embedder = self._batcher("embedder", embed_each(embedder.embed_queries, dimension, Embedded.of))
        # Beside the queries, which long texts would hold up.
        self._passages = self._batcher("embedder of passages", embed_each(embedder.embed_items, dimension, _as_it_is))
        self._reasoner: Batcher[str, Thought] | None = None
        if reasoner is not None:
            self._reasoner = self._batcher("reasoner", reason_each(reasoner))
        self._probe: Batcher[tuple[str, Vector], Signals] | None = None
        if probe is not None:
            self._probe = self._batcher("probe", lambda pairs: _ask(probe, pairs))
        self._vectors: Lru[Embedded] = self._lru()
        self._thoughts: Lru[Thought] = self._lru()
        self._decisions: Lru[Decision] = self._lru()
        self._embeddings: SingleFlight[Answered[Embedded]] = SingleFlight(clock=self._clock)
        self._reasonings: SingleFlight[Answered[Thought] | Thought] = SingleFlight(clock=self._clock)
        self._failures, self._delays = self._breaker(), self._breaker()
        # by overload an embedder is late now and then; kept away from is one that gives nothing at all
        self._silence = self._breaker(share=1.0)
        self._endpoints = endpoints

    def _batcher(self, name: str, call: Callable[[Sequence[Q]], Sequence[A | LremError]]) -> Batcher[Q, A]:
        settings, reasons = self._settings, name == "reasoner"
        return Batcher(
            call,
            name=name,
            max_batch=settings.reason_batch if reasons else settings.embed_batch,
            limit_s=settings.reason_limit_s if reasons else settings.embed_limit_s,
            queue_limit=settings.queue_limit,
            max_hung=settings.max_hung,
            clock=self._clock,
            worker=self._start_worker,
        )

    def _lru(self) -> Lru[A]:
        return Lru(self._settings.cache_size, ttl_s=self._settings.cache_ttl_s, clock=self._clock)

    def _breaker(self, *, share: float | None = None) -> Breaker:
        settings = self._settings
        return Breaker(
            window=settings.breaker_window,
            share=settings.breaker_share if share is None else share,
            open_s=settings.breaker_open_s,
            clock=self._clock,
        )

    async def read(self, text: str, *, route: RouteName = "auto", deadline_s: float | None = None) -> Reading:
        """Return what to ask OpenSearch with. Never raises for a fault of a model: degrades and says so.

        Args:
            text: As typed.
            route: What the request wants; ``reasoned`` is a wish, ``bm25`` asks no model.
            deadline_s: Seconds from now within which there must be an answer, reasoned if it can be: in place of
                ``serve.reason_deadline_ms``, and besides the other deadlines.
        """
        request = Request(text, self._clock, deadline_s)
        if route == "bm25" or not request.key:
            return request.reading("bm25")
        known = self._ahead.get(request.key) if self._ahead is not None and route != "direct" else None
        if known is not None:
            return request.reading("reasoned", known.vector, known)
        direct = await self._embed(request)
        if direct is None:
            return request.reading("bm25")
        decision = await self._decide(request, direct.vector) if route == "auto" else None
        wanted = route == "reasoned" or (decision is not None and decision.reasoned)
        thought = await self._think(request) if wanted else None
        chosen = thought.embedded if thought is not None and thought.embedded is not None else direct
        route_got: Literal["direct", "reasoned"] = "direct" if thought is None else "reasoned"
        return request.reading(route_got, tuple(chosen.decimals.tolist()), thought, decision)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given.

        Raises:
            ModelError: The embedder failed on one of them.
            ServiceError: Too many wait already, or the engine is shutting down.
        """
        rows: list[Vector] = []
        at_once = min(self._settings.embed_batch, self._settings.queue_limit)
        for first in range(0, len(texts), at_once):
            part = texts[first : first + at_once]
            answers = await asyncio.gather(*map(self._passages.submit, part), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                rows.append(answer.value)
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    async def warm_up(self) -> None:
        """Make every model answer once. A reasoner that does not is no obstacle: queries go direct until it does.

        Raises:
            ModelError: The embedder does not answer.
        """
        await self._embedder.submit("warm up")
        if self._reasoner is not None:
            with contextlib.suppress(LremError):  # told by every reading that wants it
                await self._reasoner.submit("what do I need to warm up")

    def state(self) -> EngineState:
        """Return how the engine is."""
        caches = (self._vectors, self._thoughts, self._decisions)
        return EngineState(
            embedder="broken" if self._embedder.broken else "open" if self._silence.is_open else "ok",
            reasoner=self._reasoner_state(),
            num_waiting=(
                self._embedder.num_waiting,
                self._reasoner.num_waiting if self._reasoner is not None else 0,
                self._passages.num_waiting,
            ),
            num_hung=sum(batcher.num_hung for batcher in self._batchers()),
            num_cached=(len(caches[0]), len(caches[1]), len(caches[2])),
            num_hits=(caches[0].num_hits, caches[1].num_hits, caches[2].num_hits),
            num_misses=(caches[0].num_misses, caches[1].num_misses, caches[2].num_misses),
            shared={} if self._shared is None else dict(self._shared.counts),
            endpoints=self._endpoints(),
        )

    async def aclose(self) -> None:
        """Answer what is under way without a model, and end; calls under way are not waited for."""
        for batcher in self._batchers():
            await batcher.aclose()
        await self._embeddings.aclose()
        await self._reasonings.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    def _batchers(self) -> list[Batcher[Any, Any]]:
        known = (self._embedder, self._passages, self._reasoner, self._probe)
        return [batcher for batcher in known if batcher is not None]

    def _reasoner_state(self) -> Literal["ok", "slow", "open", "broken", "none"]:
        if self._reasoner is None:
            return "none"
        if self._reasoner.broken:
            return "broken"
        return "open" if self._failures.is_open else "slow" if self._delays.is_open else "ok"

    async def _embed(self, request: Request) -> Embedded | None:
        known = self._vectors.get(request.key)
        if known is not None:
            return known
        permit = self._silence.ask()
        if permit is None:
            request.fail(codes.EMBEDDER_OPEN)
            return None
        begun = self._clock.now()
        seconds = min(self._settings.embed_deadline_ms / 1000, request.left_s())
        try:
            answer = await self._embeddings.do(request.key, partial(self._compute_vector, request.key), seconds=seconds)
        except TimeoutError:
            if seconds < request.left_s():  # and not because this request was in a hurry
                self._silence.record(permit, ok=False)
            request.fail(codes.EMBEDDER_TIMEOUT)
            return None
        except LremError as exc:
            of_the_text, at_once = isinstance(exc, EmbeddingError), self._embedder.broken
            if isinstance(exc, ModelError) and not of_the_text and not at_once:
                self._silence.record(permit, ok=False)
            request.fail(_code_of(exc, "embedder", broken=self._embedder.broken))
            return None
        finally:
            request.time("embed", begun)
        self._silence.record(permit, ok=True)
        request.asked(answer.queue_s)
        return answer.value

    async def _compute_vector(self, key: str, wanted: Callable[[], bool]) -> Answered[Embedded]:
        answer = await self._embedder.submit(key, wanted=wanted)
        self._vectors.put(key, answer.value)
        return answer

    async def _decide(self, request: Request, vector: Vector) -> Decision | None:
        """Return the router's decision; one that was made without the signals it should have is not kept."""
        if self._router is None:
            return None
        known = self._decisions.get(request.key)
        if known is not None:
            return known
        begun = self._clock.now()
        try:
            ruled = self._router.rule(request.key)
            if ruled is not None:
                return ruled
            signals = await self._signals(request, vector) if self._router.needs_signals else None
            decision = self._router.decide(request.key, vector, signals)
        except Exception:  # whatever a gate that was trained elsewhere runs into: the query is answered all the same
            request.degrade(codes.ROUTER_FAILED)
            return None
        finally:
            request.time("route", begun)
        if signals is not None or not self._router.needs_signals:
            self._decisions.put(request.key, decision)
        return decision

    async def _signals(self, request: Request, vector: Vector) -> Signals | None:
        if self._probe is None:
            return None
        task = asyncio.ensure_future(self._probe.submit((request.key, vector)))
        seconds = min(self._settings.probe_deadline_ms / 1000, request.left_s())
        try:
            return (await wait_for(task, seconds, self._clock)).value
        except TimeoutError:
            request.degrade(codes.PROBE_TIMEOUT)
        except LremError:
            request.degrade(codes.PROBE_FAILED)
        finally:
            task.cancel()
        return None

    async def _think(self, request: Request) -> Thought | None:
        """Return the thought about a query, or ``None`` with the reason noted."""
        known = self._thoughts.get(request.key)
        if known is not None:
            return known
        if self._reasoner is None:
            request.degrade(codes.REASONER_MISSING)
            return None
        begun = self._clock.now()
        seconds, patience = self._patience(request)
        compute = partial(self._compute_thought, request.key)
        try:
            answer = await self._reasonings.do(request.key, compute, seconds=seconds)
        except TimeoutError:
            if patience is not None:
                self._delays.record(patience, ok=False)
            is_awaited = patience is not None or request.deadline_s is not None
            unawaited = codes.REASONER_OPEN if self._failures.is_open else codes.REASONER_SLOW
            request.fail(codes.REASONER_TIMEOUT if is_awaited else unawaited)
            return None
        except LremError as exc:  # says nothing about delays
            request.fail(_code_of(exc, "reasoner", broken=self._reasoner.broken))
            return None
        finally:
            request.time("reason", begun)
        if patience is not None:
            self._delays.record(patience, ok=True)
        if isinstance(answer, Thought):
            return answer
        request.asked(answer.queue_s)
        return answer.value

    def _patience(self, request: Request) -> tuple[float, int | None]:
        """Return how long to wait for the reasoner, and the permit to do so where lateness was not asked for."""
        if request.deadline_s is not None:
            return request.left_s(), None
        permit = self._delays.ask()
        return 0.0 if permit is None else self._settings.reason_deadline_ms / 1000, permit

    async def _compute_thought(self, key: str, wanted: Callable[[], bool]) -> Answered[Thought] | Thought:
        """Return a thought, from elsewhere as it is, from the model with its time in the queue."""
        if self._shared is not None and (found := await self._shared.get(key)) is not None:
            self._thoughts.put(key, found)
            return found
        permit = self._failures.ask()
        if permit is None or self._reasoner is None:
            raise _KeptAway("the reasoner failed lately, and is left alone for a while")
        try:
            answer = await self._reasoner.submit(key, wanted=wanted)
        except ModelError:
            self._failures.record(permit, ok=False)
            raise
        self._failures.record(permit, ok=True)
        self._thoughts.put(key, answer.value)
        if self._shared is not None:
            self._shared.put(key, answer.value)
        return answer


def _as_it_is(vector: Vector) -> Vector:
    return vector


def _ask(probe: Probe, pairs: Sequence[tuple[str, Vector]]) -> Sequence[Signals]:
    return probe([text for text, _ in pairs], np.stack([vector for _, vector in pairs]))


def _code_of(error: LremError, model: Literal["embedder", "reasoner"], *, broken: bool) -> str:
    """Return the code of what a model's batcher raised."""
    if isinstance(error, ShuttingDown):
        return codes.CLOSED
    if isinstance(error, Overloaded):
        return codes.OVERLOADED
    if isinstance(error, _KeptAway):
        return codes.REASONER_OPEN
    if isinstance(error, ModelHung):
        of_embedder, of_reasoner = codes.EMBEDDER_BROKEN, codes.REASONER_BROKEN
        if not broken:
            of_embedder, of_reasoner = codes.EMBEDDER_TIMEOUT, codes.REASONER_TIMEOUT
        return of_embedder if model == "embedder" else of_reasoner
    return codes.EMBEDDER_FAILED if model == "embedder" else codes.REASONER_FAILED
