"""What happens to rows between a file and an index, as functions of their input alone: every engine runs these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lrem_os.config import CatalogSettings
from lrem_os.errors import EmbeddingError, ModelError
from lrem_os.ingest.deadletter import DUPLICATE, Letter
from lrem_os.ingest.documents import BadRow, build_document, row_id
from lrem_os.ingest.report import Note
from lrem_os.ingest.sources import Row, Source, read_rows
from lrem_os.types import Document, Embedder, Vectors

_WINDOW_BYTES = 8 * 2**20  # a window of long rows is cut short, so that memory stays bounded


@dataclass(slots=True)
class Stretch:
    """Consecutive rows of one file."""

    rows: list[Row] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def lines(self) -> tuple[int, int]:
        """First and last line."""
        return self.rows[0].line, self.rows[-1].line


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of the rows of a stretch, in their order: documents, and letters for those that are none."""

    documents: list[Document] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Documents with their vectors, one row each, and letters for those that the model cannot embed."""

    documents: list[Document]
    vectors: Vectors
    letters: list[Letter]


def read_stretches(source: Source, *, max_rows: int) -> Iterator[Stretch]:
    """Yield the rows of a file by stretches. Raises ``DatasetError`` as ``read_rows`` does."""
    stretch = Stretch()
    for row in read_rows(source):
        stretch.rows.append(row)
        stretch.num_bytes += row.num_bytes
        if len(stretch.rows) >= max_rows or stretch.num_bytes >= _WINDOW_BYTES:
            yield stretch
            stretch = Stretch()
    if stretch.rows:
        yield stretch


def check_rows(
    rows: Sequence[Row], label: str, superseded: Mapping[int, str], catalog: CatalogSettings, *, max_chars: int
) -> Checked:
    """Turn rows into documents.

    Args:
        rows: Of one file.
        label: Its name in reports.
        superseded: By line, which row replaces it.
        catalog: Which field means what.
        max_chars: A longer embedded text is cut.
    """
    checked = Checked()
    for row in rows:
        if row.line in superseded:
            reason = f"replaced by {superseded[row.line]}, which has the same id"
            checked.letters.append(Letter(label, row.line, _id_or_none(row, catalog), DUPLICATE, reason, row.value))
            continue
        try:
            document, notes = build_document(row, label, catalog, max_chars=max_chars)
        except BadRow as exc:
            shown = row.raw if row.value is None else row.value
            letter = Letter(label, row.line, _id_or_none(row, catalog), "bad_row", exc.message, shown)
            checked.letters.append(letter)
            continue
        checked.notes.extend(Note(label, row.line, document.doc_id, message) for message in notes)
        checked.documents.append(document)
    return checked


def embed_documents(documents: list[Document], embedder: Embedder) -> Embedded:
    """Embed, halving on a model error until the text that causes it stands alone; that one is given up.

    Raises:
        EmbeddingError: The model returned vectors of another shape than it has.
    """
    try:
        vectors = embedder.embed_items([document.text for document in documents])
    except ModelError as exc:
        if len(documents) == 1:
            nothing = np.zeros((0, embedder.dimension), dtype=np.float32)
            return Embedded([], nothing, [given_up(documents[0], "model", exc.message)])
        middle = len(documents) // 2
        first = embed_documents(documents[:middle], embedder)
        second = embed_documents(documents[middle:], embedder)
        return Embedded(
            first.documents + second.documents,
            np.concatenate([first.vectors, second.vectors]),
            first.letters + second.letters,
        )
    if vectors.shape != (len(documents), embedder.dimension):
        raise EmbeddingError(
            f"the model returned vectors of shape {vectors.shape} for {len(documents)} texts "
            f"of {embedder.dimension} dimensions"
        )
    return _without_broken(documents, np.ascontiguousarray(vectors, dtype=np.float32))


def given_up(document: Document, code: str, reason: str) -> Letter:
    """Return the letter of a document that is not indexed."""
    return Letter(document.path, document.line, document.doc_id, code, reason, document.source)


def _without_broken(documents: list[Document], vectors: Vectors) -> Embedded:
    is_sound = np.asarray(np.isfinite(vectors).all(axis=1))
    if is_sound.all():
        return Embedded(documents, vectors, [])
    reason = "the model returned NaN or infinity for this text"
    letters = [given_up(documents[position], "model", reason) for position in np.flatnonzero(~is_sound)]
    sound = [document for document, sound in zip(documents, is_sound, strict=True) if sound]
    return Embedded(sound, vectors[is_sound], letters)


def _id_or_none(row: Row, catalog: CatalogSettings) -> str | None:
    if row.value is None:
        return None
    try:
        return row_id(row.value, catalog)
    except BadRow:
        return None
