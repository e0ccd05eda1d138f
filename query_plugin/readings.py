"""What models and probe make of many queries, each worked out once and shared by all runs of an evaluation.

Vectors and keywords are made by the functions that the service makes them with (``engine/calls.py``), and checked by
them. Models run in batches; the time of a batch is divided by its queries. Reasonings can be kept in a file, so that
an evaluation that was killed, or one with other fusion weights, reasons about nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from lrem_os.config import ReasoningSettings
from lrem_os.errors import DatasetError, LremError
from lrem_os.lines import cut_torn_line
from lrem_os.model.load import Models
from lrem_os.query_plugin.engine.calls import Embedded, Thought, embed_each, reason_each
from lrem_os.query_plugin.routing.precomputed import (
    Precomputed,
    PrecomputedFile,
    precomputed_line,
    read_precomputed,
    reading_fingerprint,
)
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.types import Vectors

_EMBED_BATCH = 32
_REASON_BATCH = 8  # what the reasoner decodes at once on a CPU, with eight samples each; a kill costs no more
_PROBE_BATCH = 16

A = TypeVar("A")
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many queries are done, how many in all."""
Timed = tuple[A, float]
"""A value, and the milliseconds that it took."""


class Readings:
    """Vectors, reasonings and signals of queries, by normalised text.

    Args:
        models: What embeds and reasons; each is loaded when it is first needed.
        reasoning: How they work together.
        probe: Asks direct retrieval about B texts with vectors (B, D).
        kept: JSONL where reasonings are kept, with those of other models; ``None``: in memory alone.
        ahead: File of ``lrem-os precompute``: what is there is served without a model.
        on_progress: Told how far the probe of a router is.
    """

    def __init__(
        self,
        models: Models,
        reasoning: ReasoningSettings,
        probe: Callable[[Sequence[str], Vectors], Sequence[Signals]],
        *,
        kept: Path | None = None,
        ahead: Path | None = None,
        on_progress: Progress = lambda _what, _done, _total: None,
    ) -> None:
        self._models, self._reasoning, self._probe = models, reasoning, probe
        self._path, self._ahead_path, self._on_progress = kept, ahead, on_progress
        self._vectors: dict[str, Timed[Embedded]] = {}
        self._signals: dict[str, Timed[Signals]] = {}

    def vectors(self, texts: Sequence[str]) -> list[Timed[Embedded]]:
        """Return the direct vector of each text. Raises ``ModelError``."""
        left = _missing(texts, self._vectors)
        for part in _chunks(left, _EMBED_BATCH):
            started = time.perf_counter()
            found = [_raised(one) for one in self._embed(part)]
            own_ms = (time.perf_counter() - started) * 1000 / len(part)
            self._vectors |= {text: (one, own_ms) for text, one in zip(part, found, strict=True)}
        return [self._vectors[text] for text in texts]

    def signals(self, texts: Sequence[str]) -> list[Timed[Signals]]:
        """Return what direct retrieval finds for each text. Raises ``ModelError`` and ``SearchError``."""
        left = _missing(texts, self._signals)
        for part in _chunks(left, _PROBE_BATCH):
            vectors = np.stack([embedded.vector for embedded, _ in self.vectors(part)])
            started = time.perf_counter()
            found = self._probe(part, vectors)
            own_ms = (time.perf_counter() - started) * 1000 / len(part)
            self._signals |= {text: (one, own_ms) for text, one in zip(part, found, strict=True)}
            if len(left) > _PROBE_BATCH:
                self._on_progress("router", left.index(part[-1]) + 1, len(left))
        return [self._signals[text] for text in texts]

    def ahead(self, text: str) -> Precomputed | None:
        """Return what was computed ahead of time for a text, before any run."""
        return None if self._ahead_path is None else self._from_ahead.get(text)

    def reasonings(self, texts: Sequence[str]) -> list[Precomputed]:
        """Return the reasoned vector of each text, its keywords, samples and time; the direct one without keywords.

        Raises:
            DatasetError: The file of reasonings cannot be read or written.
            ModelError: A model failed.
        """
        left = _missing(texts, self._kept)
        for part in _chunks(left, _REASON_BATCH):
            self._keep(self._reason(part))
        return [self._kept[text] for text in texts]

    def _reason(self, texts: Sequence[str]) -> dict[str, Precomputed]:
        direct = [embedded for embedded, _ in self.vectors(texts)]
        ask = self._ask  # loads the reasoner, which is no query's time
        started = time.perf_counter()
        thoughts = [_raised(one) for one in ask(texts)]
        own_ms = (time.perf_counter() - started) * 1000 / len(texts)
        return {
            text: Precomputed(
                tuple((thought.embedded or plain).decimals.tolist()), thought.reasonings, thought.keywords, own_ms
            )
            for text, plain, thought in zip(texts, direct, thoughts, strict=True)
        }

    @cached_property
    def _embed(self) -> Callable[[Sequence[str]], list[Embedded | LremError]]:
        embedder = self._models.embedder
        embedder.embed_queries(["warm up"])  # the first call of a model takes longer than any other
        return embed_each(embedder.embed_queries, lambda: embedder.dimension, Embedded.of)

    @cached_property
    def _ask(self) -> Callable[[Sequence[str]], list[Thought | LremError]]:
        model = self._models.reasoning_embedder
        self._models.reasoner.reason(["what do I need to warm up"])
        return reason_each(model)

    @cached_property
    def _fingerprint(self) -> str:
        models = self._models
        return reading_fingerprint(models.reasoning_embedder.identity, models.reasoner.identity, self._reasoning)

    @cached_property
    def _from_ahead(self) -> PrecomputedFile:
        return PrecomputedFile() if self._ahead_path is None else self._read(self._ahead_path)

    @cached_property
    def _kept(self) -> dict[str, Precomputed]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            cut_torn_line(self._path)
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror}", path=self._path) from exc
        return dict(self._read(self._path).queries)

    def _read(self, path: Path) -> PrecomputedFile:
        dimension = self._models.reasoning_embedder.dimension
        return read_precomputed(path, fingerprint=self._fingerprint, dimension=dimension)

    def _keep(self, found: dict[str, Precomputed]) -> None:
        self._kept.update(found)
        if self._path is None:
            return
        lines = [
            precomputed_line(text, self._fingerprint, one.vector, one.reasonings, one.keywords, reason_ms=one.reason_ms)
            for text, one in found.items()
        ]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror}", path=self._path) from exc


def _missing(texts: Sequence[str], known: dict[str, A]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text not in known]


def _chunks(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), size):
        yield texts[first : first + size]


def _raised(found: A | LremError) -> A:
    """Return an answer; an evaluation does not go on without one, as the service does."""
    if isinstance(found, LremError):
        raise found
    return found
