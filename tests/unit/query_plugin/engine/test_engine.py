from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lrem_os.config_query import ServeSettings
from lrem_os.errors import ModelError, Overloaded, SearchTimeout, ShuttingDown
from lrem_os.query_plugin.engine.calls import Thought
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.routing.precomputed import Precomputed
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.types import Reasoned, Reasoning
from tests.fakes.clock import ManualClock, settle, until
from tests.fakes.embedder import hash_vector
from tests.fakes.mind import Gate, Mind, raises

Test = Callable[[QueryEngine, Mind, ManualClock], Awaitable[None]]


class ByFirstWord:
    """A router: reasons about what begins with "what"."""

    def __init__(self, *, needs_signals: bool = False, fails: bool = False) -> None:
        self.needs_signals = needs_signals
        self.asked: list[tuple[str, Signals | None]] = []
        self.fails = fails

    def rule(self, text: str) -> Decision | None:
        return Decision(False, math.nan, math.nan, "denied") if text == "denied" else None

    def decide(self, text: str, vector: Any, signals: Signals | None) -> Decision:
        assert vector.shape == (8,)
        self.asked.append((text, signals))
        if self.fails:
            raise ZeroDivisionError
        return Decision(text.startswith("what"), 0.5, 0.4, "above_threshold")


class Shared:
    """What other services have thought."""

    def __init__(self) -> None:
        self.kept: dict[str, Thought] = {}
        self.counts = {"found": 3}
        self.closed = False

    async def get(self, key: str) -> Thought | None:
        return self.kept.get(key)

    def put(self, key: str, thought: Thought) -> None:
        self.kept[key] = thought

    async def aclose(self) -> None:
        self.closed = True


def run(test: Test, *, mind: Mind | None = None, settings: dict[str, Any] | None = None, **options: Any) -> None:
    async def whole() -> None:
        clock, model = ManualClock(), mind or Mind()
        given = {"breaker_window": 4, "breaker_open_s": 5.0} | (settings or {})
        parts = {"reasoner": model, "clock": clock} | options
        engine = QueryEngine(model, ServeSettings(**given), **parts)
        await test(engine, model, clock)
        await engine.aclose()

    asyncio.run(whole())


async def read_late(engine: QueryEngine, clock: ManualClock, text: str, seconds: float, **options: Any) -> Any:
    """Read, and let so much time pass while the answer is awaited."""
    task = asyncio.ensure_future(engine.read(text, **options))
    await until(lambda: bool(clock.timers) or task.done())
    while not task.done():
        await settle()
        clock.advance(seconds)
        await asyncio.sleep(0.001)
    return task.result()


def vector_of(text: str) -> list[float]:
    return [float(value) for value in hash_vector(text, 8).astype(np.float32)]


def test_direct_reasoned_and_what_is_remembered() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        direct = await engine.read("  hot \t pot ", route="direct")
        assert (direct.text, direct.route, direct.degraded, direct.cached) == ("  hot \t pot ", "direct", (), False)
        assert direct.vector == pytest.approx(vector_of("hot pot"), abs=1e-7)
        assert set(direct.timings_ms) == {"embed", "queue"}
        reasoned = await engine.read("hot pot", route="reasoned")
        assert (reasoned.route, reasoned.keywords, reasoned.cached) == ("reasoned", ("about hot pot",), False)
        assert reasoned.vector == pytest.approx(vector_of("hot pot!"), abs=1e-7)
        assert set(reasoned.timings_ms) == {"reason", "queue"}
        again = await engine.read("hot pot ", route="reasoned")
        assert (again.vector, again.keywords, again.cached) == (reasoned.vector, reasoned.keywords, True)
        assert (await engine.read("hot pot", route="auto")).route == "direct"  # there is no router
        assert (mind.embedded, mind.reasoned) == (["hot pot"], ["hot pot"])
        clock.advance(3600)
        assert not (await engine.read("hot pot", route="direct")).cached

    run(test)


@pytest.mark.parametrize(("text", "route"), [("", "auto"), (" \n\t", "reasoned"), ("\x00", "direct"), ("lamp", "bm25")])
def test_what_needs_no_vector_asks_no_model(text: str, route: Any) -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read(text, route=route)
        assert (reading.route, reading.vector, reading.degraded, reading.cached) == ("bm25", None, (), False)
        assert mind.embedded == []

    run(test)


