"""Asks OpenSearch what direct retrieval finds: the signals of many queries in one request."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from lrem_os.errors import IndexMismatch
from lrem_os.query_plugin.routing.signals import Signals, parse_probe, probe_bodies
from lrem_os.search.client import search_many
from lrem_os.search.dialect import dialect_of
from lrem_os.search.index import require_index
from lrem_os.search.requests import SearchSetup

_FRESH_S = 1.0


def ask_probe(
    client: OpenSearch,
    index: str,
    setup: SearchSetup,
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    timeout_s: float | None = None,
) -> list[Signals]:
    """Return the signals of each query, in the order given.

    Args:
        client: Connection to the cluster.
        index: Index or alias.
        setup: Fields and filter.
        texts: As typed.
        vectors: Their direct unit vectors, shape (B, D).
        timeout_s: In place of the client's own.

    Raises:
        SearchError: OpenSearch failed on one of them.
    """
    if not texts:
        return []
    bodies = [
        body for text, vector in zip(texts, vectors.tolist(), strict=True) for body in probe_bodies(setup, text, vector)
    ]
    responses = search_many(client, index, bodies, timeout_s=timeout_s)
    scale = dialect_of(setup.search.engine).bm25_scale
    return [parse_probe(responses[first : first + 2], bm25_scale=scale) for first in range(0, len(responses), 2)]


class PinnedProbe:
    """Asks the version behind an alias, if its vectors are from the model that the queries' are from.

    Args:
        client: Connection to the cluster.
        alias: Index or alias.
        setup: Fields and filter.
        model: Fingerprint of the model.
        timeout_s: In place of the client's own.
    """

    def __init__(self, client: OpenSearch, alias: str, setup: SearchSetup, model: str, *, timeout_s: float) -> None:
        self._client, self._alias, self._setup = client, alias, setup
        self._model, self._timeout_s = model, timeout_s
        self._name, self._looked_at = "", float("-inf")

    def __call__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> list[Signals]:
        """Return the signals of each query, in the order given.

        Raises:
            IndexMismatch: The alias leads to vectors of another model.
            SearchError: OpenSearch failed on one of them.
        """
        if not texts:
            return []
        return ask_probe(self._client, self._version(), self._setup, texts, vectors, timeout_s=self._timeout_s)

    def _version(self) -> str:
        """Return the index itself: an alias may move between the look and the search."""
        if time.monotonic() - self._looked_at > _FRESH_S:
            state = require_index(self._client, self._alias)
            if state.model != self._model:
                raise IndexMismatch(f"{state.name} holds vectors of another model")
            self._name, self._looked_at = state.name, time.monotonic()
        return self._name
