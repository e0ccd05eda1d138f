"""A deterministic embedder and a deterministic reasoner without a model. For tests and dry runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lrem_os.types import Reasoning, Vectors

VERSION = "1"
"""Raised whenever the vector of a text changes."""

_TRIGRAM_WEIGHT = 0.25  # a word of eight letters and its ten trigrams then count about the same
_CHUNK = 4096  # texts hashed together: bounds the memory of a large call
_SHORT_QUERY = 2  # words: a head query, about which there is nothing to add
_THINGS = (
    *("adapter", "backpack", "blanket", "bottle", "brush", "cable", "camera", "candle", "case", "chair", "charger"),
    *("clock", "cream", "cushion", "desk", "dress", "filter", "gloves", "grinder", "hammer", "harness", "headphones"),
    *("jacket", "kettle", "knife", "lamp", "mat", "mirror", "mug", "notebook", "pan", "pillow", "rack", "rug"),
    *("scarf", "shampoo", "shoes", "speaker", "stand", "toy", "trivet", "umbrella", "vase", "watch", "wallet"),
)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads neighbouring integers (Knuth, TAOCP 6.4)


class FakeEmbedder:
    """Hashes words and letter trigrams into signed buckets ("feature hashing", Weinberger et al. 2009).

    Texts that share words and letters are close.

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


class FakeReasoner:
    """Names one to three things that a hash of the query picks; nothing about a query of one or two words.

    Args:
        num_samples: Reasonings a query; each sample picks by itself.
    """

    def __init__(self, num_samples: int = 1) -> None:
        self._num_samples = num_samples

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords."""
        return {"model": "fake:", "revision": VERSION, "samples": self._num_samples}

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given."""
        return [tuple(_pick(query, sample) for sample in range(self._num_samples)) for query in queries]


def _pick(query: str, sample: int) -> Reasoning:
    digest = hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8, salt=b"%d" % sample).digest()
    num = 1 + digest[0] % 3 if len(query.split()) > _SHORT_QUERY else 0
    asked = query.lower().split()
    picked = dict.fromkeys(_THINGS[byte % len(_THINGS)] for byte in digest[1 : 1 + num])
    keywords = tuple(thing for thing in picked if thing not in asked)
    confidence = 0.5 + digest[7] / 512
    return Reasoning(keywords, ", ".join(keywords), num_tokens=len(keywords) + 1, confidence=confidence)


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
