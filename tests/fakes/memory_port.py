"""An index in memory, behind the port that the pipeline writes through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from lrem_os.search.bulk import BulkItem, Outcome


class MemoryPort:
    """Holds what was written; fails on demand.

    Attributes:
        written: Body by id.
        sent: Ids of each request, in order of arrival, failed ones too.
        fault: Asked about every request: returns how it ends, raises, or returns ``None`` for a good end.
    """

    def __init__(self) -> None:
        self.written: dict[str, dict[str, Any]] = {}
        self.sent: list[list[str]] = []
        self.fault: Callable[[Sequence[BulkItem]], Outcome | None] = lambda _batch: None
        self._lock = threading.Lock()

    def find_hashes(self, ids: Sequence[str]) -> dict[str, str]:
        with self._lock:
            return {doc_id: self.written[doc_id]["lrem_hash"] for doc_id in ids if doc_id in self.written}

    def send(self, batch: Sequence[BulkItem]) -> Outcome:
        with self._lock:
            self.sent.append([item.document.doc_id for item in batch])
        outcome = self.fault(batch) or Outcome(list(batch), [], [])
        with self._lock:
            for item in outcome.done:
                action, body = item.payload.splitlines()
                self.written[orjson.loads(action)["index"]["_id"]] = orjson.loads(body)
        return outcome