def test_a_reasoner_with_nothing_to_say_leaves_the_direct_vector() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("nothing", route="reasoned")
        assert (reading.route, reading.keywords, len(reading.reasonings)) == ("reasoned", (), 1)
        assert reading.vector == pytest.approx(vector_of("nothing"), abs=1e-7)

    run(test)


def test_without_a_reasoner_a_wish_for_one_is_answered_directly() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("pot", route="reasoned")
        assert (reading.route, reading.degraded) == ("direct", ("reasoner_missing",))
        assert engine.state().reasoner == "none"

    run(test, reasoner=None)


def test_the_router_decides_once_about_a_query() -> None:
    router = ByFirstWord()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        first, again = [await engine.read("what for a hot pot") for _ in range(2)]
        assert (first.route, first.decision) == ("reasoned", Decision(True, 0.5, 0.4, "above_threshold"))
        assert (again.cached, again.decision, again.vector) == (True, first.decision, first.vector)
        plain = await engine.read("pot")
        assert (plain.route, plain.decision is not None) == ("direct", True)
        assert (await engine.read("what for a hot pot", route="direct")).decision is None
        assert [text for text, _ in router.asked] == ["what for a hot pot", "pot"]
        assert engine.state().num_cached == (2, 1, 2)

    run(test, router=router)


def test_probes_of_one_moment_are_one_question() -> None:
    router, asked = ByFirstWord(needs_signals=True), []
    signals = Signals()

    def probe(texts: Sequence[str], vectors: Any) -> list[Signals]:
        asked.append(list(texts))
        assert vectors.shape == (len(texts), 8)
        return [signals] * len(texts)

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        readings = await asyncio.gather(*(engine.read(text) for text in ("a", "b", "c")))
        assert [reading.degraded for reading in readings] == [()] * 3
        assert asked == [["a", "b", "c"]]
        assert router.asked == [("a", signals), ("b", signals), ("c", signals)]

    run(test, router=router, probe=probe)


def test_without_its_signals_the_router_decides_blindly_and_only_for_now() -> None:
    router, fails, gate = ByFirstWord(needs_signals=True), True, Gate()

    def probe(texts: Sequence[str], vectors: Any) -> list[Signals]:
        if fails:
            raise SearchTimeout("too slow")
        gate(None)
        return [Signals()] * len(texts)

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        nonlocal fails
        reading = await engine.read("what now")
        assert (reading.route, reading.degraded) == ("reasoned", ("probe_failed",))
        fails = False
        reading = await read_late(engine, clock, "what now", 0.1)
        assert (reading.route, reading.degraded, reading.cached) == ("reasoned", ("probe_timeout",), True)
        gate.let(2)
        assert (await engine.read("what now")).degraded == ()
        assert [signals for _, signals in router.asked] == [None, None, Signals()]

    run(test, router=router, probe=probe)


def test_a_query_that_a_rule_decides_is_not_probed() -> None:
    router = ByFirstWord(needs_signals=True)

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("denied")
        assert (reading.route, reading.degraded, "route" in reading.timings_ms) == ("direct", (), True)
        assert reading.decision is not None
        assert reading.decision.why == "denied"
        assert router.asked == []

    run(test, router=router, probe=raises(AssertionError("was asked")))


def test_a_router_that_fails_sends_the_query_direct() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("what now")
        assert (reading.route, reading.degraded, reading.decision) == ("direct", ("router_failed",), None)

    run(test, router=ByFirstWord(fails=True))


def test_what_was_computed_ahead_needs_no_model() -> None:
    known = Precomputed((0.0,) * 7 + (1.0,), (Reasoning(("trivet",)),), ("trivet",))

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read(" pot ")
        assert (reading.route, reading.keywords, reading.cached) == ("reasoned", ("trivet",), True)
        assert reading.vector == known.vector
        assert mind.embedded == []
        assert (await engine.read("pot", route="direct")).route == "direct"

    run(test, ahead={"pot": known}, router=ByFirstWord())


def test_thoughts_are_shared() -> None:
    shared = Shared()
    shared.kept["lamp"] = Thought.of(hash_vector("elsewhere", 8).astype(np.float32), (Reasoning(("bulb",)),))

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("lamp", route="reasoned")
        assert (reading.keywords, reading.degraded) == (("bulb",), ())
        assert mind.reasoned == []
        await engine.read("pot", route="reasoned")
        assert shared.kept["pot"].reasonings == (Reasoning(("about pot",)),)
        assert engine.state().shared == {"found": 3}
        await engine.aclose()
        assert shared.closed

    run(test, shared=shared)


