"""The configured shop as a framework's component sees it: opened at the first question, models loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from lrem_os.config import Settings, load_settings
from lrem_os.model.load import Models
from lrem_os.query_plugin.retriever import DirectRetriever
from lrem_os.query_plugin.served import open_direct
from lrem_os.text import embedded_text
from lrem_os.types import Hit, Mode, Ranking

_MAX_OPEN = 64  # sets of filters kept open; each is a few kilobytes


class Shop:
    """Answers questions on the configured index.

    Args:
        config: Configuration file; none: ``lrem-os.yaml`` in the working directory, if it is there.
        overrides: ``section.key=value``, as for ``--set``.
        mode: ``bm25``, ``vector`` or ``hybrid``; none: ``search.mode``.
        reason: Whether every question is reasoned about first.

    Raises:
        ConfigError: The configuration cannot be used.
    """

    def __init__(self, config: str | Path | None, overrides: Sequence[str], mode: Mode | None, *, reason: bool) -> None:
        self.settings: Settings = load_settings(config, overrides).settings
        self._mode: Mode = mode or self.settings.search.mode
        self._reason = reason
        self._open: dict[tuple[str, ...], DirectRetriever] = {}
        self._lock = Lock()

    @cached_property
    def _models(self) -> Models:
        return Models(self.settings.model, self.settings.reasoning)

    def open(self, filters: Sequence[str] = ()) -> DirectRetriever:
        """Return what answers under these filters. Raises what ``lrem_os.open_retriever`` raises."""
        key = tuple(filters)
        with self._lock:
            if key not in self._open:
                if len(self._open) >= _MAX_OPEN:
                    self._open.pop(next(iter(self._open)))
                self._open[key] = open_direct(
                    self.settings, self._models, self._mode, key, with_source=True, reason=self._reason
                )
            return self._open[key]

    def ask(self, text: str, *, top_k: int, filters: Sequence[str] = ()) -> Ranking:
        """Return the hits for one question. Raises ``SearchError``, ``QueryError``, ``ModelError``."""
        return self.open(filters).search(text, top_k=top_k)

    def content(self, hit: Hit) -> str:
        """Return a product as text: what its embedding was made of."""
        return embedded_text(hit.source, self.settings.catalog.embed)

    def meta(self, hit: Hit, ranking: Ranking) -> dict[str, Any]:
        """Return a product's stored fields, and under ``lrem`` how its query was answered."""
        trace = ranking.trace
        told: Mapping[str, Any] = {} if trace is None else {"route": trace.route, "keywords": list(trace.keywords)}
        return {**hit.source, "lrem": {"score": hit.score, **told}}
