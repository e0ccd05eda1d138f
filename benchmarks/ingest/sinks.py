"""Ingest into nothing: what the client alone costs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from lrem_os.config import Settings
from lrem_os.ingest.deadletter import DeadLetters
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.pipeline import Pipeline
from lrem_os.ingest.report import Tally
from lrem_os.ingest.sources import expand_sources
from lrem_os.search.bulk import BulkItem, Outcome
from lrem_os.types import Embedder


class NullPort:
    """An index that takes everything and keeps nothing."""

    def find_hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return nothing: it never has anything."""
        del ids
        return {}

    def send(self, batch: Sequence[BulkItem]) -> Outcome:
        """Take a batch; make the body, as a real one would."""
        b"".join([item.payload for item in batch])
        return Outcome(list(batch), [], [])


def ingest_to_null(settings: Settings, embedder: Embedder, catalog: Path, dead_letters: Path) -> Tally:
    """Run the whole pipeline over a catalog with nothing behind it; return the counters."""
    tally = Tally()
    sources = expand_sources([str(catalog)])
    with (
        contextlib.closing(DeadLetters(dead_letters)) as letters,
        Manifest(sources, settings.catalog) as manifest,
    ):
        manifest.build()
        Pipeline(
            settings.catalog,
            settings.ingest,
            settings.index.vector_field,
            embedder=embedder,
            index=NullPort(),
            tally=tally,
            dead_letters=letters,
            lookup=False,
        ).run(sources, manifest)
    return tally