def test_a_late_thought_is_kept_for_the_next_who_asks() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        await engine.read("pot", route="direct")
        reading = await read_late(engine, clock, "pot", 0.15, route="reasoned")
        assert (reading.route, reading.degraded, reading.cached) == ("direct", ("reasoner_timeout",), False)
        assert reading.vector == pytest.approx(vector_of("pot"), abs=1e-7)
        assert reading.timings_ms["reason"] == pytest.approx(150)
        gate.let()
        await until(lambda: engine.state().num_cached[1] == 1)
        later = await engine.read("pot", route="reasoned")
        assert (later.route, later.cached, later.degraded) == ("reasoned", True, ())
        assert mind.reasoned == ["pot"]

    run(test, mind=Mind(reasoning=gate))


def test_a_request_may_bring_its_own_deadline() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        await engine.read("pot", route="direct")
        begun = clock.now()
        reading = await read_late(engine, clock, "pot", 0.25, route="reasoned", deadline_s=2.0)
        assert (reading.route, reading.degraded) == ("direct", ("reasoner_timeout",))
        assert clock.now() - begun == pytest.approx(2.0)
        reading = await engine.read("pot", route="reasoned", deadline_s=0.0)
        assert reading.degraded == ("reasoner_timeout",)
        gate.let()

    run(test, mind=Mind(reasoning=gate))


def test_a_reasoner_that_is_mostly_late_is_not_waited_for_but_goes_on() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        for text in ("a", "b"):
            await engine.read(text, route="direct")  # so that time passes for the reasoner alone
            reading = await read_late(engine, clock, text, 0.15, route="reasoned")
            assert reading.degraded == ("reasoner_timeout",)
        assert engine.state().reasoner == "slow"
        now = clock.now()
        reading = await engine.read("c", route="reasoned")
        assert (reading.route, reading.degraded, clock.now()) == ("direct", ("reasoner_slow",), now)
        gate.let(10)
        await until(lambda: engine.state().num_cached[1] == 3)
        assert (await engine.read("c", route="reasoned")).keywords == ("about c",)
        clock.advance(5)
        assert (await engine.read("d", route="reasoned")).route == "reasoned"  # the trial
        assert engine.state().reasoner == "ok"

    run(test, mind=Mind(reasoning=gate))


def test_a_reasoner_that_fails_late_is_said_to_be_left_alone() -> None:
    gate = Gate()

    def fault(found: Any) -> Any:
        gate(found)
        raise ModelError("down")

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        for text in ("a", "b"):
            await engine.read(text, route="direct")
            assert (await read_late(engine, clock, text, 0.15, route="reasoned")).degraded == ("reasoner_timeout",)
        assert engine.state().reasoner == "slow"
        gate.let(2)
        await until(lambda: engine.state().reasoner == "open")
        assert (await engine.read("c", route="reasoned")).degraded == ("reasoner_open",)
        await settle()  # what nobody waits for was turned away too: later it would be the trial, in place of "d"
        mind.reasoning = lambda found: found
        clock.advance(5)
        assert (await engine.read("d", route="reasoned")).route == "reasoned"
        assert engine.state().reasoner == "ok"

    run(test, mind=Mind(reasoning=fault))


NAN = np.full((1, 8), np.nan, np.float32)
GARBAGE = [
    raises(RuntimeError("CUDA error")),
    raises(ModelError("down")),
    raises(SystemExit(1)),
    raises(MemoryError()),
    lambda found: None,
    lambda found: Reasoned(NAN, found.reasonings),
    lambda found: Reasoned(found.vectors, ()),
    lambda found: Reasoned(found.vectors[:, :3], found.reasonings),
    lambda found: Reasoned(found.vectors, (("trivet",),)),
]


@pytest.mark.parametrize("fault", GARBAGE)
def test_a_reasoner_that_fails_is_left_alone_and_tried_again(fault: Any) -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        for text in ("a", "b"):
            reading = await engine.read(text, route="reasoned")
            assert (reading.route, reading.degraded) == ("direct", ("reasoner_failed",))
            assert reading.vector == pytest.approx(vector_of(text), abs=1e-7)
        asked = list(mind.reasoned)
        reading = await engine.read("c", route="reasoned")
        assert (reading.route, reading.degraded, mind.reasoned) == ("direct", ("reasoner_open",), asked)
        assert engine.state().reasoner == "open"
        mind.reasoning = lambda found: found
        clock.advance(5)
        assert (await engine.read("c", route="reasoned")).route == "reasoned"
        assert engine.state().reasoner == "ok"

    run(test, mind=Mind(reasoning=fault))


