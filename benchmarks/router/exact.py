"""The retrieval that OpenSearch does, exactly and in this process: BM25 over analysed fields, cosine, min-max fusion.

For a benchmark that needs thousands of searches on a machine that has better to do than to run a node. It follows
Lucene's formulas (analyzer ``english``, BM25Similarity with norms of one byte, ``best_fields`` with a tie-breaker) and
the bodies of ``lrem_os.search.requests``; the vector leg is exact where HNSW is nearly so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import snowballstemmer
from numpy.typing import NDArray

from lrem_os.query_plugin.routing.signals import PROBE_DEPTH, Leg, Signals
from lrem_os.search.requests import keyword_boost
from lrem_os.text import render_value

_K1, _B = 1.2, 0.75
_TIE_BREAKER = 0.3
_LOWEST = 0.001  # what min-max gives the last hit of a leg
_TOKEN = re.compile(r"\w+(?:['’.]\w+)*")
_STOP = frozenset(
    _TOKEN.findall(
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
        " this to was will with"
    )
)
_stem = snowballstemmer.stemmer("porter").stemWord


@lru_cache(maxsize=100_000)
def analyse(text: str) -> tuple[str, ...]:
    """Return the terms of a text, as the analyzer ``english`` does."""
    words = (re.sub(r"['’]s$", "", token.lower()) for token in _TOKEN.findall(text))
    return tuple(_stem(word) for word in words if word not in _STOP)


@dataclass(frozen=True)
class _Field:
    boost: float
    postings: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]  # documents, and their share of the idf

    def score(self, terms: Sequence[str], num_documents: int) -> NDArray[np.float64]:
        scores = np.zeros(num_documents)
        for term in terms:
            if term in self.postings:
                documents, values = self.postings[term]
                scores[documents] += self.boost * values
        return scores


class ExactIndex:
    """A catalog, searchable.

    Args:
        rows: Products with an ``id``.
        vectors: Their unit vectors, shape (N, D).
        fields: Analysed fields with their weights.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32], fields: Mapping[str, float]
    ) -> None:
        self.ids = [str(row["id"]) for row in rows]
        self._vectors = vectors
        self._fields = [
            _build_field([analyse(render_value(row.get(name))) for row in rows], boost)
            for name, boost in fields.items()
            if any(row.get(name) for row in rows)
        ]
        self._num_fields = len(fields)
        self._order = np.argsort(np.argsort(self.ids))  # equal scores: by id

    def bm25(self, text: str, keywords: Sequence[str] = (), text_boost: float = 0.0) -> NDArray[np.float64]:
        """Return the text leg's score of every product, shape (N,); 0: not found."""
        scores = self._best_fields(text)
        added = ", ".join(keywords)
        if added and text_boost > 0:
            scores = scores + keyword_boost(text_boost, text, added) * self._best_fields(added)
        return scores

    def cosine(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the cosine of every product, shape (N,)."""
        cosines: NDArray[np.float64] = (self._vectors @ vector).astype(np.float64)
        return cosines

    def probe(self, text: str, vector: NDArray[np.float32]) -> Signals:
        """Return what a probe finds."""
        cosines = self.cosine(vector)
        as_scored = np.where(cosines >= 0, 1 + cosines, 1 / (1 - np.minimum(cosines, 0)))
        return Signals(self._leg(self.bm25(text), found_only=True), self._leg(as_scored))

    def hybrid(
        self,
        bm25: NDArray[np.float64],
        cosines: NDArray[np.float64],
        weights: tuple[float, float],
        *,
        candidates: int,
        top_k: int,
    ) -> list[str]:
        """Return the ids of the best products, both legs fused."""
        fused = np.zeros(len(self.ids))
        for scores, weight, found_only in ((bm25, weights[0], True), (cosines, weights[1], False)):
            top = self._top(scores, candidates, found_only=found_only)
            if len(top):
                fused[top] += weight * _min_max(scores[top])
        return [self.ids[row] for row in self._top(fused, top_k, found_only=True)]

    def _best_fields(self, text: str) -> NDArray[np.float64]:
        terms = analyse(text)
        scores = np.stack([field.score(terms, len(self.ids)) for field in self._fields])
        best: NDArray[np.float64] = scores.max(axis=0)
        return best + _TIE_BREAKER * (scores.sum(axis=0) - best)

    def _leg(self, scores: NDArray[np.float64], *, found_only: bool = False) -> Leg:
        top = self._top(scores, PROBE_DEPTH, found_only=found_only)
        return Leg(tuple(self.ids[row] for row in top), tuple(float(scores[row]) for row in top))

    def _top(self, scores: NDArray[np.float64], num: int, *, found_only: bool) -> NDArray[np.int64]:
        rows = np.lexsort((self._order, -scores))[:num]
        return rows[scores[rows] > 0] if found_only else rows


def _min_max(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = scores.min(), scores.max()
    if high == low:
        return np.ones(len(scores))
    return np.maximum((scores - low) / (high - low), _LOWEST)


def _build_field(texts: Sequence[tuple[str, ...]], boost: float) -> _Field:
    """Return BM25's share of every term in every text; Lucene leaves out the factor k1 + 1."""
    has = [len(terms) for terms in texts if terms]
    average = sum(has) / len(has)
    postings: dict[str, tuple[list[int], list[float]]] = {}
    for document, terms in enumerate(texts):
        norm = _K1 * (1 - _B + _B * _one_byte(len(terms)) / average)
        for term, count in Counter(terms).items():
            documents, values = postings.setdefault(term, ([], []))
            documents.append(document)
            values.append(count / (count + norm))
    return _Field(
        boost,
        {
            term: (np.array(documents), _idf(len(documents), len(has)) * np.array(values))
            for term, (documents, values) in postings.items()
        },
    )


def _idf(frequency: int, num_documents: int) -> float:
    return math.log(1 + (num_documents - frequency + 0.5) / (frequency + 0.5))


def _one_byte(length: int) -> int:
    """Return a length as Lucene's norms keep it (SmallFloat.byte4ToInt): exact to 39, then four binary digits."""
    if length < 40:
        return length
    rest = length - 24
    shift = max(0, rest.bit_length() - 4)
    return 24 + (rest >> shift << shift)
