"""Engines of several models, for the time in which an index goes from one model to another.

Each has queues, breakers and caches of its own; whoever reads a query says by whose model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from lrem_os.errors import LremError
from lrem_os.query_plugin.engine.engine import EngineState
from lrem_os.query_plugin.engine.reading import Reading, RouteName
from lrem_os.types import Vectors

_log = logging.getLogger("lrem_os.serve")


class Engine(Protocol):
    """What reads queries for the service: ``QueryEngine``, ``Engines``, or a fake in tests."""

    async def read(self, text: str, *, route: RouteName = "auto", deadline_s: float | None = None) -> Reading:
        """Return what to ask OpenSearch with; never raises for a fault of a model."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items. Raises ``LremError``."""
        ...

    async def warm_up(self) -> None:
        """Make every model answer once. Raises ``ModelError``."""
        ...

    def state(self) -> EngineState:
        """Return how the engine is."""
        ...

    async def aclose(self) -> None:
        """End."""
        ...


E = TypeVar("E", bound=Engine)


class Engines(Generic[E]):
    """Engines by the fingerprint of their model. Asked as one, they are the engine of the configured model.

    Args:
        by_model: At least one.
        configured: Fingerprint of the configured model.
    """

    def __init__(self, by_model: Mapping[str, E], configured: str) -> None:
        self.by_model = dict(by_model)
        self.configured = configured
        self._first = self.by_model[configured]

    async def read(self, text: str, *, route: RouteName = "auto", deadline_s: float | None = None) -> Reading:
        """Return the reading of the configured model."""
        return await self._first.read(text, route=route, deadline_s=deadline_s)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of the configured model. Raises ``LremError``."""
        return await self._first.embed_passages(texts)

    async def warm_up(self) -> None:
        """Make every model answer once; one beside the configured that does not is told in the log.

        Raises:
            ModelError: The configured one does not answer.
        """
        await self._first.warm_up()
        for model, engine in self.by_model.items():
            if engine is not self._first:
                try:
                    await engine.warm_up()
                except LremError as exc:
                    _log.warning("model %s does not answer: %s", model, exc)

    def state(self) -> EngineState:
        """Return how the engine of the configured model is."""
        return self._first.state()

    async def aclose(self) -> None:
        """End all."""
        await asyncio.gather(*(engine.aclose() for engine in self.by_model.values()))
