"""An embedding model that is a hash function, and fails on demand."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lrem_os.errors import ModelError
from lrem_os.types import Vectors


class HashEmbedder:
    """The same unit vector for the same text, in any batch.

    Args:
        dimension: Length of a vector.
        name: Part of its identity.
        fails_on: A text that holds this fails its whole batch.
        nan_on: A text that holds this gets NaN.
        pause_s: Seconds a batch takes.
    """

    def __init__(
        self, dimension: int = 8, *, name: str = "hash", fails_on: str = "", nan_on: str = "", pause_s: float = 0.0
    ) -> None:
        self.dimension = dimension
        self._name, self._fails_on, self._nan_on, self._pause_s = name, fails_on, nan_on, pause_s
        self._lock = threading.Lock()
        self.texts: list[str] = []
        self.batches: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"model": self._name, "dimension": self.dimension}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        time.sleep(self._pause_s)
        with self._lock:
            self.texts.extend(texts)
            self.batches.append(len(texts))
        for text in texts:
            if self._fails_on and self._fails_on in text:
                raise ModelError(f"the model fails on {text[:40]!r}")
        vectors = np.array([hash_vector(text, self.dimension) for text in texts], dtype=np.float32)
        for row, text in enumerate(texts):
            if self._nan_on and self._nan_on in text:
                vectors[row, 0] = np.nan
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_items(texts)


class LoggingEmbedder:
    """Another embedder that may work in any process: what it is asked is appended to a file, with who started that."""

    def __init__(self, embedder: HashEmbedder, log: Path) -> None:
        self._embedder, self._log = embedder, log
        self.dimension, self.identity = embedder.dimension, embedder.identity

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        with self._log.open("ab") as file:
            file.write(orjson.dumps({"parent": os.getppid(), "texts": texts}, option=orjson.OPT_APPEND_NEWLINE))
        return self._embedder.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts)

    def calls(self) -> list[dict[str, Any]]:
        """Return parent process (of a worker of Ray its node) and texts of every call so far."""
        return [orjson.loads(line) for line in self._log.read_bytes().splitlines()] if self._log.exists() else []


class GatedEmbedder(HashEmbedder):
    """In every process the first call goes through, the others when a file is there."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        dead_man = time.monotonic() + 300
        while self.batches and not self._gate.exists():
            if time.monotonic() > dead_man:
                raise ModelError("the gate was never opened")
            time.sleep(0.05)
        return super().embed_items(texts)


class Interrupted(Exception):
    """Stands for anything that ends a run in the middle."""


class InterruptingEmbedder(HashEmbedder):
    """Raises after so many texts."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        if len(self.texts) >= self.after:
            raise Interrupted
        return super().embed_items(texts)


def hash_vector(text: str, dimension: int) -> Vectors:
    """Return the vector of a text, shape (D,)."""
    seed = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    vector = np.random.default_rng(seed).standard_normal(dimension)
    unit: Vectors = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
