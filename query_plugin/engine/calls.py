"""Model calls as the batcher makes them: a batch of texts in, an answer or an error for each out.

What a model hands back is checked here, so that nothing but unit vectors and keywords reaches a request. A batch that
a single text spoils (``EmbeddingError``) is done again text by text: its neighbours notice nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lrem_os.errors import EmbeddingError, GenerationError, LremError
from lrem_os.model.reasoning import combine_keywords
from lrem_os.search.requests import as_sent
from lrem_os.types import Reasoning, ReasoningEmbedder, Vectors

Vector = npt.NDArray[np.float32]
"""One embedding, shape (D,)."""

_LENGTH_TOLERANCE = 0.05  # bfloat16 arithmetic loses 0.4 %; a vector that is no unit vector is off by far more

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Embedded:
    """A query's vector as it is kept.

    Args:
        vector: Unit vector, shape (D,).
        decimals: The same as it is sent, see ``as_sent``; made once: for a cached query all else costs far less.
    """

    vector: Vector
    decimals: npt.NDArray[np.float64]

    @classmethod
    def of(cls, vector: Vector) -> Embedded:
        """Return a vector ready to be kept."""
        return cls(vector, np.array(as_sent(vector[np.newaxis])[0]))


@dataclass(frozen=True, slots=True)
class Thought:
    """A query that was reasoned about.

    Args:
        embedded: The reasoned vector; ``None``: the reasoner has nothing to add, and the direct one stands.
        reasonings: The samples.
        keywords: Of all samples, the most agreed first.
    """

    embedded: Embedded | None
    reasonings: tuple[Reasoning, ...]
    keywords: tuple[str, ...] = ()

    @classmethod
    def of(cls, vector: Vector | None, reasonings: tuple[Reasoning, ...]) -> Thought:
        """Return a thought ready to be kept."""
        embedded = None if vector is None else Embedded.of(vector)
        return cls(embedded, reasonings, tuple(combine_keywords(reasonings)))


def embed_each(
    embed: Callable[[Sequence[str]], Vectors], dimension: Callable[[], int], keep: Callable[[Vector], A]
) -> Callable[[Sequence[str]], list[A | LremError]]:
    """Return what embeds B texts: what is kept of a vector, or an error, for each.

    Args:
        embed: Of the model, for queries or for items.
        dimension: Length D that vectors must have; called in the worker's thread, since a server may be asked.
        keep: From a good vector to what is kept of it.
    """

    def each(texts: Sequence[str]) -> list[A | LremError]:
        rows = np.asarray(embed(texts), np.float32)
        if rows.shape != (len(texts), dimension()):
            raise EmbeddingError(f"the embedder gave shape {rows.shape} for {len(texts)} texts, not (., {dimension()})")
        checked = [checked_vector(row) for row in rows]
        return [row if isinstance(row, LremError) else keep(row) for row in checked]

    return _one_by_one(each)


def reason_each(reasoner: ReasoningEmbedder) -> Callable[[Sequence[str]], list[Thought | LremError]]:
    """Return what reasons about B queries and embeds them: a thought or an error for each."""

    def each(texts: Sequence[str]) -> list[Thought | LremError]:
        found = reasoner.embed_reasoned(texts)
        rows = np.asarray(found.vectors, np.float32)
        if len(found.reasonings) != len(texts) or rows.shape != (len(texts), reasoner.dimension):
            raise GenerationError(
                f"the reasoner gave {len(found.reasonings)} reasonings and vectors of shape {rows.shape}"
                f" for {len(texts)} queries"
            )
        return [_thought(row, samples) for row, samples in zip(rows, found.reasonings, strict=True)]

    return _one_by_one(each)


def _one_by_one(each: Callable[[Sequence[str]], list[A | LremError]]) -> Callable[[Sequence[str]], list[A | LremError]]:
    """Return the same function, which does a batch that one text spoils again, each text alone."""

    def alone(text: str) -> A | LremError:
        try:
            return each([text])[0]
        except LremError as exc:
            return exc

    def robust(texts: Sequence[str]) -> list[A | LremError]:
        try:
            return each(texts)
        except EmbeddingError:
            if len(texts) == 1:
                raise
            return [alone(text) for text in texts]

    return robust


def checked_vector(row: Vector) -> Vector | LremError:
    """Return a copy of a unit vector (a view would keep the whole batch), or what is wrong with it."""
    length = float(np.linalg.norm(row))
    if not abs(length - 1) < _LENGTH_TOLERANCE:  # NaN is not
        return EmbeddingError(f"the model gave a vector of length {length:g}, not 1")
    return row.copy()


def _thought(row: Vector, samples: Sequence[Reasoning]) -> Thought | LremError:
    if not samples:
        return GenerationError("the reasoner failed on this query")
    if not all(isinstance(sample, Reasoning) for sample in samples):
        return GenerationError(f"the reasoner gave something other than reasonings: {samples!r:.100}")
    if not any(sample.keywords for sample in samples):
        return Thought.of(None, tuple(samples))
    vector = checked_vector(row)
    return vector if isinstance(vector, LremError) else Thought.of(vector, tuple(samples))
