"""The ids of the whole input, on disk: finds duplicates before anything is written, and knows what a sync must keep.

A first pass over the files costs a few microseconds a row and buys three things: of rows with the same id only the last
good one is embedded and written, whatever order the requests arrive in; a killed run that starts again sees the same
rows win; and progress has an end to count towards. SQLite in a temporary file keeps memory flat.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

from lrem_os.config import CatalogSettings
from lrem_os.errors import InputError
from lrem_os.ingest.documents import BadRow, check_row, row_id
from lrem_os.ingest.sources import Row, Source, read_rows

_LINE_BITS = 40
_BATCH = 5000

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE winner (id TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE superseded (position INTEGER PRIMARY KEY, by_position INTEGER NOT NULL);
CREATE TABLE unusable (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER later_row_wins BEFORE UPDATE ON winner BEGIN
    INSERT INTO superseded VALUES (OLD.position, NEW.position);
END;
"""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first pass counted.

    Args:
        rows_per_source: Rows of each file, bad ones included.
        num_without_id: Rows whose id could not be read.
    """

    rows_per_source: tuple[int, ...]
    num_without_id: int

    @property
    def num_rows(self) -> int:
        """Rows of the whole input."""
        return sum(self.rows_per_source)


class Manifest(AbstractContextManager["Manifest"]):
    """Winners and losers among the rows of an input. Use as a context manager."""

    def __init__(self, sources: Sequence[Source], catalog: CatalogSettings) -> None:
        self._sources = sources
        self._catalog = catalog
        # no name: a temporary file that goes with the connection, however the process ends
        # the reader thread looks up what the main thread scanned before it started: never both at once
        self._db = sqlite3.connect("", check_same_thread=False)
        self._db.executescript(_SCHEMA)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def build(self) -> Scan:
        """Read every source once.

        Raises:
            DatasetError: A file as a whole cannot be read.
            InputError: There is no space for the list of ids.
        """
        try:
            return self._scan()
        except sqlite3.OperationalError as exc:
            raise InputError(
                f"the ids of the input cannot be kept in a temporary file: {exc}",
                hint="free some space, or set TMPDIR to a folder that has it",
            ) from exc

    def _scan(self) -> Scan:
        rows_per_source = [0] * len(self._sources)
        num_without_id = 0
        winners: list[tuple[str, int]] = []
        for idx, source in enumerate(self._sources):
            for row in read_rows(source):
                rows_per_source[idx] += 1
                try:
                    winners.append((check_row(row, self._catalog)[0], _position(idx, row.line)))
                except BadRow:
                    num_without_id += not self._note_unusable(row)
                if len(winners) >= _BATCH:
                    self._add(winners)
                    winners.clear()
        self._add(winners)
        self._db.commit()
        return Scan(tuple(rows_per_source), num_without_id)

    def superseded_by(self, source_idx: int, first_line: int, last_line: int) -> dict[int, str]:
        """Return, for the lines of a stretch that a later row with the same id replaces, where that row is."""
        found = self._db.execute(
            "SELECT position, by_position FROM superseded WHERE position BETWEEN ? AND ?",
            (_position(source_idx, first_line), _position(source_idx, last_line)),
        )
        mask = (1 << _LINE_BITS) - 1
        return {position & mask: f"{self._sources[by >> _LINE_BITS].label}:{by & mask}" for position, by in found}

    def absent(self, ids: Iterable[str]) -> list[str]:
        """Return those of the ids that no row of the input has, readable or not in its other fields."""
        query = "SELECT 1 FROM winner WHERE id = :id UNION ALL SELECT 1 FROM unusable WHERE id = :id LIMIT 1"
        return [doc_id for doc_id in ids if self._db.execute(query, {"id": doc_id}).fetchone() is None]

    def _add(self, winners: list[tuple[str, int]]) -> None:
        self._db.executemany(
            "INSERT INTO winner VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET position = excluded.position", winners
        )

    def _note_unusable(self, row: Row) -> bool:
        """Remember the id of a bad row, if it has one: the product exists, so a sync must not delete it."""
        if row.value is None:
            return False
        try:
            doc_id = row_id(row.value, self._catalog)
            self._db.execute("INSERT OR IGNORE INTO unusable VALUES (?)", (doc_id,))
        except (BadRow, UnicodeEncodeError):
            return False
        return True


def _position(source_idx: int, line: int) -> int:
    return (source_idx << _LINE_BITS) | line
