"""A composed model: any embedder, and any reasoner whose keywords are embedded beside the query.

The reasoned vector of a query (``reasoning.combine`` = ``mean``), with the query's weight w and S samples, is::

    normalise(w · e(query) + (1 - w) · sum over s of weight_s · e(", ".join(keywords of s)))

e embeds as a query. A sample without keywords stands for e(query) itself, and a query whose samples are all empty
keeps exactly its direct vector. ``text`` embeds ``query (keywords of s)`` in place of the keywords alone: an embedder
that was trained so can tell from the query which keywords to trust.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lrem_os.config import ReasoningSettings
from lrem_os.errors import GenerationError
from lrem_os.model.prompts import query_with_keywords
from lrem_os.model.rows import check_finite
from lrem_os.types import Embedder, Reasoned, Reasoner, Reasoning, Vectors

AGREEMENT_TEMPERATURE = 0.1
"""Of the softmax over mean cosines: a sample 0.1 closer to the others counts e times as much."""

_SHORTEST = 1e-6  # a sum of opposite vectors points nowhere


class ComposedEmbedder:
    """Reasons with one model and embeds with another. Safe to call from several threads if both are.

    Direct vectors, of items and queries, are the embedder's own, and so is the identity: an index does not notice
    whether a reasoner is there.

    Args:
        embedder: Embeds queries, items and keywords.
        reasoner: Writes the keywords; a function is called when the first query is to be reasoned about, so that the
            direct path never loads it.
        settings: How keywords and query become one vector.
    """

    def __init__(
        self, embedder: Embedder, reasoner: Reasoner | Callable[[], Reasoner], settings: ReasoningSettings
    ) -> None:
        self._embedder = embedder
        self._reasoner: Reasoner | None = None if callable(reasoner) else reasoner
        self._load = reasoner if callable(reasoner) else None
        self._lock = threading.Lock()
        self._settings = settings

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._embedder.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable: the embedder alone."""
        return self._embedder.identity

    @property
    def reasoner(self) -> Reasoner:
        """The reasoner, loaded now if it is not yet. Raises ``ModelError``."""
        with self._lock:
            if self._reasoner is None and self._load is not None:
                self._reasoner = self._load()
        if self._reasoner is None:
            raise GenerationError("there is no reasoner")
        return self._reasoner

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given. Raises ``ModelError``."""
        return self._embedder.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries as they are, in the order given. Raises ``ModelError``."""
        return self._embedder.embed_queries(texts)

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query; of one that failed alone, empty ones.

        Raises:
            GenerationError: The reasoner failed as a whole.
        """
        found = self.reasoner.reason(queries) if queries else []
        if len(found) != len(queries):
            raise GenerationError(f"the reasoner gave {len(found)} answers to {len(queries)} queries")
        return found

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        """Return (B, D) unit vectors of queries with their reasoning.

        Raises:
            EmbeddingError: A vector holds NaN or infinity.
            GenerationError: The reasoner failed as a whole.
        """
        started = time.perf_counter()
        reasonings = self.reason(queries)
        reasoned = time.perf_counter()
        vectors = self._embed_mean(queries, reasonings)
        check_finite(vectors)
        return Reasoned(
            vectors=vectors,
            reasonings=tuple(reasonings),
            reason_ms=(reasoned - started) * 1000,
            embed_ms=(time.perf_counter() - reasoned) * 1000,
        )

    def _embed_mean(self, queries: Sequence[str], reasonings: Sequence[Sequence[Reasoning]]) -> Vectors:
        wanted = [
            [self._text(query, sample) for sample in samples]
            for query, samples in zip(queries, reasonings, strict=True)
        ]
        texts = sorted({text for row in wanted for text in row if text})
        found = self.embed_queries([*queries, *texts])
        direct, rows = found[: len(queries)], dict(zip(texts, found[len(queries) :], strict=True))
        vectors = direct.copy()
        for row, samples in enumerate(reasonings):
            if any(wanted[row]):
                parts = np.stack([rows.get(text, direct[row]) for text in wanted[row]])
                weights = sample_weights(samples, parts, self._settings.weighting)
                vectors[row] = mix(direct[row], weights @ parts, self._settings.query_weight)
        return vectors

    def _text(self, query: str, sample: Reasoning) -> str:
        """Return what is embedded of a sample; nothing of one without keywords."""
        if self._settings.combine == "text" and sample.keywords:
            return query_with_keywords(query, sample.keywords)
        return ", ".join(sample.keywords)


def sample_weights(samples: Sequence[Reasoning], vectors: Vectors, weighting: str) -> npt.NDArray[np.float64]:
    """Return the weight of each sample, shape (S,); they sum to 1.

    ``confidence``: in proportion to it; equal where one is not known. ``agreement``: softmax over the mean cosine of a
    sample's vector with those of the others, with temperature ``AGREEMENT_TEMPERATURE``: a sample that drifts to
    another kind of product counts little. Anything else: equal.

    Args:
        samples: S samples of one query.
        vectors: Their unit vectors, shape (S, D).
        weighting: ``uniform``, ``confidence`` or ``agreement``.
    """
    num = len(samples)
    equal = np.full(num, 1 / num)
    if weighting == "confidence":
        confidences = np.array([sample.confidence for sample in samples])
        total = float(confidences.sum())
        if not np.isfinite(total) or total <= 0:
            return equal
        shares: npt.NDArray[np.float64] = confidences / total
        return shares
    if weighting == "agreement" and num > 1:
        cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
        mean = (cosines.sum(axis=1) - cosines.diagonal()) / (num - 1)
        raw = np.exp((mean - mean.max()) / AGREEMENT_TEMPERATURE)
        weights: npt.NDArray[np.float64] = raw / raw.sum()
        return weights
    return equal


def mix(query: Vectors, keywords: npt.NDArray[Any], query_weight: float) -> Vectors:
    """Return the unit vector between the query's and the keywords', each shape (D,); the query's where they cancel."""
    mixed = query_weight * query.astype(np.float64) + (1 - query_weight) * keywords
    length = float(np.linalg.norm(mixed))
    unit: Vectors = query if length < _SHORTEST else (mixed / length).astype(np.float32)
    return unit
