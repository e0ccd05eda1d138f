"""The index as an ingest sees it: looks up what is there, takes what is new, waits for a cluster that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from opensearchpy import OpenSearch

from lrem_os.ingest.throttle import patiently
from lrem_os.search.bulk import BulkItem, Outcome, find_hashes, send_bulk, sort_outcome


class IndexPort(Protocol):
    """What the stages need of an index."""

    def find_hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes already there, by id."""
        ...

    def send(self, batch: Sequence[BulkItem]) -> Outcome:
        """Write a batch. Raises ``SearchError``."""
        ...


class OpenSearchPort:
    """An index in a cluster.

    Args:
        client: Connection to the cluster.
        name: Of the index.
        max_wait_s: How long a look-up waits for a cluster that is busy or away.
        on_wait: Told, before a wait, how long and why.
    """

    def __init__(
        self,
        client: OpenSearch,
        name: str,
        max_wait_s: float,
        on_wait: Callable[[float, str], None] = lambda _seconds, _why: None,
    ) -> None:
        self._client, self._name, self._max_wait_s, self._on_wait = client, name, max_wait_s, on_wait

    def find_hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes already there, by id. Raises ``SearchError``."""
        return patiently(
            lambda: find_hashes(self._client, self._name, ids),
            max_wait_s=self._max_wait_s,
            on_wait=self._on_wait,
            sleep=time.sleep,
        )

    def send(self, batch: Sequence[BulkItem]) -> Outcome:
        """Write a batch. Raises ``SearchError``."""
        return sort_outcome(batch, send_bulk(self._client, self._name, batch))
