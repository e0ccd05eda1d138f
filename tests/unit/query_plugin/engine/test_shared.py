from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opensearchpy import exceptions

from lrem_os.query_plugin.engine.calls import Thought
from lrem_os.query_plugin.engine.shared import SharedIndex, decode_thought, encode_thought
from lrem_os.types import Reasoning
from tests.fakes.clock import ManualClock, until
from tests.fakes.embedder import hash_vector
from tests.fakes.mind import Gate

REASONINGS = st.builds(
    Reasoning,
    keywords=st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=3).map(tuple),
    text=st.text(st.characters(codec="utf-8"), max_size=20),
    num_tokens=st.integers(0, 500),
    truncated=st.booleans(),
    confidence=st.one_of(st.floats(0, 1), st.just(math.nan)),
)


def same(one: Thought | None, other: Thought) -> bool:
    if one is None or (one.embedded is None) != (other.embedded is None):
        return False
    if one.embedded is not None and other.embedded is not None:
        assert one.embedded.decimals.tobytes() == other.embedded.decimals.tobytes()
    assert one.keywords == other.keywords
    return repr(one.reasonings) == repr(other.reasonings)  # NaN is not equal to itself


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(samples=st.lists(REASONINGS, max_size=4).map(tuple), text=st.one_of(st.none(), st.text(max_size=5)))
def test_a_document_is_the_thought_it_was_made_of(samples: tuple[Reasoning, ...], text: str | None) -> None:
    thought = Thought.of(None if text is None else hash_vector(text, 8), samples)
    document = orjson.loads(encode_thought(thought, 1000.7))
    assert same(decode_thought(document, 8, oldest=1000), thought)
    assert decode_thought(document, 8, oldest=1001) is None
    assert text is None or decode_thought(document, 9, oldest=0) is None


GOOD = orjson.loads(encode_thought(Thought.of(hash_vector("a", 8), (Reasoning(("x",)),)), 5))


@pytest.mark.parametrize(
    "changed",
    [
        {"created": "x"},
        {"created": None},
        {"vector": "###"},
        {"vector": 7},
        {"vector": "AAAA"},
        {"vector": "A" * 43 + "="},
        {"reasonings": [{}]},
        {"reasonings": [1]},
        {"reasonings": None},
        {"reasonings": [{**GOOD["reasonings"][0], "confidence": "high"}]},
    ],
)
def test_a_document_of_somebody_else_is_none(changed: dict[str, Any]) -> None:
    assert decode_thought(GOOD, 8, oldest=0) is not None
    assert decode_thought({**GOOD, **changed}, 8, oldest=0) is None


