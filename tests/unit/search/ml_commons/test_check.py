from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lrem_os.config import SearchSettings
from lrem_os.search.client import connect
from lrem_os.search.ml_commons.bodies import Wanted
from lrem_os.search.ml_commons.check import Finding, check
from lrem_os.search.ml_commons.cluster import Cluster
from lrem_os.search.ml_commons.register import register
from tests.fakes import ml_commons
from tests.fakes.ml_commons import PRIVATE, FakeMlCommons
from tests.fakes.opensearch import Index

WANTED = replace(ml_commons.WANTED, fusion={}, ingest_field="title")


@pytest.fixture
def fake() -> Iterator[FakeMlCommons]:
    with FakeMlCommons() as fake:
        fake.indices["shop-v1"] = Index({"properties": {"v": {"type": "knn_vector", "dimension": 8}}}, {}, {"shop"})
        yield fake


@pytest.fixture
def cluster(fake: FakeMlCommons) -> Iterator[Cluster]:
    client = connect(SearchSettings(hosts=(fake.url,), timeout_s=20))
    yield Cluster(client)
    client.close()


def findings(cluster: Cluster, wanted: Wanted = WANTED) -> dict[str, Finding]:
    cluster.changes.clear()
    found = {finding.name: finding for finding in check(cluster, wanted)}
    assert cluster.changes == [], "a check changes nothing"
    return found


def test_all_is_tried(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    found = findings(cluster)
    assert list(found) == ["registered", "query", "passage", "search", "ingest"]
    assert {finding.status for finding in found.values()} == {"ok"}


def test_nothing_registered(fake: FakeMlCommons, cluster: Cluster) -> None:
    found = findings(cluster)
    assert list(found) == ["registered"]
    assert found["registered"].status == "fail"
    assert "`lrem-os connect`" in found["registered"].hint


def test_another_configuration(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    found = findings(cluster, replace(WANTED, key="other"))
    assert found["registered"].message == "not as configured: connector, model"
    assert found["query"].status == "ok", "what is registered is tried all the same"


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (
            (500, "Error communicating with remote model: Connection refused: /127.0.0.1:8099"),
            "Connection refused",
            "is `lrem-os serve` running",
        ),
        (
            (401, 'Error from remote service: {"error":{"message":"an API key is missing or wrong"}}'),
            "the service answered 401",
            "LREM_OS__CONNECT__API_KEY",
        ),
        (
            (503, 'Error from remote service: {"error":{"message":"the texts could not be embedded"}}'),
            "the service answered 503",
            "",
        ),
        ((429, "Memory Circuit Breaker is open"), "Circuit Breaker is open", "native_memory_threshold"),
    ],
)
def test_a_service_that_fails_is_told_with_what_to_do(
    fake: FakeMlCommons, cluster: Cluster, answer: tuple[int, str], message: str, hint: str
) -> None:
    register(cluster, WANTED)
    fake.predict = lambda _connector, _kind: answer
    found = findings(cluster)
    assert list(found) == ["registered", "query"], "what needs the service is not tried after it"
    assert found["query"].status == "fail"
    assert message in found["query"].message
    assert hint in found["query"].hint
    assert bool(hint) == bool(found["query"].hint)


def test_a_model_deployed_before_private_addresses_were_allowed(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    (model_id,) = fake.ml.models
    fake.ml.deployed[model_id]["private"] = "false"
    assert "connect again" in findings(cluster)["query"].hint
    fake.defaults[PRIVATE] = "false"
    assert "--allow" in findings(cluster)["registered"].hint


def test_vectors_that_do_not_fit_the_index(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    fake.predict = lambda _connector, _kind: [0.5] * 16
    found = findings(cluster)["query"]
    assert found.message == "the service gives vectors of 16 numbers, index 'shop-v1' has 8"
    assert "the model that the index was made with" in found.hint


def test_passages_that_fail_while_queries_work(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    fake.predict = lambda _connector, kind: [0.5] * 8 if kind == "query" else (400, "Error from remote service: no")
    found = findings(cluster)
    assert (found["query"].status, found["passage"].status) == ("ok", "fail")


def test_a_search_pipeline_that_is_gone(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    del fake.pipelines["search/lrem-os"]
    found = findings(cluster)
    assert found["registered"].message == "not as configured: search pipeline"
    assert "search" not in found
