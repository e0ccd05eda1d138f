"""Asks OpenSearch what direct retrieval finds: the signals of many queries in one request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from lrem_os.query_plugin.routing.signals import Signals, parse_probe, probe_bodies
from lrem_os.search.client import search_many
from lrem_os.search.requests import SearchSetup


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
    return [parse_probe(responses[first : first + 2]) for first in range(0, len(responses), 2)]
