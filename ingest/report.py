"""What an ingest did, counted; and the running counters that several threads add to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_MAX_NOTES = 100


@dataclass(frozen=True, slots=True)
class Note:
    """Something put right, or worth knowing, about one row."""

    path: str
    line: int
    doc_id: str
    message: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The account of an ingest: ``read == indexed + unchanged + superseded + failed``.

    Args:
        alias: The name that is searched.
        index: The index that was written.
        read: Rows of the input, blank lines not counted.
        indexed: Embedded and written.
        unchanged: Already there with the same content, so neither embedded nor written.
        superseded: Replaced by a later row with the same id.
        failed: Could not be indexed.
        deleted: Removed by a sync.
        failures: Failed rows by code.
        dead_letters: File that names each failed and superseded row; ``None`` when there is none.
        notes: The first hundred rows in which something was put right.
        num_notes: How many there are.
        seconds: Wall time.
        embed_s: Time in the model.
        embed_wait_s: Time the model waited for rows.
        send_wait_s: Time the model waited for the cluster.
        published: Whether the alias points to the index now.
        previous: The index that the alias pointed to before, if it changed.
        dry_run: Nothing was written.
    """

    alias: str
    index: str
    read: int
    indexed: int
    unchanged: int
    superseded: int
    failed: int
    deleted: int
    failures: dict[str, int]
    dead_letters: str | None
    notes: tuple[Note, ...]
    num_notes: int
    seconds: float
    embed_s: float
    embed_wait_s: float
    send_wait_s: float
    published: bool
    previous: str | None
    dry_run: bool

    @property
    def adds_up(self) -> bool:
        """Whether every row of the input is accounted for."""
        return self.read == self.indexed + self.unchanged + self.superseded + self.failed

    @property
    def docs_per_s(self) -> float:
        """Rows decided per second of wall time."""
        return self.read / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Tally:
    """Running counters; add from any thread."""

    total: int = 0
    read: int = 0
    indexed: int = 0
    unchanged: int = 0
    superseded: int = 0
    failed: int = 0
    deleted: int = 0
    embed_s: float = 0.0
    embed_wait_s: float = 0.0
    send_wait_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    notes: list[Note] = field(default_factory=list)
    num_notes: int = 0
    waiting: str = ""
    started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: float) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def give_up(self, code: str, *, superseded: bool = False) -> None:
        """Count one row that is not indexed: replaced by a later one with its id, or failed."""
        with self._lock:
            if superseded:
                self.superseded += 1
                return
            self.failed += 1
            self.failures[code] += 1

    def note(self, note: Note) -> None:
        """Keep a note, the first hundred in full."""
        with self._lock:
            self.num_notes += 1
            if len(self.notes) < _MAX_NOTES:
                self.notes.append(note)

    @property
    def decided(self) -> int:
        """Rows whose fate is known."""
        return self.indexed + self.unchanged + self.superseded + self.failed

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self.started

    def report(self, **facts: Any) -> IngestReport:
        """Return the account, with what only the caller knows."""
        return IngestReport(
            read=self.read,
            indexed=self.indexed,
            unchanged=self.unchanged,
            superseded=self.superseded,
            failed=self.failed,
            deleted=self.deleted,
            failures=dict(self.failures),
            notes=tuple(self.notes),
            num_notes=self.num_notes,
            seconds=self.seconds,
            embed_s=self.embed_s,
            embed_wait_s=self.embed_wait_s,
            send_wait_s=self.send_wait_s,
            **facts,
        )
