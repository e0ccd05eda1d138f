"""The run in one process: rows are read, checked and looked up in one thread, embedded in this one, and written by the
senders.

Between the three are short queues, so the slowest sets the pace and memory does not grow with the catalog. Nothing here
speaks to OpenSearch: what it needs of the index comes in as an ``IndexPort``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lrem_os.config import CatalogSettings, IngestSettings
from lrem_os.ingest.deadletter import DUPLICATE, DeadLetters, Letter
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.port import IndexPort
from lrem_os.ingest.prefetch import Prefetch
from lrem_os.ingest.report import Tally
from lrem_os.ingest.sources import Source
from lrem_os.ingest.stages import check_rows, embed_documents, given_up, read_stretches
from lrem_os.ingest.writer import BulkWriter
from lrem_os.search.bulk import BulkItem, bulk_batches, bulk_item
from lrem_os.types import Document, Embedder

_WINDOWS_AHEAD = 1


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
            on_refused=lambda item, reason: self._give_up(given_up(item.document, "refused", reason)),
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
        for idx, source in enumerate(sources):
            for stretch in read_stretches(source, max_rows=self.settings.window):
                superseded = manifest.superseded_by(idx, *stretch.lines)
                checked = check_rows(
                    stretch.rows, source.label, superseded, self.catalog, max_chars=self.settings.max_text_chars
                )
                self.tally.add(read=len(stretch.rows))
                for letter in checked.letters:
                    self._give_up(letter)
                for note in checked.notes:
                    self.tally.note(note)
                yield self._changed(checked.documents)

    def _changed(self, documents: list[Document]) -> list[Document]:
        if self.index is None:
            self.tally.add(indexed=len(documents))
        if not self.lookup or self.index is None or not documents:
            return documents
        there = self.index.find_hashes([document.doc_id for document in documents])
        changed = [document for document in documents if there.get(document.doc_id) != document.content_hash]
        self.tally.add(unchanged=len(documents) - len(changed))
        return changed

    def _embed_and_send(self, window: list[Document], embedder: Embedder, writer: BulkWriter) -> None:
        if not window:
            return
        start = time.monotonic()
        good = embed_documents(window, embedder)
        for letter in good.letters:
            self._give_up(letter)
        embedded = time.monotonic()
        pairs = zip(good.documents, good.vectors, strict=True)
        items = (bulk_item(document, vector, self.vector_field) for document, vector in pairs)
        for batch in bulk_batches(items, max_docs=self.settings.bulk_docs, max_bytes=self.settings.bulk_bytes):
            self.tally.waiting = ""
            writer.submit(batch)
        self.tally.add(embed_s=embedded - start, send_wait_s=time.monotonic() - embedded)

    def _on_done(self, items: Sequence[BulkItem]) -> None:
        self.tally.add(indexed=len(items))
        self.on_progress(self.tally)

    def on_wait(self, seconds: float, why: str) -> None:
        """Show that the run waits for the cluster, and why."""
        self.tally.waiting = f"{why}; trying again in {seconds:.1f} s"
        self.on_progress(self.tally)

    def _give_up(self, letter: Letter) -> None:
        self.tally.give_up(letter.code, superseded=letter.code == DUPLICATE)
        self.dead_letters.add(letter)
