"""What reads, embeds and writes an input: one process, or a Ray cluster. Both take the same and promise the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from lrem_os.config import Settings
from lrem_os.errors import ConfigError
from lrem_os.ingest.deadletter import DeadLetters
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.pipeline import Pipeline
from lrem_os.ingest.port import IndexPort
from lrem_os.ingest.report import Tally
from lrem_os.ingest.sources import Source
from lrem_os.types import Embedder


class Model(Protocol):
    """What an index must know of the model whose vectors it holds."""

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """An input on its way into an index.

    Args:
        port: The index, as this process sees it.
        index: Its name.
        sources: The input.
        manifest: Which of its rows win.
        tally: Counters to add to.
        dead_letters: Where rows go that cannot be indexed.
        lookup: Whether the index may hold some of it already.
        on_progress: Told the counters, from any thread.
    """

    port: IndexPort
    index: str
    sources: Sequence[Source]
    manifest: Manifest
    tally: Tally
    dead_letters: DeadLetters
    lookup: bool
    on_progress: Callable[[Tally], None]


class Engine(Model, Protocol):
    """Takes an input through the stages of an ingest."""

    def load(self, load: Load) -> None:
        """Take every row to its end: indexed, unchanged, or accounted for in the dead letters.

        Raises:
            DatasetError: The input cannot be read on.
            ModelError: The model cannot be used at all; one text that it fails on is a dead letter.
            SearchError: OpenSearch refuses, or stays away for longer than ``ingest.max_wait_s``.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """This process: a thread that reads, one that embeds, and the senders."""

    settings: Settings
    embedder: Embedder

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self.embedder.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable."""
        return self.embedder.identity

    def load(self, load: Load) -> None:
        """Take every row to its end."""
        Pipeline(
            self.settings.catalog,
            self.settings.ingest,
            self.settings.index.vector_field,
            embedder=self.embedder,
            index=load.port,
            tally=load.tally,
            dead_letters=load.dead_letters,
            lookup=load.lookup,
            on_progress=load.on_progress,
        ).run(load.sources, load.manifest)


def open_engine(settings: Settings, embedder: Embedder | None) -> AbstractContextManager[Engine]:
    """Return the configured engine, to be left when the run is over.

    Args:
        settings: The configuration.
        embedder: The model; ``None`` where the engine's workers load the configured one.

    Raises:
        ConfigError: The configuration does not fit the cluster, or there is no model.
        DependencyMissing: The extra ``ray`` is not installed.
        RayError: The Ray cluster cannot be used.
    """
    if settings.ingest.engine == "ray":
        from lrem_os.ingest.on_ray.engine import open_ray

        return open_ray(settings, embedder)
    if embedder is None:
        raise ConfigError("an ingest in this process needs an embedder", hint="load one: lrem_os.load_embedder")
    return nullcontext(LocalEngine(settings, embedder))
