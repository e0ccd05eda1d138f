"""User Behavior Insights: queries and events on their way to ``ubi_queries`` and ``ubi_events``.

Nothing here delays or fails a search: a record is put into a bounded queue, or dropped and counted, and one task
writes what waits in bulk. Records have ids of their own, so one that is sent twice is written once. What they hold is
decided in ``ubi_records``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lrem_os.config_query import ServeSettings
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.ubi_records import (
    EVENTS,
    MAPPINGS,
    QUERIES,
    Index,
    event_record,
    found_in,
    now,
    query_record,
    short,
)
from lrem_os.query_plugin.service.ubi_searches import Searches, Send
from lrem_os.query_plugin.service.wire import Answer

_BATCH = 500  # records in one bulk request
_LINGER_S = 0.5  # how long a record waits for company
_WAITS_S = (0.5, 2.0, 5.0)  # before a bulk request is tried again
_TRY_AGAIN = (429, 502, 503, 504)
_DRAIN_S = 5.0  # what the end of the service waits for the records at most


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A record on its way.

    Args:
        index: Where it goes.
        record_id: Its id there.
        lines: Of a bulk request.
        event: As the client sent it, where its search is not known yet.
    """

    index: Index
    record_id: str
    lines: bytes
    event: Mapping[str, Any] | None = None


class Ubi:
    """Records behaviour. Belongs to one event loop; ``start`` it there.

    Args:
        settings: Whether texts are hashed, which share of the queries is written, how many records may wait.
        send: Reaches OpenSearch.
        metrics: Counts.
        budget: Share of the queries that may be reasoned about; ``None``: no share is kept.
    """

    def __init__(self, settings: ServeSettings, send: Send, metrics: Metrics, *, budget: float | None = None) -> None:
        self._settings, self._send, self._metrics, self._budget = settings, send, metrics, budget
        self._searches = Searches(send)
        self._waiting: deque[_Waiting] = deque()
        self._made: set[Index] = set()
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def query(
        self,
        readings: Sequence[Reading],
        took_ms: float,
        said: Mapping[str, Any],
        answer: bytes = b"",
        request: str = "",
    ) -> str:
        """Record a search; return its id, which events refer to.

        Args:
            readings: Of its texts, at least one.
            took_ms: From the request to the answer.
            said: What the client said in ``ext.ubi``: ``query_id``, ``client_id``, ``user_query``, ``object_id_field``,
                ``query_attributes``.
            answer: OpenSearch's, for what it found.
            request: The search as it came, as Dev Tools takes it.
        """
        query_id = short(said.get("query_id")) or str(uuid.uuid4())
        if not _is_sampled(query_id, self._settings.ubi_sample):
            return query_id
        record = query_record(
            readings,
            took_ms,
            said,
            query_id=query_id,
            response_id=str(uuid.uuid4()),
            user_query=self._typed(str(said.get("user_query") or readings[0].text)),
            found=found_in(answer, id_field=short(said.get("object_id_field")), request=request),
            budget=self._budget,
            is_hashed=self._settings.ubi_hash,
        )
        if self._put(QUERIES, query_id, record):
            self._searches.remember(query_id, record["lrem"])
        return query_id

    def events(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Record events; return how many found room."""
        taken = 0
        for event in events:
            stamped = {"timestamp": now(), **event}
            if isinstance(event.get("user_query"), str):
                stamped["user_query"] = self._typed(event["user_query"])
            search = self._searches.known(event.get("query_id"))
            record = event_record(stamped, search)
            is_open = search is None and isinstance(event.get("query_id"), str)
            taken += self._put(EVENTS, str(uuid.uuid4()), record, event=stamped if is_open else None)
        return taken

    async def aclose(self) -> None:
        """Write what waits, for a few seconds at most."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=_DRAIN_S)
            for task in late:
                task.cancel()
                await asyncio.wait({task})
        self._count("dropped", self._waiting)
        self._waiting.clear()

    def _typed(self, text: str) -> str:
        if not self._settings.ubi_hash or self._settings.ubi_hash_key is None:
            return text
        key = self._settings.ubi_hash_key.get_secret_value().encode()
        return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]

    def _put(
        self, index: Index, record_id: str, record: dict[str, Any], *, event: Mapping[str, Any] | None = None
    ) -> bool:
        if len(self._waiting) >= self._settings.ubi_queue or self._closing.is_set():
            self._metrics.ubi(index, "dropped")
            return False
        try:
            lines = _lines(index, record_id, record)
        except TypeError:  # half of a surrogate pair, which is no text
            self._metrics.ubi(index, "failed")
            return False
        self._waiting.append(_Waiting(index, record_id, lines, event))
        self._wake.set()
        return True

    async def _run(self) -> None:
        while self._waiting or not self._closing.is_set():
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._pause(_LINGER_S)
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                await self._write(await self._with_searches(batch))
            except asyncio.CancelledError:  # the service ends and cannot wait any longer
                self._count("failed", batch)
                raise

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the service ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _with_searches(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Return the records with what is known of the searches that events belong to."""
        asked = {str(one.event["query_id"]) for one in batch if one.event is not None}
        found = await self._searches.find(asked) if asked else {}
        return [one if one.event is None else _completed(one, one.event, found) for one in batch]

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        lines = b"".join(one.lines for one in batch)
        for wait_s in (*_WAITS_S, None):
            answer = None
            with contextlib.suppress(Problem):
                for index in {one.index for one in batch} - self._made:
                    await self._make(index)
                answer = await self._send("POST", "/_bulk", lines)
            if answer is not None and answer.status < 300:
                self._count_items(batch, answer)
                return
            if answer is not None and answer.status not in _TRY_AGAIN:
                break
            if wait_s is None or self._closing.is_set():
                break
            await self._pause(wait_s)
        self._count("failed", batch)

    async def _make(self, index: Index) -> None:
        """Create an index unless it is there; where that is not allowed, the bulk request shows whether it matters."""
        answer = await self._send("PUT", f"/{index}", orjson.dumps({"mappings": MAPPINGS[index]}))
        if answer.status in _TRY_AGAIN:  # the bulk request could get through, and make it without its mapping
            raise Problem(answer.status, "ubi_index_exception", f"[{index}] cannot be made at this moment")
        self._made.add(index)

    def _count_items(self, batch: Sequence[_Waiting], answer: Answer) -> None:
        try:
            items = orjson.loads(answer.body)["items"]
            statuses = [item["create"]["status"] for item in items]
        except (ValueError, KeyError, TypeError):  # something between us and OpenSearch answered
            self._count("failed", batch)
            return
        for one, status in zip(batch, statuses, strict=False):
            self._metrics.ubi(one.index, "written" if status < 300 or status == 409 else "failed")  # 409: sent twice

    def _count(self, outcome: str, batch: Iterable[_Waiting]) -> None:
        for one in batch:
            self._metrics.ubi(one.index, outcome)


def _completed(one: _Waiting, event: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> _Waiting:
    search = found.get(str(event["query_id"]))
    if search is None:
        return one
    return _Waiting(one.index, one.record_id, _lines(one.index, one.record_id, event_record(event, search)))


def _lines(index: Index, record_id: str, record: Mapping[str, Any]) -> bytes:
    present = {key: value for key, value in record.items() if value is not None}
    return orjson.dumps({"create": {"_index": index, "_id": record_id}}) + b"\n" + orjson.dumps(present) + b"\n"


def _is_sampled(query_id: str, share: float) -> bool:
    """Return whether a query is among those that are written; every service says the same of one id."""
    digest = hashlib.blake2b(query_id.encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "big") < share * 2**32
