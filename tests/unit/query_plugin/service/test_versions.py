"""Which model each index wants: what is asked of the cluster, when, and what becomes of a search meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from lrem_os.query_plugin.engine.several import Engines
from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.versions import Versions
from lrem_os.query_plugin.service.wire import Answer
from lrem_os.search.index import index_identity, model_fingerprint
from tests.fakes.clock import settle
from tests.fakes.engine import FakeEngine
from tests.fakes.service import HITS, Service, serving

A, B = ({"model": name, "dimension": 8} for name in ("a", "b"))
OF_A, OF_B = model_fingerprint(A), model_fingerprint(B)


def seen(identity: dict[str, Any] | None, *aliases: str) -> dict[str, Any]:
    mapping = {} if identity is None else {"_meta": {"lrem": {"identity": index_identity(identity, ["title"])}}}
    return {"aliases": {name: {} for name in aliases}, "mappings": mapping, "settings": {"index": {"uuid": "u"}}}


class Cluster:
    """Says which indices there are."""

    def __init__(self, **indices: dict[str, Any]) -> None:
        self.indices = {name.replace("_", "-"): body for name, body in indices.items()}
        self.paths: list[str] = []
        self.status, self.seconds = 200, 1000.0
        self.error: Problem | None = None

    async def ask(self, path: str, _query: str) -> Answer:
        self.paths.append(path)
        if self.error is not None:
            raise self.error
        return Answer(self.status, [], json.dumps(self.indices).encode())


def versions(cluster: Cluster, *patterns: str, known: tuple[str, ...] = (OF_A, OF_B)) -> Versions:
    return Versions(cluster.ask, patterns or ("shop",), known, OF_A, now=lambda: cluster.seconds)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_the_fields_that_were_embedded_do_not_matter_to_a_query() -> None:
    assert model_fingerprint(index_identity(A, ["title"])) == model_fingerprint(index_identity(A, ["title", "brand"]))
    assert OF_A != OF_B


def test_an_alias_leads_to_the_model_of_its_version() -> None:
    cluster = Cluster(shop_v1=seen(A, "shop"), shop_v2=seen(B), other=seen(None))

    async def test() -> None:
        found = versions(cluster)
        targets = await found.targets("shop")
        assert targets is not None
        assert dict(targets.holders) == {OF_A: ("other", "shop-v1")}  # what nobody says: the configured model's
        assert targets.expected == {"shop-v1"}
        for expression in ("shop-v1,shop-v2", "shop-*", "*", "", "<shop-{now/d}>"):
            both = await found.targets(expression)
            assert both is not None
            assert set(both.holders) == {OF_A, OF_B}
        assert await found.targets("elsewhere:shop") is None
        assert cluster.paths == ["/shop,shop-v*"]

    run(test)


def test_a_model_that_is_not_known_is_not_asked() -> None:
    cluster = Cluster(shop_v1=seen(B, "shop"))

    async def test() -> None:
        targets = await versions(cluster, known=(OF_A,)).targets("shop")
        assert targets is not None
        assert dict(targets.holders) == {}

    run(test)


def test_indices_that_are_not_ours_are_searched_as_ever() -> None:
    async def test() -> None:
        assert await versions(Cluster(shop=seen(None))).targets("shop") is None

    run(test)


def test_it_is_looked_up_every_second_and_waited_for_after_a_pause() -> None:
    cluster = Cluster(shop_v1=seen(A, "shop"), shop_v2=seen(B))

    async def test() -> None:
        found = versions(cluster)

        async def model() -> list[str]:
            targets = await found.targets("shop")
            assert targets is not None
            return list(targets.holders)

        assert [await model() for _ in range(3)] == [[OF_A]] * 3
        assert len(cluster.paths) == 1
        cluster.indices = {"shop-v1": seen(A), "shop-v2": seen(B, "shop")}
        cluster.seconds += 2
        assert await model() == [OF_A]  # looked up beside this search
        await settle()
        assert await model() == [OF_B]
        cluster.indices = {"shop-v1": seen(A, "shop"), "shop-v2": seen(B)}
        cluster.seconds += 60
        assert await model() == [OF_A]  # and before this one
        assert len(cluster.paths) == 3

    run(test)


@pytest.mark.parametrize("error", [None, Problem(503, "away", "away")])
def test_a_cluster_that_does_not_say_leaves_what_was_known(
    error: Problem | None, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(shop_v1=seen(A, "shop"))

    async def test() -> None:
        found = versions(cluster)
        await found.look()
        cluster.error, cluster.status, cluster.seconds = error, 403, cluster.seconds + 60
        targets = await found.targets("shop")
        assert targets is not None
        assert dict(targets.holders) == {OF_A: ("shop-v1",)}

    run(test)
    assert "could not be looked up" in caplog.text


# ---- in the service


def hits_of(index: str) -> bytes:
    return HITS.replace(b'"_id"', b'"_index":"%s","_id"' % index.encode())


def engines() -> Engines[FakeEngine]:
    return Engines({OF_A: FakeEngine(), OF_B: FakeEngine()}, OF_A)


def asked(service: Service) -> list[Any]:
    return [json.loads(request.content) for request in service.cluster.requests if request.url.path.endswith("_search")]


def test_an_alias_that_moves_under_a_search_costs_a_second_one() -> None:
    both, live = engines(), ["shop-v1"]

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            states = {
                name: seen(model, *(["shop"] if name == live[0] else []))
                for name, model in (("shop-v1", A), ("shop-v2", B))
            }
            return httpx.Response(200, stream=httpx.ByteStream(json.dumps(states).encode()))
        live[0] = "shop-v2"  # while the first search is on its way
        return httpx.Response(
            200, stream=httpx.ByteStream(hits_of("shop-v2")), headers={"content-type": "application/json"}
        )

    async def check(service: Service) -> None:
        service.cluster.answer = answer
        body = {"query": {"neural": {"lrem_vector": {"query_text": "red bag"}}}}
        found = await service.ask("POST", "/shop/_search", json=body)
        assert found.status_code == 200
        first, second = asked(service)
        assert '"shop-v1"' in json.dumps(first)
        assert '"_index": ["shop-v2"]' in json.dumps(second)
        assert both.by_model[OF_A].asked == both.by_model[OF_B].asked == [("red bag", "auto", None)]
        assert "lrem_asked_again_total 1.0" in (await service.ask("GET", "/metrics")).text
        await service.ask("POST", "/shop/_search", json=body)
        assert len(asked(service)) == 3  # as expected now: once

    serving(check, engine=both, index={"name": "shop"})  # type: ignore[arg-type]


def test_what_holds_no_clause_of_ours_is_not_held_up() -> None:
    async def check(service: Service) -> None:
        await service.ask("POST", "/shop/_search", json={"query": {"match_all": {}}})
        assert [request.url.path for request in service.cluster.requests] == ["/shop/_search"]

    serving(check, engine=engines(), index={"name": "shop"})  # type: ignore[arg-type]