class Cluster:
    """The calls of the client that are made, on documents in memory; any of them may be made to fail."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] | None = None
        self.fails: Exception | None = None
        self.gate: Callable[[Any], Any] = lambda found: found
        self.calls: list[str] = []
        self.indices = self

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.gate(None)
        if self.fails is not None:
            raise self.fails

    def mget(self, *, index: str, body: Any, params: Any) -> Any:
        self._call("mget")
        assert params["request_timeout"] > 0
        if self.documents is None:
            return {"docs": [{"_id": name, "error": {"type": "index_not_found_exception"}} for name in body["ids"]]}
        found = [{"_id": name, "found": name in self.documents} for name in body["ids"]]
        return {"docs": [row | ({"_source": self.documents[row["_id"]]} if row["found"] else {}) for row in found]}

    def create(self, *, index: str, body: Any, params: Any) -> None:
        self._call("create")
        if self.documents is None:
            self.documents = {}
        assert params["ignore"] == 400

    def delete_by_query(self, *, index: str, body: Any, params: Any) -> None:
        self._call("delete")
        least = body["query"]["range"]["created"]["lt"]
        self.documents = {k: v for k, v in (self.documents or {}).items() if v["created"] >= least}

    def bulk(self, *, index: str, body: bytes, params: Any) -> Any:
        self._call("bulk")
        lines = [orjson.loads(line) for line in body.splitlines()]
        assert self.documents is not None
        self.documents |= {line["index"]["_id"]: row for line, row in zip(lines[::2], lines[1::2], strict=True)}
        return {"items": [{"index": {"status": 201}} for _ in lines[::2]]}


Test = Callable[[SharedIndex, Cluster, ManualClock], Awaitable[None]]


def run(test: Test, *, cluster: Cluster | None = None, **options: Any) -> None:
    async def whole() -> None:
        there, clock = cluster or Cluster(), ManualClock()
        await test(build(there, clock, **options), there, clock)

    asyncio.run(whole())


def build(cluster: Cluster, clock: ManualClock, **options: Any) -> SharedIndex:
    given = {"fingerprint": "f", "dimension": 8, "timeout_s": 0.02, "ttl_s": 100.0, "clock": clock, "today": clock.now}
    return SharedIndex(cluster, "cache", **(given | options))  # type: ignore[arg-type]


LAMP = Thought.of(hash_vector("lamp", 8), (Reasoning(("bulb",), confidence=0.5),))


async def put(shared: SharedIndex, key: str, thought: Thought) -> None:
    before = shared.counts.total()
    shared.put(key, thought)
    await until(lambda: shared.counts.total() == before + 1)


def test_what_one_service_writes_another_reads() -> None:
    async def test(shared: SharedIndex, cluster: Cluster, clock: ManualClock) -> None:
        assert await shared.get("lamp") is None  # there is no index yet
        await put(shared, "lamp", LAMP)
        other = build(cluster, clock)
        assert same(await other.get("lamp"), LAMP)
        assert await other.get("lamps") is None
        assert await build(cluster, clock, fingerprint="g").get("lamp") is None
        assert other.counts == {"found": 1, "missed": 1}
        assert shared.counts == {"missed": 1, "written": 1}
        clock.advance(101)
        assert await other.get("lamp") is None
        assert "lamp" not in repr(list(cluster.documents or {}))
        await shared.aclose()

    run(test)


def test_an_index_that_is_gone_is_made_again_and_an_old_one_cleared() -> None:
    async def test(shared: SharedIndex, cluster: Cluster, clock: ManualClock) -> None:
        cluster.documents = {"old": {"created": 1}, "new": {"created": clock.now()}}
        await put(shared, "lamp", LAMP)
        assert set(cluster.documents) - {"new"} != {"old"}
        assert "old" not in cluster.documents
        for count, error in enumerate((None, exceptions.NotFoundError(404, "index_not_found_exception", {})), 2):
            cluster.documents, cluster.fails = None, error
            assert await shared.get("lamp") is None
            cluster.fails = None
            await put(shared, "lamp", LAMP)
            assert same(await shared.get("lamp"), LAMP)
            assert cluster.calls.count("create") == count
        await shared.aclose()

    run(test)


@pytest.mark.parametrize(
    "error", [exceptions.ConnectionError("N/A", "refused"), exceptions.TransportError(403, "no", {}), KeyError("docs")]
)
def test_faults_are_counted_and_after_a_few_it_is_left_alone(error: Exception) -> None:
    async def test(shared: SharedIndex, cluster: Cluster, clock: ManualClock) -> None:
        cluster.fails = error
        for _ in range(12):
            assert await shared.get("lamp") is None
        await put(shared, "lamp", LAMP)
        assert shared.counts == {"read_failed": 10, "skipped": 2, "write_failed": 1}
        cluster.fails = None
        clock.advance(5)
        assert await shared.get("lamp") is None
        await put(shared, "lamp", LAMP)
        assert same(await shared.get("lamp"), LAMP)
        await shared.aclose()

    run(test)


def test_a_slow_cluster_is_not_waited_for() -> None:
    gate = Gate()

    async def test(shared: SharedIndex, cluster: Cluster, clock: ManualClock) -> None:
        cluster.gate = gate
        task = asyncio.ensure_future(shared.get("lamp"))
        await until(lambda: cluster.calls == ["mget"])
        clock.advance(0.02)
        assert await task is None
        assert shared.counts == {"late": 1}
        gate.let(5)
        await shared.aclose()

    run(test)


def test_writes_that_pile_up_are_dropped() -> None:
    gate = Gate()

    async def test(shared: SharedIndex, cluster: Cluster, clock: ManualClock) -> None:
        cluster.gate = gate
        shared.put("first", LAMP)
        await until(lambda: cluster.calls == ["create"])
        for number in range(1005):
            shared.put(str(number), LAMP)
        await until(lambda: shared.counts["dropped"] == 5)
        gate.let(100)
        await shared.aclose()
        assert shared.counts == {"dropped": 5, "written": 1001}

    run(test)
