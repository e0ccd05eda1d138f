"""What becomes of one request on its way through the query engine, until it is a ``Reading``."""

from __future__ import annotations

from typing import Literal

from lrem_os.query_plugin.engine.calls import Thought
from lrem_os.query_plugin.engine.clock import Clock
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.routing.precomputed import Precomputed
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.text import normalise_query


class Request:
    """One query on its way.

    Args:
        text: As it came.
        clock: Tells how long each part took.
        deadline_s: Of the request, from now on; ``None``: it brought none.
    """

    def __init__(self, text: str, clock: Clock, deadline_s: float | None) -> None:
        self.text, self.key = text, normalise_query(text)
        self.deadline_s = deadline_s
        self._clock, self._begun = clock, clock.now()
        self._degraded: list[str] = []
        self._timings_ms: dict[str, float] = {}
        self._asked_model = False

    def left_s(self) -> float:
        """Return the seconds until the request's own deadline; without one, for ever."""
        return float("inf") if self.deadline_s is None else self._begun + self.deadline_s - self._clock.now()

    def degrade(self, code: str) -> None:
        """Take note that something went wrong beside the models."""
        self._degraded.append(code)

    def fail(self, code: str) -> None:
        """Take note that a model was asked in vain."""
        self._asked_model = True
        self._degraded.append(code)

    def time(self, name: str, since: float) -> None:
        """Take note that a part has ended."""
        self._timings_ms[name] = (self._clock.now() - since) * 1000

    def asked(self, queue_s: float) -> None:
        """Take note that a model was asked, and how long its batch was waited for."""
        self._asked_model = True
        self._timings_ms["queue"] = self._timings_ms.get("queue", 0.0) + queue_s * 1000

    def reading(
        self,
        route: Literal["direct", "reasoned", "bm25"],
        vector: tuple[float, ...] | None = None,
        thought: Thought | Precomputed | None = None,
        decision: Decision | None = None,
    ) -> Reading:
        """Return the end of it."""
        return Reading(
            text=self.text,
            route=route,
            vector=vector,
            keywords=() if thought is None else thought.keywords,
            reasonings=() if thought is None else thought.reasonings,
            degraded=tuple(self._degraded),
            decision=decision,
            cached=vector is not None and not self._asked_model,
            timings_ms=self._timings_ms,
        )
