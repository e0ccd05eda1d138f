"""Shoppers: searches that come at a steady rate, whatever becomes of those before, and a record of every one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

PATIENCE_S = 90.0  # of a shopper; who has no answer then is one that was not answered


@dataclass(frozen=True)
class Shot:
    """One request, over.

    Args:
        number: From 0, in the order of sending.
        began: Seconds of ``time.monotonic``.
        seconds: Until the whole answer was there, or the failure.
        status: HTTP status; ``None``: there was no answer.
        error: What there was in its place.
        route: As ``x-lrem-route`` says.
        degraded: As ``x-lrem-degraded`` says.
        told: ``ext.lrem`` of the answer.
        headers: Of the answer.
        failed_shards: Shards that the hits lack.
        num_hits: How many hits there were.
    """

    number: int
    began: float
    seconds: float
    status: int | None
    error: str = ""
    route: str = ""
    degraded: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    failed_shards: int = 0
    num_hits: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it was reasoned about, and nothing was missing."""
        return self.status == 200 and self.route == "reasoned" and not self.degraded


class Load:
    """Sends searches from a thread of its own, each with a text of its own. Use as a context manager.

    Args:
        url: Of the service.
        index: To search.
        rate: Requests a second, however many are under way: nobody waits for anybody.
        name: Part of every text and of every ``x-opaque-id``.
        kinds: What each request is, in turn; see ``KINDS``.
        at_once: No more than so many are under way: who comes then goes away unsent. ``None``: nobody does.
    """

    def __init__(
        self,
        url: str,
        index: str,
        *,
        rate: float,
        name: str,
        kinds: Sequence[str] = ("body", "q", "auto"),
        at_once: int | None = None,
    ) -> None:
        self.shots: list[Shot] = []
        self.num_sent = 0
        self.name = name
        self._url, self._index, self._rate, self._kinds, self._at_once = url, index, rate, kinds, at_once
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._stop.set()
        self._thread.join(2 * PATIENCE_S)
        if self._thread.is_alive():
            raise AssertionError("requests are under way that neither were answered nor failed")

    def wait(self, happened: Callable[[Sequence[Shot]], bool], what: str, *, seconds: float = 120) -> None:
        """Wait until it can be seen from the shots; raise ``AssertionError`` if it does not happen."""
        limit = time.monotonic() + seconds
        while not happened(self.shots):
            if time.monotonic() > limit or not self._thread.is_alive():
                last = [(shot.status, shot.error, shot.route, shot.degraded) for shot in self.shots[-5:]]
                raise AssertionError(f"did not happen: {what}; {len(self.shots)} of {self.num_sent} over, last {last}")
            time.sleep(0.02)

    def wait_for_whole(self, num: int = 5) -> float:
        """Wait until so many requests in a row, sent from now on, have nothing missing; return the seconds."""
        now = time.monotonic()

        def recovered(shots: Sequence[Shot]) -> bool:
            since = sorted((shot for shot in list(shots) if shot.began >= now), key=lambda shot: shot.number)
            return len(since) >= num and all(shot.is_whole for shot in since[-num:])

        self.wait(recovered, f"{num} requests with nothing missing")
        since = sorted((shot for shot in list(self.shots) if shot.began >= now), key=lambda shot: shot.number)
        last_bad = max((place for place, shot in enumerate(since) if not shot.is_whole), default=-1)
        return since[last_bad + 1].began - now

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(base_url=self._url, timeout=PATIENCE_S, limits=limits, trust_env=False) as client:
            begun, tasks, num_due = time.monotonic(), set[asyncio.Task[None]](), 0
            while not self._stop.is_set():
                due = int((time.monotonic() - begun) * self._rate) + 1
                for _ in range(num_due, due):
                    if self._at_once is not None and len(tasks) >= self._at_once:
                        break
                    task = asyncio.create_task(self._shoot(client, self.num_sent))
                    self.num_sent += 1
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                num_due = due
                await asyncio.sleep(min(0.02, 1 / self._rate))
            if tasks:
                await asyncio.wait(tasks)

    async def _shoot(self, client: httpx.AsyncClient, number: int) -> None:
        began = time.monotonic()
        try:
            answer = await client.send(self._request(client, number))
        except httpx.HTTPError as exc:
            self.shots.append(Shot(number, began, time.monotonic() - began, None, type(exc).__name__))
            return
        seconds, told, failed_shards, num_hits = time.monotonic() - began, {}, 0, 0
        if answer.status_code == 200:
            found = answer.json()
            told, num_hits = found["ext"]["lrem"], len(found["hits"]["hits"])
            failed_shards = found["_shards"]["failed"]
        degraded = tuple(filter(None, answer.headers.get("x-lrem-degraded", "").split(",")))
        route = answer.headers.get("x-lrem-route", "")
        headers = dict(answer.headers)
        self.shots.append(
            Shot(
                number, began, seconds, answer.status_code, "", route, degraded, told, headers, failed_shards, num_hits
            )
        )

    def _request(self, client: httpx.AsyncClient, number: int) -> httpx.Request:
        kind, text = self._kinds[number % len(self._kinds)], f"what do I need for {self.name} number {number}"
        headers, path = {"x-opaque-id": f"{self.name}-{number}"}, f"/{self._index}/_search"
        if kind == "q":
            params = {"q": text, "size": "3", "lrem.route": "reasoned"}
            return client.build_request("GET", path, params=params, headers=headers)
        clause = {"neural": {"lrem_vector": {"query_text": text, "k": 3}}}
        body = {"query": clause, "size": 3, "ext": {"ubi": {"query_id": f"{self.name}-{number}"}}}
        params = {"lrem.route": "auto" if kind == "auto" else "reasoned"}
        return client.build_request("POST", path, params=params, json=body, headers=headers)


def told(shots: Sequence[Shot]) -> Counter[str]:
    """Return how often each degradation was said."""
    return Counter(code for shot in shots for code in shot.degraded)


def statuses(shots: Sequence[Shot]) -> Counter[str]:
    """Return how many requests got each status, or which failure."""
    return Counter(str(shot.status or shot.error) for shot in shots)
