"""The dead-letter file: one JSON object for every row that was not indexed, with where it stood and why."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from lrem_os.errors import DatasetError

DUPLICATE = "duplicate_id"


@dataclass(frozen=True, slots=True)
class Letter:
    """A row that is not indexed, and why.

    Args:
        path: Input file.
        line: Line in it, from 1.
        doc_id: The product's id, if it could be read.
        code: ``bad_row``, ``duplicate_id``, ``model`` or ``refused``.
        reason: Why, in a sentence.
        row: The row as it was read, so that it can be mended and ingested again.
    """

    path: str
    line: int
    doc_id: str | None
    code: str
    reason: str
    row: Mapping[str, Any] | str | None = None

    def encode(self) -> bytes:
        """Return its line in the file."""
        entry = {"path": self.path, "line": self.line, "id": self.doc_id, "code": self.code, "reason": self.reason}
        try:
            return orjson.dumps(entry | {"row": self.row}, option=orjson.OPT_APPEND_NEWLINE, default=str)
        except TypeError:  # the very reason it is here: too deep, or no text
            return orjson.dumps(entry | {"row": None}, option=orjson.OPT_APPEND_NEWLINE)


class DeadLetters:
    """Appends to a JSONL file, created with the first entry; safe from several threads.

    Args:
        path: The file; it must not exist yet.

    Raises:
        DatasetError: It exists: told now, not at the first bad row an hour later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        if os.path.lexists(path):
            raise self._unusable("it exists already")

    def add(self, letter: Letter) -> None:
        """Write one entry through to the file."""
        self.write(letter.encode())

    def write(self, data: bytes) -> None:
        """Write the line of an encoded letter through to the file."""
        with self._lock:
            try:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = self.path.open("xb")
                self._file.write(data)
                self._file.flush()
            except OSError as exc:
                raise self._unusable(exc.strerror or str(exc)) from exc
            self.count += 1

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()

    def _unusable(self, reason: str) -> DatasetError:
        return DatasetError(
            f"the dead-letter file cannot be written: {reason}",
            path=self.path,
            hint="name another with --dead-letters",
        )