def test_a_reasoner_that_hangs_is_replaced_and_in_the_end_given_up_until_it_returns() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        for number in range(2):
            reading = await read_late(engine, clock, f"q{number}", 0.15, route="reasoned")
            assert reading.degraded == ("reasoner_timeout",)
            await until(lambda number=number: mind.reasoned == [f"q{n}" for n in range(number + 1)])
            clock.advance(90)
            await until(lambda number=number: engine.state().num_hung == number + 1)
        assert engine.state().reasoner == "broken"
        clock.advance(5)
        reading = await engine.read("q3", route="reasoned", deadline_s=1.0)
        assert (reading.route, reading.degraded) == ("direct", ("reasoner_broken",))
        gate.let(10)
        await until(lambda: engine.state().num_hung == 0)
        clock.advance(5)
        assert (await engine.read("q4", route="reasoned", deadline_s=1.0)).route == "reasoned"

    run(test, mind=Mind(reasoning=gate), settings={"max_hung": 2})


@pytest.mark.parametrize(
    "fault",
    [
        raises(RuntimeError("CUDA error")),
        raises(SystemExit(1)),
        lambda found: None,
        lambda found: found * np.nan,
        lambda found: found[:, :3],
        lambda found: found[:0],
    ],
)
def test_a_failing_embedder_leaves_the_text(fault: Any) -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        reading = await engine.read("pot", route="reasoned")
        assert (reading.route, reading.vector, reading.degraded) == ("bm25", None, ("embedder_failed",))
        mind.embedding = lambda found: found
        assert (await engine.read("pot", route="reasoned")).route == "reasoned"

    run(test, mind=Mind(embedding=fault))


def test_an_embedder_that_hangs_leaves_the_text_within_the_deadline() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        begun = clock.now()
        reading = await read_late(engine, clock, "pot", 0.5)
        assert (reading.route, reading.degraded) == ("bm25", ("embedder_timeout",))
        assert clock.now() - begun == pytest.approx(1.0)
        reading = await read_late(engine, clock, "pan", 0.1, deadline_s=0.2)
        assert reading.degraded == ("embedder_timeout",)
        clock.advance(30)
        await until(lambda: engine.state().embedder == "broken")
        assert (await engine.read("mug")).degraded == ("embedder_broken",)
        gate.let(10)
        await until(lambda: engine.state().embedder == "ok")
        assert (await engine.read("mug")).route == "direct"

    run(test, mind=Mind(embedding=gate), settings={"max_hung": 1})


def test_overload_goes_direct_and_then_by_text() -> None:
    slow, slower = Gate(), Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        slow.let(1)
        await engine.read("x", route="direct")
        mind.embedding = lambda found: found
        thinking = []
        for number in range(3):
            thinking.append(asyncio.ensure_future(engine.read(f"q{number}", route="reasoned")))
            await until(lambda number=number: bool(mind.reasoned) and engine.state().num_waiting[1] == number)
        reading = await engine.read("one more", route="reasoned")
        assert (reading.route, reading.degraded) == ("direct", ("overloaded",))
        slower.let(10)
        assert [reading.route for reading in await asyncio.gather(*thinking)] == ["reasoned"] * 3
        mind.embedding = slow
        embedding = []
        for number in range(3):
            embedding.append(asyncio.ensure_future(engine.read(f"r{number}")))
            await until(lambda number=number: "r0" in mind.embedded and engine.state().num_waiting[0] == number)
        assert (await engine.read("one more than that")).degraded == ("overloaded",)
        slow.let(10)
        assert [reading.route for reading in await asyncio.gather(*embedding)] == ["direct"] * 3

    run(test, mind=Mind(embedding=slow, reasoning=slower), settings={"queue_limit": 2})


def test_the_same_query_at_the_same_moment_is_one_call() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        readings = await asyncio.gather(
            *(engine.read(text, route="reasoned") for text in ["pot", " pot", "pot\n"] * 20)
        )
        assert {reading.route for reading in readings} == {"reasoned"}
        assert (mind.embedded, mind.reasoned) == (["pot"], ["pot"])

    run(test)


