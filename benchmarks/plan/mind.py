"""The service that is measured, in a process of its own: `python -m benchmarks.plan.mind JOB.json`.

Its models take the time that the job says, to the millisecond, on no core: as models behind a server would.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.model.fake import FakeEmbedder
from lrem_os.model.load import Models
from lrem_os.planning.calibration import Calls
from lrem_os.types import Reasoned, Reasoning, ReasoningEmbedder, Vectors


class SleepingMind:
    """A ``ReasoningEmbedder`` of known cost.

    Args:
        dimension: Of its vectors.
        embed: What its calls take.
        reason: Likewise.
    """

    def __init__(self, dimension: int, embed: Calls, reason: Calls) -> None:
        self._fake, self._embed, self._reason = FakeEmbedder(dimension), embed, reason

    @property
    def dimension(self) -> int:
        return self._fake.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._fake.identity

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        return self._fake.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        until = time.perf_counter() + self._embed.seconds(len(texts))
        found = self._fake.embed_queries(texts)
        time.sleep(max(0.0, until - time.perf_counter()))
        return found

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        return [(Reasoning(("kitchen",)),)] * len(queries)

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        until = time.perf_counter() + self._reason.seconds(len(queries))
        found = Reasoned(self._fake.embed_queries(queries), tuple(self.reason(queries)))
        time.sleep(max(0.0, until - time.perf_counter()))
        return found


class Dressed:
    """The configured models under the identity of the fake that filled the index: what they cost is what counts.

    Args:
        inner: They.
    """

    def __init__(self, inner: ReasoningEmbedder) -> None:
        self._inner = inner
        self.dimension = inner.dimension
        self.identity = FakeEmbedder(inner.dimension).identity
        self.embed_items, self.embed_queries = inner.embed_items, inner.embed_queries
        self.reason, self.embed_reasoned = inner.reason, inner.embed_reasoned


def main() -> None:
    """Serve until told to stop."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings = Settings.model_validate(job["settings"])
    mind: ReasoningEmbedder
    if job["embed"] is None:
        mind = Dressed(Models(settings.model, settings.reasoning).reasoning_embedder)
    else:
        mind = SleepingMind(job["dimension"], Calls.model_validate(job["embed"]), Calls.model_validate(job["reason"]))
    api.serve(settings, embedder=mind, on_listening=lambda url: print(f"listening {url}", flush=True))


if __name__ == "__main__":
    main()
