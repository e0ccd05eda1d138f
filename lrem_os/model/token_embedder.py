"""What embedders that tokenise here share: the contract, and the prefixes that it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lrem_os.model.contract import TokenContract
from lrem_os.types import Vectors


class TokenEmbedder(ABC):
    """An ``Embedder`` whose contract says how texts become vectors; how they are computed is its subclass's.

    Args:
        contract: Of it.
    """

    def __init__(self, contract: TokenContract) -> None:
        self._contract = contract

    @property
    def contract(self) -> TokenContract:
        """How texts become vectors."""
        return self._contract

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._contract.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable."""
        return self._contract.identity

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given.

        Raises:
            EmbeddingError: A vector has another length, or holds NaN or infinity.
            ModelError: A text cannot be tokenised, or the model failed.
        """
        return self._embed([self._contract.item_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries, in the order given. Raises as ``embed_items`` does."""
        return self._embed([self._contract.query_prefix + text for text in texts])

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of texts that have their prefix."""