def test_a_client_that_leaves_takes_its_query_along() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        busy = asyncio.ensure_future(engine.read("busy", route="reasoned"))
        await until(lambda: mind.reasoned == ["busy"])
        leaving = asyncio.ensure_future(engine.read("leaving", route="reasoned"))
        await until(lambda: engine.state().num_waiting[1] == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.let(5)
        assert (await busy).route == "reasoned"
        assert (await engine.read("next", route="reasoned")).route == "reasoned"
        assert mind.reasoned == ["busy", "next"]

    run(test, mind=Mind(reasoning=gate))


def test_passages_are_embedded_as_items() -> None:
    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        found = await engine.embed_passages(["a", "b", "c"])
        assert found.tolist() == [vector_of(f"item {text}") for text in "abc"]
        assert (await engine.embed_passages([])).shape[0] == 0

    run(test, settings={"embed_batch": 2})


def test_passages_fail_as_a_whole_and_hold_up_no_query() -> None:
    gate, begun = Gate(), list[int]()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        tasks = [asyncio.ensure_future(engine.embed_passages(["a"]))]
        await until(lambda: begun == [1])
        for number in range(2):
            tasks.append(asyncio.ensure_future(engine.embed_passages(["b"])))
            await until(lambda number=number: engine.state().num_waiting[2] == number + 1)
        with pytest.raises(Overloaded):
            await engine.embed_passages(["c"])
        assert (await engine.read("pot")).route == "direct"
        gate.let(2)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(error) for error in found] == ["the model gave a vector of length nan, not 1"] * 3

    def embed(texts: Sequence[str]) -> Any:
        begun.append(len(texts))
        return gate(np.full((len(texts), 8), np.nan, np.float32))

    mind = Mind()
    mind.embed_items = embed  # type: ignore[method-assign]
    run(test, mind=mind, settings={"queue_limit": 2})


def test_warming_up_needs_the_embedder_alone() -> None:
    async def works(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        await engine.warm_up()
        assert (len(mind.embedded), len(mind.reasoned)) == (1, 1)

    async def goes_without(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        await engine.warm_up()
        assert (await engine.read("pot", route="reasoned")).degraded == ("reasoner_failed",)

    async def fails(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        with pytest.raises(ModelError, match="no GPU"):
            await engine.warm_up()

    run(works)
    run(goes_without, mind=Mind(reasoning=raises(RuntimeError("no GPU"))))
    run(fails, mind=Mind(embedding=raises(RuntimeError("no GPU"))))


def test_closing_answers_who_waits() -> None:
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        await engine.read("pot", route="direct")
        waiting = asyncio.ensure_future(engine.read("pot", route="reasoned"))
        await until(lambda: mind.reasoned == ["pot"])
        await engine.aclose()
        assert ((await waiting).route, (await waiting).degraded) == ("direct", ("closed",))
        assert (await engine.read("pan")).degraded == ("closed",)
        with pytest.raises(ShuttingDown):
            await engine.embed_passages(["a"])
        gate.let()

    run(test, mind=Mind(reasoning=gate))


def test_an_embedder_that_gives_nothing_is_not_waited_for() -> None:
    """Trap: with its server gone, every query would wait for ``embed_deadline_ms`` before it goes by its words."""
    gate = Gate()

    async def test(engine: QueryEngine, mind: Mind, clock: ManualClock) -> None:
        for number in range(2):
            reading = await read_late(engine, clock, f"lost {number}", 1.0, route="direct")
            assert reading.degraded == ("embedder_timeout",)
        assert engine.state().embedder == "open"
        reading = await engine.read("not waited for", route="direct")
        assert (reading.route, reading.degraded, reading.timings_ms) == ("bm25", ("embedder_open",), {})

        clock.advance(5.0)  # a trial, which waits, and nobody beside it
        trial = asyncio.ensure_future(engine.read("trial", route="direct"))
        await settle()
        assert (await engine.read("beside it", route="direct")).degraded == ("embedder_open",)
        gate.let(10)
        assert (await trial).degraded == ()
        assert engine.state().embedder == "ok"
        assert (await engine.read("as before", route="direct")).degraded == ()

    run(test, mind=Mind(embedding=gate), settings={"embed_deadline_ms": 1000})


def test_an_embedder_that_answers_some_is_waited_for() -> None:
    fails = {"bad 0", "bad 1", "bad 2", "bad 3", "bad 4"}

    def some(found: Any) -> Any:
        if mind.embedded[-1] in fails:
            raise ModelError("down")
        return found

    mind = Mind(embedding=some)

    async def test(engine: QueryEngine, _: Mind, __: ManualClock) -> None:
        for number in range(5):
            assert (await engine.read(f"good {number}", route="direct")).degraded == ()
            assert (await engine.read(f"bad {number}", route="direct")).degraded == ("embedder_failed",)

    run(test, mind=mind)
