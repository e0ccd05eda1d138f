"""The values that travel between the parts, and the protocols that the parts meet at.

Everything here is frozen and holds no connection, no model and no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""Embeddings, one row a text, shape (B, D), float32, L2-normalised."""

Mode = Literal["bm25", "vector", "hybrid"]
"""How a query is answered: text leg, vector leg, or both fused."""

MODES: tuple[Mode, ...] = ("bm25", "vector", "hybrid")

Engine = Literal["opensearch", "elasticsearch"]
"""Which search server."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it stands in a query log.

    Args:
        query_id: Its id in the qrels.
        text: What the shopper typed.
        type: Its kind (``easy``, ``qa``, ``negative``, …), for slices; empty when unknown.
        frequency: How often it was asked in the log's window; weighs it where means are by traffic.
    """

    query_id: str
    text: str
    type: str = ""
    frequency: float = 1.0


@dataclass(frozen=True, slots=True)
class Document:
    """One product, checked and ready to be embedded and indexed.

    Args:
        doc_id: Its id in the catalog and the ``_id`` in the index.
        text: What the embedding model reads.
        source: The body to index, without vector and hash.
        content_hash: Hash of ``text`` and ``source``: equal means nothing changed.
        path: The file it came from.
        line: Its line or row there, from 1.
    """

    doc_id: str
    text: str
    source: Mapping[str, Any]
    content_hash: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class LegScore:
    """Where one leg of a hybrid query placed a document.

    Args:
        rank: From 1.
        score: The leg's own score, before fusion.
    """

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One found product.

    Args:
        doc_id: Its id.
        score: Final score; higher is better.
        source: The stored fields that were asked for.
        legs: Per leg (``bm25``, ``vector``) its rank and score; filled only when an explanation was asked for.
    """

    doc_id: str
    score: float
    source: Mapping[str, Any] = field(default_factory=dict)
    legs: Mapping[str, LegScore] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """How one query was served.

    Args:
        route: ``direct``, ``reasoned``, ``bm25``; empty where unknown.
        keywords: What the reasoner added.
        degraded: Why it was served with less than was meant.
        reasoning_tokens: Generated, of all samples.
        latency_ms: The query's whole way, as its caller saw it; NaN where it was not measured.
        reason_ms: Time of the reasoner on it: a batch's time divided by its queries.
        score: Of the router, the probability that reasoning helps; NaN where there was none.
    """

    route: str = ""
    keywords: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    reasoning_tokens: int = 0
    latency_ms: float = math.nan
    reason_ms: float = 0.0
    score: float = math.nan


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to one query: hits by score descending, equal scores by id ascending.

    Args:
        hits: Best first.
        total: Number of matching documents as OpenSearch counts them.
        took_ms: Time OpenSearch says it took.
        reasoning: The samples of the reasoning, where the query was reasoned about.
        reason_ms: Time of their generation, of the whole batch that the query was part of.
        embed_ms: Time of the reasoned query's embedding, of the whole batch likewise.
        trace: How it was served, where that is known.
    """

    hits: tuple[Hit, ...]
    total: int = 0
    took_ms: float = 0.0
    reasoning: tuple[Reasoning, ...] = ()
    reason_ms: float = 0.0
    embed_ms: float = 0.0
    trace: Trace | None = None


class Embedder(Protocol):
    """Turns texts into unit vectors. Item side and query side may differ (prefixes), so there is a method for each."""

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable: model, revision, pooling, dimension, prompt version, token limits."""
        ...

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given. Raises ``ModelError``."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries, in the order given. Raises ``ModelError``."""
        ...


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a reasoner wrote about one query, once.

    Args:
        keywords: What is left after the rules, in the order written; empty: the model had nothing to add.
        text: As generated, before the rules.
        num_tokens: Tokens generated, the end-of-text token included.
        truncated: Whether the limit ended it, not the model.
        confidence: Geometric mean of the probabilities of the generated tokens, in [0, 1]; NaN where not known.
    """

    keywords: tuple[str, ...] = ()
    text: str = ""
    num_tokens: int = 0
    truncated: bool = False
    confidence: float = math.nan


@dataclass(frozen=True, slots=True)
class Reasoned:
    """Queries that were reasoned about and then embedded.

    Args:
        vectors: (B, D) unit vectors.
        reasonings: Per query, its samples.
        reason_ms: Time of the generation, of the whole batch.
        embed_ms: Time of the embedding, of the whole batch.
    """

    vectors: Vectors
    reasonings: tuple[tuple[Reasoning, ...], ...]
    reason_ms: float = 0.0
    embed_ms: float = 0.0


class Reasoner(Protocol):
    """Writes keywords about queries."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords: model, revision, adapter, prompt version, sampling."""
        ...

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given; a query that fails alone gets an empty one, or none.

        Raises:
            GenerationError: The model failed as a whole, or did not answer in time.
        """
        ...


@runtime_checkable
class ReasoningEmbedder(Embedder, Protocol):
    """An embedder that can also reason first. Direct and reasoned vectors live in the same space."""

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query. Raises ``GenerationError``."""
        ...

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        """Return (B, D) unit vectors of queries with their reasoning; of empty reasoning, the direct ones.

        Raises:
            ModelError: The model failed.
        """
        ...


class Retriever(Protocol):
    """Answers queries. What is evaluated is what is served: both go through this."""

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        """Return one ranking a query, in the order given, each at most ``top_k`` long. Raises ``SearchError``."""
        ...
