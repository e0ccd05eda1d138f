"""The shared cache on the fake and on a real node: what it writes can be read, and an index that is gone comes back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
from opensearchpy import OpenSearch

from lrem_os.config import SearchSettings
from lrem_os.query_plugin.engine.calls import Thought
from lrem_os.query_plugin.engine.shared import SharedIndex
from lrem_os.search.client import connect
from lrem_os.types import Reasoning
from tests.fakes.clock import until
from tests.fakes.embedder import hash_vector

LAMP = Thought.of(hash_vector("lamp", 8), (Reasoning(("bulb", "shade"), "bulb, shade", 5, confidence=0.5), Reasoning()))


@pytest.fixture
def client(server: SearchSettings) -> Iterator[OpenSearch]:
    opened = connect(server)
    yield opened
    opened.close()


@pytest.fixture
def index(client: OpenSearch) -> Iterator[str]:
    name = f"thoughts-{uuid.uuid4().hex[:12]}"
    yield name
    client.indices.delete(index=name, params={"ignore": 404})


def build(client: OpenSearch, index: str, *, age_s: float = 0.0) -> SharedIndex:
    return SharedIndex(
        client, index, fingerprint="f", dimension=8, timeout_s=30, ttl_s=100, today=lambda: time.time() - age_s
    )


async def put(shared: SharedIndex, key: str) -> None:
    written = shared.counts["written"]
    shared.put(key, LAMP)
    await until(lambda: shared.counts["written"] == written + 1)


def test_one_service_writes_another_reads_at_once(client: OpenSearch, index: str) -> None:
    async def run() -> None:
        one, other = build(client, index), build(client, index)
        assert await one.get("lamp") is None
        await put(one, "lamp")
        found = await other.get("lamp")
        assert found is not None
        assert found.embedded is not None
        assert LAMP.embedded is not None
        assert found.embedded.decimals.tolist() == LAMP.embedded.decimals.tolist()
        assert (found.keywords, found.reasonings[0]) == (LAMP.keywords, LAMP.reasonings[0])
        assert await build(client, index, age_s=-101).get("lamp") is None  # a service that lives later
        await one.aclose()

    asyncio.run(run())


def test_an_index_that_is_gone_comes_back_with_its_mapping(
    client: OpenSearch, index: str, request: pytest.FixtureRequest
) -> None:
    async def run() -> None:
        shared = build(client, index)
        await put(shared, "lamp")
        client.indices.delete(index=index)
        assert await shared.get("lamp") is None
        await put(shared, "lamp")
        assert await shared.get("lamp") is not None
        await shared.aclose()

    asyncio.run(run())
    if request.node.callspec.params["server"] == "fake":
        return  # it has no mappings
    mapping = client.indices.get_mapping(index=index)[index]["mappings"]
    assert mapping == {"dynamic": "false", "properties": {"created": {"type": "date", "format": "epoch_second"}}}


@pytest.mark.opensearch
def test_what_is_too_old_is_cleared_by_the_next_service(opensearch_url: str) -> None:
    client, index = connect(SearchSettings(hosts=(opensearch_url,))), f"thoughts-{uuid.uuid4().hex[:12]}"

    async def run() -> None:
        old = build(client, index, age_s=1000)
        await put(old, "old")
        client.indices.refresh(index=index)
        new = build(client, index)
        await put(new, "new")

        def cleared() -> bool:
            client.indices.refresh(index=index)
            return bool(client.count(index=index)["count"] == 1)

        await until(cleared)
        assert await old.get("old") is None
        assert await new.get("new") is not None

    try:
        asyncio.run(run())
    finally:
        client.indices.delete(index=index, params={"ignore": 404})
        client.close()
