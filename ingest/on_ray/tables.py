"""What travels between the stages, as Arrow tables: one row for every row of the input, from the file to its end.

A row that is decided on the way (unchanged, superseded, failed) travels on with nothing but its verdict: the account is
drawn up from what comes out at the end, where Ray hands over every block once, whatever it had to compute twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from lrem_os.ingest.deadletter import DUPLICATE, Letter
from lrem_os.ingest.report import Note
from lrem_os.ingest.stages import Checked
from lrem_os.types import Document

UNCHANGED, SUPERSEDED, FAILED, INDEXED, OPEN = range(5)
"""How a row ended; ``OPEN``: it has not yet."""

_VERDICT: list[tuple[str, Any]] = [
    ("state", pa.int8()),
    ("code", pa.string()),  # of a failure
    ("letter", pa.binary()),  # its line in the dead-letter file
    ("notes", pa.binary()),
    ("embed_s", pa.float64()),  # on the first row of a batch
    ("idle_s", pa.float64()),
]
_DOCUMENT: list[tuple[str, Any]] = [
    ("source", pa.int32()),
    ("line", pa.int64()),
    ("id", pa.string()),
    ("text", pa.string()),
    ("body", pa.binary()),
    ("hash", pa.string()),
    ("vector", pa.binary()),  # float32, little-endian as every machine that Ray runs on
]
VERDICTS = pa.schema(_VERDICT)
ROWS = pa.schema([*_VERDICT, *_DOCUMENT])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one row ended."""

    state: int
    code: str | None
    letter: bytes | None
    notes: tuple[Note, ...]


def checked_table(checked: Checked, source: int, there: dict[str, str]) -> Any:
    """Return the rows of a stretch.

    Args:
        checked: Its documents, letters and notes.
        source: Number of its file.
        there: Content hashes that the index holds already, by id.
    """
    notes: dict[int, list[Note]] = {}
    for note in checked.notes:
        notes.setdefault(note.line, []).append(note)
    rows = [_letter_row(letter) for letter in checked.letters]
    for document in checked.documents:
        row = _document_row(document, source)
        row["state"] = UNCHANGED if there.get(document.doc_id) == document.content_hash else OPEN
        if document.line in notes:
            row["notes"] = orjson.dumps([[n.path, n.line, n.doc_id, n.message] for n in notes[document.line]])
        rows.append(row)
    return table(rows, ROWS)


def table(rows: Sequence[dict[str, Any]], schema: Any) -> Any:
    """Return a table; columns that a row lacks are null."""
    return pa.Table.from_pylist(rows, schema=schema)


def open_documents(rows: Any, labels: Sequence[str]) -> tuple[list[int], list[Document]]:
    """Return the positions and the documents of those rows of a table that are not decided yet."""
    states = rows.column("state").to_pylist()
    positions = [position for position, state in enumerate(states) if state == OPEN]
    chosen = rows.select([name for name, _ in _DOCUMENT if name != "vector"]).take(pa.array(positions, pa.int64()))
    return positions, [
        Document(row["id"], row["text"], orjson.loads(row["body"]), row["hash"], labels[row["source"]], row["line"])
        for row in chosen.to_pylist()
    ]


def letters_by_line(letters: Iterable[Letter]) -> dict[tuple[str, int], Letter]:
    """Return letters by the place that their row stands at."""
    return {(letter.path, letter.line): letter for letter in letters}


def failed(letter: Letter) -> dict[str, Any]:
    """Return the columns of a row that is given up."""
    return {"state": FAILED, "code": letter.code, "letter": letter.encode()}


def verdicts(rows: Any) -> list[Verdict]:
    """Return what a table of verdicts says."""
    columns = [rows.column(name).to_pylist() for name in ("state", "code", "letter", "notes")]
    return [Verdict(state, code, letter, _notes(notes)) for state, code, letter, notes in zip(*columns, strict=True)]


def total(rows: Any, name: str) -> float:
    """Return the sum of a column of seconds."""
    return math.fsum(value for value in rows.column(name).to_pylist() if value is not None)


def _notes(data: bytes | None) -> tuple[Note, ...]:
    return () if data is None else tuple(Note(*fields) for fields in orjson.loads(data))


def _letter_row(letter: Letter) -> dict[str, Any]:
    return failed(letter) | ({"state": SUPERSEDED} if letter.code == DUPLICATE else {})


def _document_row(document: Document, source: int) -> dict[str, Any]:
    return {
        "source": source,
        "line": document.line,
        "id": document.doc_id,
        "text": document.text,
        "body": orjson.dumps(document.source),
        "hash": document.content_hash,
    }
