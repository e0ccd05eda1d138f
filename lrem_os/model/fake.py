"""A deterministic embedder without a model: texts that share words and letters are close. For tests and dry runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lrem_os.types import Vectors

VERSION = "1"
"""Raised whenever the vector of a text changes."""

_TRIGRAM_WEIGHT = 0.25  # a word of eight letters and its ten trigrams then count about the same
_CHUNK = 4096  # texts hashed together: bounds the memory of a large call
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads neighbouring integers (Knuth, TAOCP 6.4)


class FakeEmbedder:
    """Hashes words and letter trigrams into signed buckets ("feature hashing", Weinberger et al. 2009).

    The same text has the same vector in every process and on every machine.

    Args:
        dimension: Length D of a vector.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable."""
        return {"model": f"fake:{self._dimension}", "revision": VERSION, "dimension": self._dimension}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors, in the order given."""
        vectors = np.empty((len(texts), self._dimension), np.float32)
        for start in range(0, len(texts), _CHUNK):
            vectors[start : start + _CHUNK] = self._embed(texts[start : start + _CHUNK])
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the same as ``embed_items``: the fake knows no prefixes."""
        return self.embed_items(texts)

    def _embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        lowered = [text.lower() for text in texts]
        vectors = self._scatter(*_words(lowered), 1.0, len(texts))
        vectors += self._scatter(*_trigrams(lowered), _TRIGRAM_WEIGHT, len(texts))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[norms[:, 0] == 0, 0] = 1.0  # no feature at all, or all cancelled
        norms[norms == 0] = 1.0
        vectors /= norms
        return vectors

    def _scatter(
        self, rows: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], weight: float, num_rows: int
    ) -> npt.NDArray[np.float64]:
        """Add every feature to one bucket of its row, with a sign: (num_rows, D)."""
        buckets = (hashes >> np.uint64(8)) % np.uint64(self._dimension)
        signs = np.where(hashes & np.uint64(1), weight, -weight)
        cells = rows * self._dimension + buckets.astype(np.int64)
        sums = np.bincount(cells, signs, num_rows * self._dimension).astype(np.float64)  # integers if there are none
        return sums.reshape(num_rows, self._dimension)


def _words(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return row and hash of every word."""
    words = [text.split() for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(row) for row in words])
    hashes = np.fromiter((_hash_word(word) for row in words for word in row), np.uint64, len(rows))
    return rows, hashes


@lru_cache(maxsize=65_536)
def _hash_word(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8, person=b"lrem-os").digest()
    return int.from_bytes(digest, "little")


def _trigrams(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return row and hash of every three bytes in a row; a blank on either side marks beginning and end."""
    encoded = [f" {text} ".encode("utf-8", "surrogatepass") for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(row) for row in encoded])
    data = np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint64)
    inside = rows[:-2] == rows[2:]  # a trigram never spans two texts
    codes = (data[:-2] << np.uint64(16)) | (data[1:-1] << np.uint64(8)) | data[2:]
    hashes = codes[inside] * _MULTIPLIER
    return rows[:-2][inside], hashes ^ (hashes >> np.uint64(32))
