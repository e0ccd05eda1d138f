"""The run: rows are read, checked and looked up in one thread, embedded in this one, written by the senders.

Between the three are short queues, so the slowest sets the pace and memory does not grow with the catalog. Nothing here
speaks to OpenSearch: what it needs of the index comes in as an ``IndexPort``, so the stages can be driven by another
engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lrem_os.config import CatalogSettings, IngestSettings
from lrem_os.errors import EmbeddingError, ModelError
from lrem_os.ingest.deadletter import DeadLetters
from lrem_os.ingest.documents import BadRow, build_document, row_id
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.prefetch import Prefetch
from lrem_os.ingest.report import Note, Tally
from lrem_os.ingest.sources import Row, Source, read_rows
from lrem_os.ingest.writer import BulkWriter
from lrem_os.search.bulk import BulkItem, Outcome, bulk_batches, bulk_item
from lrem_os.types import Document, Embedder, Vectors

_WINDOW_BYTES = 8 * 2**20  # a window of long rows is cut short, so that memory stays bounded
_WINDOWS_AHEAD = 1


class IndexPort(Protocol):
    """What the pipeline needs of an index."""

    def find_hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes already there, by id."""
        ...

    def send(self, batch: Sequence[BulkItem]) -> Outcome:
        """Write a batch. Raises ``SearchError``."""
        ...


