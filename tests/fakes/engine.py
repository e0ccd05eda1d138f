"""A query engine without models: what a text gives is written down before, or follows from its characters."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lrem_os.query_plugin.engine.engine import EngineState
from lrem_os.query_plugin.engine.reading import Reading, RouteName
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.types import Reasoning, Vectors

STATE = EngineState(
    embedder="ok",
    reasoner="ok",
    num_waiting=(0, 0, 0),
    num_hung=0,
    num_cached=(0, 0, 0),
    num_hits=(0, 0, 0),
    num_misses=(0, 0, 0),
)


def vector_of(text: str, dimension: int = 8) -> tuple[float, ...]:
    """Return numbers that are the same for the same text, exact in any JSON."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=dimension).digest()
    return tuple(byte / 256 + 1 / 512 for byte in digest)


def direct(text: str) -> Reading:
    return Reading(text, "direct", vector_of(text), timings_ms={"embed": 1.5})


def reasoned(text: str, *keywords: str) -> Reading:
    decision = Decision(True, 0.9, 0.5, "above_threshold", {"words": 3.0})
    samples = (Reasoning(keywords, ", ".join(keywords)),)
    return Reading(
        text, "reasoned", vector_of(text + "!"), keywords, samples, decision=decision, timings_ms={"reason": 9.0}
    )


def by_words(text: str, *degraded: str) -> Reading:
    return Reading(text, "bm25", None, degraded=degraded)


class FakeEngine:
    """Reads a text as ``readings`` says, and directly where it says nothing.

    Attributes:
        readings: By text.
        asked: Text, route and deadline of every call, in order.
        hold: Set it to an event, and calls wait for it.
        num_cancelled: Calls that were given up.
        passage_error: Raised by ``embed_passages``.
    """

    def __init__(self, readings: Mapping[str, Reading] | None = None) -> None:
        self.readings = dict(readings or {})
        self.asked: list[tuple[str, RouteName, float | None]] = []
        self.hold: asyncio.Event | None = None
        self.num_cancelled = 0
        self.passage_error: Exception | None = None
        self.read_error: Exception | None = None
        self.is_closed = False
        self.now = STATE

    async def read(self, text: str, *, route: RouteName = "auto", deadline_s: float | None = None) -> Reading:
        self.asked.append((text, route, deadline_s))
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.read_error is not None:
            raise self.read_error
        if route == "bm25":
            return by_words(text)
        return self.readings.get(text) or direct(text)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        if self.passage_error is not None:
            raise self.passage_error
        return np.array([vector_of(f"passage {text}") for text in texts], dtype=np.float32)

    async def warm_up(self) -> None:
        """Be warm."""

    def state(self) -> EngineState:
        return self.now

    def break_embedder(self) -> None:
        self.now = replace(STATE, embedder="broken")

    async def aclose(self) -> None:
        self.is_closed = True
