"""Thoughts in an OpenSearch index, for all services that search the same cluster.

No request ever fails or waits long for it: reads have a short time-out, are gathered into one ``_mget``, and stop for a
while when they mostly fail; writes are gathered into bulk requests, and dropped when too many wait. What goes wrong is
counted. A document holds no query text, only a hash of query and models; keywords are in it as generated.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from opensearchpy import OpenSearch

from lrem_os.errors import IndexMissing, LremError, Overloaded
from lrem_os.model.reasoning import reasoning_of
from lrem_os.query_plugin.engine.batcher import Batcher
from lrem_os.query_plugin.engine.breaker import Breaker
from lrem_os.query_plugin.engine.calls import Thought, checked_vector
from lrem_os.query_plugin.engine.clock import Clock, LoopClock, wait_for
from lrem_os.search.client import translate_errors

_MAPPING = {
    "settings": {"number_of_replicas": 0, "auto_expand_replicas": "0-1"},
    "mappings": {"dynamic": False, "properties": {"created": {"type": "date", "format": "epoch_second"}}},
}
_REQUEST_TIMEOUT_S = 2.0  # of the thread; a request of the engine waits far shorter
_BATCH, _QUEUE_LIMIT = 64, 1000
_LAST_WRITES_S = 2.0

_Document = tuple[str, bytes]


class SharedIndex:
    """The thoughts of one set of models in one index, which is made when it is first written to.

    Args:
        client: Connection to the cluster.
        index: Its name.
        fingerprint: Of the models: those of others are never found.
        dimension: Length D of a vector.
        timeout_s: How long ``get`` waits.
        ttl_s: Seconds after which a thought is no longer found.
        clock: Decides what is late.
        today: Seconds since 1970.
    """

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        *,
        fingerprint: str,
        dimension: int,
        timeout_s: float,
        ttl_s: float,
        clock: Clock | None = None,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._index = client, index
        self._fingerprint, self._dimension = fingerprint, dimension
        self._timeout_s, self._ttl_s, self._today = timeout_s, ttl_s, today
        self._clock = clock or LoopClock()
        limits: Any = {"queue_limit": _QUEUE_LIMIT, "limit_s": 5 * _REQUEST_TIMEOUT_S, "clock": self._clock}
        self._reads: Batcher[str, Thought | None] = Batcher(self._mget, name="shared cache", max_batch=_BATCH, **limits)
        self._writes: Batcher[_Document, None] = Batcher(
            self._bulk, name="shared cache's writer", max_batch=_BATCH, **limits
        )
        self._writing: set[asyncio.Task[Any]] = set()
        self._breaker = Breaker(window=20, share=0.5, open_s=5.0, clock=self._clock)
        self._exists = False
        self.counts: Counter[str] = Counter()
        """``found``, ``missed``, ``late``, ``skipped``, ``read_failed``, ``written``, ``dropped``, ``write_failed``."""

    async def get(self, key: str) -> Thought | None:
        """Return what was kept of a query; ``None`` for whatever reason there is nothing."""
        permit = self._breaker.ask()
        if permit is None:
            self.counts["skipped"] += 1
            return None
        task = asyncio.ensure_future(self._reads.submit(self._id(key)))
        try:
            found = (await wait_for(task, self._timeout_s, self._clock)).value
        except (TimeoutError, LremError) as exc:
            self._breaker.record(permit, ok=False)
            self.counts["late" if isinstance(exc, TimeoutError) else "read_failed"] += 1
            return None
        finally:
            task.cancel()
        self._breaker.record(permit, ok=True)
        self.counts["missed" if found is None else "found"] += 1
        return found

    def put(self, key: str, thought: Thought) -> None:
        """Have a thought written, some time soon."""
        body = encode_thought(thought, self._today())
        task = asyncio.get_running_loop().create_task(self._writes.submit((self._id(key), body)))
        self._writing.add(task)
        task.add_done_callback(self._wrote)

    async def aclose(self) -> None:
        """Write what is left, for a moment."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=_LAST_WRITES_S)
        await self._reads.aclose()
        await self._writes.aclose()

    def _wrote(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        self.counts["written" if error is None else "dropped" if isinstance(error, Overloaded) else "write_failed"] += 1

    def _id(self, key: str) -> str:
        return hashlib.sha256(f"{self._fingerprint}\n{key}".encode()).hexdigest()[:40]

    def _mget(self, ids: Sequence[str]) -> list[Thought | LremError | None]:
        try:
            with translate_errors():
                answer = self._client.mget(index=self._index, body={"ids": list(ids)}, params=_params())
        except IndexMissing:  # of an index alone; one of several is told row by row
            self._exists = False
            return [None] * len(ids)
        oldest = self._today() - self._ttl_s
        found: list[Thought | LremError | None] = []
        for row in answer["docs"]:
            if "error" in row:
                self._exists = False  # to be made by the next write, with its mapping
            found.append(decode_thought(row.get("_source"), self._dimension, oldest=oldest))
        return found

    def _bulk(self, documents: Sequence[_Document]) -> list[LremError | None]:
        if not self._exists:
            self._create()
        lines = b"".join(orjson.dumps({"index": {"_id": name}}) + b"\n" + body + b"\n" for name, body in documents)
        with translate_errors():
            answer = self._client.bulk(index=self._index, body=lines, params=_params())
        return [_outcome(row["index"]) for row in answer["items"]]

    def _create(self) -> None:
        """Make the index, or clear the one there is of what is too old to be found."""
        with translate_errors():
            self._client.indices.create(index=self._index, body=_MAPPING, params=_params() | {"ignore": 400})
            old = {"query": {"range": {"created": {"lt": int(self._today() - self._ttl_s)}}}}
            options = {"conflicts": "proceed", "wait_for_completion": "false", "ignore": (400, 404, 409)}
            self._client.delete_by_query(index=self._index, body=old, params=_params() | options)
        self._exists = True


def encode_thought(thought: Thought, created: float) -> bytes:
    """Return a thought as a document."""
    vector = (
        None if thought.embedded is None else base64.b64encode(thought.embedded.vector.astype("<f4").tobytes()).decode()
    )
    return orjson.dumps({"created": int(created), "vector": vector, "reasonings": thought.reasonings})


def decode_thought(document: Mapping[str, Any] | None, dimension: int, *, oldest: float) -> Thought | None:
    """Return the thought in a document; ``None`` where there is none, an older one, or something else."""
    try:
        if document is None or document["created"] < oldest:
            return None
        samples = tuple(map(reasoning_of, document["reasonings"]))
        if document["vector"] is None:
            return Thought.of(None, samples)
        numbers = np.frombuffer(base64.b64decode(document["vector"]), "<f4").astype(np.float32)
        vector = checked_vector(numbers) if numbers.shape == (dimension,) else None
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    return None if vector is None or isinstance(vector, LremError) else Thought.of(vector, samples)


def _outcome(item: Mapping[str, Any]) -> LremError | None:
    return None if item["status"] < 300 else IndexMissing(f"the shared cache took no document ({item['status']})")


def _params() -> dict[str, Any]:
    return {"request_timeout": _REQUEST_TIMEOUT_S}