@dataclass(slots=True)
class Stretch:
    """Consecutive rows of one file."""

    source_idx: int
    rows: list[Row] = field(default_factory=list)
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages with what they need; ``run`` takes an input through them.

    Args:
        catalog: Which field means what.
        settings: Sizes and patience.
        vector_field: Where the embedding goes.
        embedder: The model.
        index: Where it goes; ``None`` checks only (a dry run).
        tally: Counters to add to.
        dead_letters: Where rows go that cannot be indexed.
        lookup: Whether the index may hold some of it already.
    """

    catalog: CatalogSettings
    settings: IngestSettings
    vector_field: str
    embedder: Embedder | None
    index: IndexPort | None
    tally: Tally
    dead_letters: DeadLetters
    lookup: bool
    on_progress: Callable[[Tally], None] = lambda _tally: None

    def run(self, sources: Sequence[Source], manifest: Manifest) -> None:
        """Take every row to its end. Raises ``SearchError`` or ``DatasetError`` where it cannot go on."""
        index = self.index
        if index is None or self.embedder is None:
            for _ in self._windows(sources, manifest):
                self.on_progress(self.tally)
            return
        writer = BulkWriter(
            index.send,
            self.settings,
            on_done=self._on_done,
            on_refused=lambda item, reason: self._fail(item.document, "refused", reason),
            on_wait=self.on_wait,
            probe=lambda item: index.find_hashes([item.document.doc_id]),
        )
        with writer, Prefetch(self._windows(sources, manifest), ahead=_WINDOWS_AHEAD) as windows:
            idle = time.monotonic()
            for window in windows:
                self.tally.add(embed_wait_s=time.monotonic() - idle)
                self._embed_and_send(window, self.embedder, writer)
                self.on_progress(self.tally)
                idle = time.monotonic()
            writer.drain()
        self.on_progress(self.tally)

    def _windows(self, sources: Sequence[Source], manifest: Manifest) -> Iterator[list[Document]]:
        """Yield documents that must be embedded and written; everything else is decided here."""
        for stretch in self._stretches(sources):
            label = sources[stretch.source_idx].label
            first, last = stretch.rows[0].line, stretch.rows[-1].line
            superseded = manifest.superseded_by(stretch.source_idx, first, last)
            documents = self._check(stretch.rows, label, superseded)
            if self.lookup and self.index is not None and documents:
                there = self.index.find_hashes([document.doc_id for document in documents])
                changed = [document for document in documents if there.get(document.doc_id) != document.content_hash]
                self.tally.add(unchanged=len(documents) - len(changed))
                documents = changed
            if self.index is None:
                self.tally.add(indexed=len(documents))
            yield documents

    def _stretches(self, sources: Sequence[Source]) -> Iterator[Stretch]:
        for idx, source in enumerate(sources):
            stretch = Stretch(idx)
            for row in read_rows(source):
                stretch.rows.append(row)
                stretch.num_bytes += row.num_bytes
                if len(stretch.rows) >= self.settings.window or stretch.num_bytes >= _WINDOW_BYTES:
                    yield stretch
                    stretch = Stretch(idx)
            if stretch.rows:
                yield stretch

    def _check(self, rows: Sequence[Row], label: str, superseded: dict[int, str]) -> list[Document]:
        documents = []
        self.tally.add(read=len(rows))
        for row in rows:
            if row.line in superseded:
                self._supersede(row, label, superseded[row.line])
                continue
            try:
                document, notes = build_document(row, label, self.catalog, max_chars=self.settings.max_text_chars)
            except BadRow as exc:
                self._fail_row(row, label, exc.message)
                continue
            for message in notes:
                self.tally.note(Note(label, row.line, document.doc_id, message))
            documents.append(document)
        return documents

    def _embed_and_send(self, window: list[Document], embedder: Embedder, writer: BulkWriter) -> None:
        if not window:
            return
        start = time.monotonic()
        good, vectors = self._embed(window, embedder)
        embedded = time.monotonic()
        items = (bulk_item(document, vectors[row], self.vector_field) for row, document in enumerate(good))
        for batch in bulk_batches(items, max_docs=self.settings.bulk_docs, max_bytes=self.settings.bulk_bytes):
            self.tally.waiting = ""
            writer.submit(batch)
        self.tally.add(embed_s=embedded - start, send_wait_s=time.monotonic() - embedded)

    def _embed(self, documents: list[Document], embedder: Embedder) -> tuple[list[Document], Vectors]:
        """Embed, halving on a model error until the text that causes it stands alone; that one is given up."""
        try:
            vectors = embedder.embed_items([document.text for document in documents])
        except ModelError as exc:
            if len(documents) == 1:
                self._fail(documents[0], "model", exc.message)
                return [], np.zeros((0, embedder.dimension), dtype=np.float32)
            middle = len(documents) // 2
            first, first_vectors = self._embed(documents[:middle], embedder)
            second, second_vectors = self._embed(documents[middle:], embedder)
            return first + second, np.concatenate([first_vectors, second_vectors])
        if vectors.shape != (len(documents), embedder.dimension):
            raise EmbeddingError(
                f"the model returned vectors of shape {vectors.shape} for {len(documents)} texts "
                f"of {embedder.dimension} dimensions"
            )
        return self._without_broken(documents, np.ascontiguousarray(vectors, dtype=np.float32))

    def _without_broken(self, documents: list[Document], vectors: Vectors) -> tuple[list[Document], Vectors]:
        is_sound = np.asarray(np.isfinite(vectors).all(axis=1))
        if is_sound.all():
            return documents, vectors
        for position in np.flatnonzero(~is_sound):
            self._fail(documents[position], "model", "the model returned NaN or infinity for this text")
        return [document for document, sound in zip(documents, is_sound, strict=True) if sound], vectors[is_sound]

    def _on_done(self, items: Sequence[BulkItem]) -> None:
        self.tally.add(indexed=len(items))
        self.on_progress(self.tally)

    def on_wait(self, seconds: float, why: str) -> None:
        """Show that the run waits for the cluster, and why."""
        self.tally.waiting = f"{why}; trying again in {seconds:.1f} s"
        self.on_progress(self.tally)

    def _fail(self, document: Document, code: str, reason: str) -> None:
        self.tally.fail(code)
        self.dead_letters.add(
            path=document.path,
            line=document.line,
            doc_id=document.doc_id,
            code=code,
            reason=reason,
            row=document.source,
        )

    def _fail_row(self, row: Row, label: str, reason: str) -> None:
        self.tally.fail("bad_row")
        self.dead_letters.add(
            path=label,
            line=row.line,
            doc_id=_id_or_none(row, self.catalog),
            code="bad_row",
            reason=reason,
            row=row.raw if row.value is None else row.value,
        )

    def _supersede(self, row: Row, label: str, winner: str) -> None:
        self.tally.add(superseded=1)
        self.dead_letters.add(
            path=label,
            line=row.line,
            doc_id=_id_or_none(row, self.catalog),
            code="duplicate_id",
            reason=f"replaced by {winner}, which has the same id",
            row=row.value,
        )


def _id_or_none(row: Row, catalog: CatalogSettings) -> str | None:
    if row.value is None:
        return None
    try:
        return row_id(row.value, catalog)
    except BadRow:
        return None
