"""Sends requests, judges answers, and looks at what the service holds before and after."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import httpx

from benchmarks.fuzz import openapi
from benchmarks.fuzz.asks import Ask, asks
from benchmarks.fuzz.judge import complaint, is_ours
from benchmarks.fuzz.mutate import Mutator
from benchmarks.fuzz.target import State, Target, vector_of
from tests.corpus import search_bodies

CLIENTS = 6
PATIENCE_S = 90.0  # the service's own limit is 30 s: what takes longer hangs
_OPENAPI_SHARE = 0.25


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        statuses: Per kind of request, answers by status.
        wrong: What was wrong, with its request.
        of_opensearch: Answers of 500 and more that were OpenSearch's own, by status.
        slowest_ms: The longest that an answer took.
        routes: Answers to a clause of the service, by how its text was read.
    """

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    of_opensearch: Counter[int] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    routes: Counter[str] = field(default_factory=Counter)
    states: dict[str, State] = field(default_factory=dict)
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def num_requests(self) -> int:
        """All of them."""
        return sum(sum(one.values()) for one in self.statuses.values())

    def saw(
        self, kind: str, status: int, headers: Mapping[str, str], body: bytes, took_s: float, wrong: str | None
    ) -> None:
        """Take note of an answer."""
        with self._lock:
            self.statuses.setdefault(kind, Counter())[status] += 1
            if "x-lrem-route" in headers:
                self.routes[headers["x-lrem-route"]] += 1
            self.slowest_ms = max(self.slowest_ms, round(took_s * 1000, 1))
            if status >= 500 and not is_ours(body):
                self.of_opensearch[status] += 1
            if wrong is not None:
                self.wrong.append(wrong)

    def growth_mib(self) -> float:
        """Return by how much the service grew once it was warm."""
        return round(self.states["end"].rss_mib - self.states["warm"].rss_mib, 1)

    def leaks(self, most_mib: float) -> list[str]:
        """Return what the service holds at the end that it did not hold when it was warm."""
        warm, end = self.states["warm"], self.states["end"]
        found = [] if self.growth_mib() <= most_mib else [f"memory grew by {self.growth_mib()} MiB"]
        # keep-alive connections to the cluster and the pool's threads come and go; a leak grows with the requests
        for name, slack in (("tasks", 5), ("running", 0), ("connections", 40), ("files", 40), ("threads", 20)):
            before, after = getattr(warm, name), getattr(end, name)
            if after > before + slack:
                found.append(f"{name} grew from {before} to {after}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {
            "requests": self.num_requests,
            "statuses": {kind: _by_status(one) for kind, one in sorted(self.statuses.items())},
            "statuses_500_and_above_of_opensearch": _by_status(self.of_opensearch),
            "routes": dict(sorted(self.routes.items())),
            "wrong": self.wrong[:50],
            "slowest_ms": self.slowest_ms,
            "states": {name: asdict(state) for name, state in self.states.items()},
            "growth_mib": self.growth_mib(),
            "seconds": round(self.seconds, 1),
        }


def _by_status(counts: Counter[int]) -> dict[str, int]:
    return {str(status): number for status, number in sorted(counts.items())}


def run(target: Target, count: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Send so many requests, up to a quarter of them by schemathesis; return what came of it.

    Args:
        target: The service.
        count: How many requests.
        seed: The same gives the same requests.
        say: Told how far it is.
    """
    outcome, started = Outcome(), time.monotonic()
    plain = search_bodies.plain(target.index, vector_of)
    ours = [body for body, _ in search_bodies.neural(target.index, vector_of)]
    every = asks(Mutator(seed, plain, ours), target.index)
    outcome.states["start"] = target.state()
    _send(list(islice(every, count // 4)), target, outcome)
    outcome.states["warm"] = target.state()
    say(f"{outcome.num_requests} requests, warm: {outcome.states['warm'].rss_mib} MiB")
    _by_description(target, int(count * _OPENAPI_SHARE), seed, outcome)
    while (left := count - outcome.num_requests) > 0:
        say(f"{outcome.num_requests} requests")
        _send(list(islice(every, min(left, 1000))), target, outcome)
    outcome.states["end"] = target.state()
    outcome.seconds = time.monotonic() - started
    return outcome


def _send(part: list[Ask], target: Target, outcome: Outcome) -> None:
    shared: Iterator[Ask] = iter(part)
    lock = threading.Lock()

    def work() -> None:
        with httpx.Client(timeout=PATIENCE_S) as client:
            while True:
                with lock:
                    ask = next(shared, None)
                if ask is None:
                    return
                _one(client, ask, target, outcome)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for one in [pool.submit(work) for _ in range(CLIENTS)]:
            one.result()


def _one(client: httpx.Client, ask: Ask, target: Target, outcome: Outcome) -> None:
    url = httpx.URL(target.url).copy_with(raw_path=ask.path.encode())
    headers = {name: value.encode("latin-1") for name, value in ask.headers.items()}
    started = time.monotonic()
    told = f"{ask.method} {ask.path[:300]} {ask.headers} {ask.body[:2000]!r}"
    try:
        answer = client.request(ask.method, url, headers=headers, content=ask.body or None)
    except httpx.HTTPError as exc:
        outcome.saw(ask.kind, 0, {}, b"", time.monotonic() - started, f"{type(exc).__name__}: {told}")
        return
    wrong = complaint(ask.path, answer.status_code, dict(answer.headers), answer.content, ask.method)
    outcome.saw(
        ask.kind,
        answer.status_code,
        answer.headers,
        answer.content,
        time.monotonic() - started,
        None if wrong is None else f"{wrong}: {told} -> {answer.status_code} {answer.text[:300]}",
    )


def _by_description(target: Target, count: int, seed: int, outcome: Outcome) -> None:
    def seen(case: Any, response: Any) -> str | None:
        headers = {name.lower(): values[0] for name, values in response.headers.items()}
        path = response.request.path_url
        wrong = complaint(path, response.status_code, headers, response.content, case.method)
        outcome.saw("openapi", response.status_code, headers, response.content, response.elapsed, wrong)
        return wrong

    try:
        openapi.run(target.url, target.index, count, seed, seen)
    except AssertionError as exc:
        outcome.wrong.append(str(exc))
