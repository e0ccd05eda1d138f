"""An embedder that reasons, and does either as badly as a test wants, call by call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lrem_os.types import Reasoned, Reasoning, Vectors
from tests.fakes.embedder import hash_vector

Fault = Callable[[Any], Any]
"""Gets what a call would answer, and gives what it answers; may raise, or take as long as it likes."""


class Mind:
    """Direct vectors are hashes of the text, reasoned ones hashes of ``text!``; the keyword is ``about TEXT``.

    Args:
        embedding: What becomes of every answer of ``embed_queries``.
        reasoning: What becomes of every answer of ``embed_reasoned``.
    """

    dimension = 8

    def __init__(self, *, embedding: Fault = lambda found: found, reasoning: Fault = lambda found: found) -> None:
        self.embedding, self.reasoning = embedding, reasoning
        self.embedded: list[str] = []
        self.reasoned: list[str] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"model": "mind", "dimension": self.dimension}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        return self._vectors([f"item {text}" for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        found: Vectors = self.embedding(self._vectors(texts))
        return found

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        return [(Reasoning((f"about {text}",)),) if text != "nothing" else (Reasoning(),) for text in queries]

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        self.reasoned += queries
        vectors = self._vectors([f"{text}!" for text in queries])
        found: Reasoned = self.reasoning(Reasoned(vectors, tuple(self.reason(queries))))
        return found

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return np.stack([hash_vector(text, self.dimension) for text in texts]).astype(np.float32)


class Gate:
    """A fault: every call waits until it is let through."""

    def __init__(self) -> None:
        self._gate = threading.Semaphore(0)

    def __call__(self, found: Any) -> Any:
        if not self._gate.acquire(timeout=60):
            raise AssertionError("was not let through for a minute")
        return found

    def let(self, calls: int = 1) -> None:
        self._gate.release(calls)


def raises(error: BaseException) -> Fault:
    """Return a fault that raises."""

    def fault(_found: Any) -> Any:
        raise error

    return fault
