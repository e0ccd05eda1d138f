"""An embedder whose query side was trained on its own: items are embedded by the base model, queries by the tuned one.

The vectors of the items are the base model's, so an index that was built with it stays valid, and the identity is the
base's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrem_os.types import Embedder, Vectors


class AsymmetricEmbedder:
    """Embeds queries with one model and items with another in the same space. As safe for threads as the two are.

    Args:
        queries: Embeds queries; its identity is that of the base.
        load_items: Loads what embeds items, when the first item comes: search never pays for it.
    """

    def __init__(self, queries: Embedder, load_items: Callable[[], Embedder]) -> None:
        self._queries = queries
        self._load_items = load_items
        self._items: Embedder | None = None
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._queries.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable: the base model's."""
        return self._queries.identity

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given. Raises ``ModelError``."""
        with self._lock:
            if self._items is None:
                self._items = self._load_items()
        return self._items.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries, in the order given. Raises ``ModelError``."""
        return self._queries.embed_queries(texts)
