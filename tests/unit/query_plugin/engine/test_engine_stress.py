"""Everything that can go wrong with the models, at once: nobody waits beyond the deadline, and nothing stays broken."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from lrem_os.config_query import ServeSettings
from lrem_os.errors import GenerationError
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.types import Reasoned
from tests.fakes.clock import ManualClock, settle, until
from tests.fakes.mind import Mind

TICK_S = 0.01
OF_REASONER = {f"reasoner_{what}" for what in ("timeout", "failed", "open", "slow", "broken")}
OF_EMBEDDER = {f"embedder_{what}" for what in ("timeout", "failed", "open", "broken")}


class Trouble:
    """A fault that is another one at every call; four calls in eleven go well."""

    def __init__(self, clock: ManualClock, seed: int) -> None:
        kinds = ["raises", "killed", "hangs", "slow", "NaN", "count", "none", *["well"] * 4]
        random.Random(seed).shuffle(kinds)
        self._clock, self._kinds = clock, itertools.cycle(kinds)
        self.over = threading.Event()
        self.met: Counter[str] = Counter()

    def __call__(self, found: Any) -> Any:
        if self.over.is_set():
            return found
        kind = next(self._kinds)
        self.met[kind] += 1
        if kind == "raises":
            raise GenerationError("down")
        if kind == "killed":
            raise SystemExit(1)
        if kind == "hangs":
            self.over.wait(100)
        if kind == "slow":
            self._sleep(0.2)
        if kind == "none":
            return None
        if isinstance(found, Reasoned):
            vectors = found.vectors * np.float32(np.nan if kind == "NaN" else 1)
            return Reasoned(vectors, found.reasonings[: -1 if kind == "count" else None])
        return found[:-1] if kind == "count" else found * np.float32(np.nan if kind == "NaN" else 1)

    def _sleep(self, seconds: float) -> None:
        """Return when the test's clock is so much further; the model's thread must not move it."""
        end = self._clock.now() + seconds
        while self._clock.now() < end and not self.over.wait(0.001):
            pass


@pytest.mark.parametrize("seed", range(3))
def test_nobody_waits_beyond_the_deadline_and_nothing_stays_broken(seed: int) -> None:
    async def run() -> None:
        clock = ManualClock()
        thinking, embedding = Trouble(clock, seed), Trouble(clock, seed + 100)
        mind = Mind(reasoning=thinking, embedding=lambda found: embedding(found) if embedding_fails else found)
        embedding_fails = False
        engine = QueryEngine(
            mind,
            ServeSettings(
                reason_limit_s=1.0,
                embed_limit_s=1.0,
                embed_deadline_ms=500,
                breaker_open_s=0.2,
                queue_limit=20,
                max_hung=50,
            ),
            reasoner=mind,
            clock=clock,
        )
        readings: list[Reading] = []
        longest = 0.0

        async def read(number: int) -> None:
            nonlocal longest
            begun = clock.now()
            readings.append(await engine.read(f"query {number}", route="reasoned"))
            longest = max(longest, clock.now() - begun)

        tasks = []
        for number in range(400):
            embedding_fails = number >= 200
            tasks.append(asyncio.ensure_future(read(number)))
            await settle()
            await asyncio.sleep(0.001)
            clock.advance(TICK_S)
        for _ in range(200):
            clock.advance(TICK_S)
            await settle()
        assert all(task.done() for task in tasks)
        await asyncio.gather(*tasks)  # and none of them raised
        assert longest <= 0.5 + 0.15 + 2 * TICK_S
        check(readings)
        assert len(thinking.met) >= 3
        assert len(embedding.met) >= 3

        thinking.over.set()
        embedding.over.set()
        await until(lambda: engine.state().num_hung == 0)
        clock.advance(5)
        reading = await engine.read("afterwards", route="reasoned", deadline_s=5)
        assert (reading.route, reading.degraded) == ("reasoned", ())
        assert (engine.state().embedder, engine.state().num_waiting) == ("ok", (0, 0, 0))
        await engine.aclose()

    asyncio.run(run())


def check(readings: list[Reading]) -> None:
    """Every reading is what its route says, and says why it is no more."""
    routes = Counter(reading.route for reading in readings)
    assert set(routes) >= {"direct", "bm25"}
    for reading in readings:
        assert (reading.vector is None) == (reading.route == "bm25")
        assert (reading.degraded == ()) == (reading.route == "reasoned")
        if reading.route == "reasoned":
            assert reading.keywords == (f"about {reading.text}",)
        if reading.vector is not None:
            assert np.linalg.norm(reading.vector) == pytest.approx(1, abs=1e-5)
    met = {code for reading in readings for code in reading.degraded}
    assert met <= OF_REASONER | OF_EMBEDDER | {"overloaded"}
    assert len(met & OF_REASONER) >= 2
    assert met & OF_EMBEDDER
