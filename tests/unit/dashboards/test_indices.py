from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch

from lrem_os.config import SearchSettings
from lrem_os.dashboards.indices import prepare_indices, remove_templates
from lrem_os.dashboards.templates import POLICY, build_templates
from lrem_os.errors import InputError, RequestRejected, Unsupported
from lrem_os.search.client import connect
from lrem_os.search.ml_commons.cluster import Cluster
from tests.fakes.opensearch import Answer, Body, FakeOpenSearch, Request, _error

NAMES = set(build_templates())


class FakeIsm(FakeOpenSearch):
    """A cluster with Index State Management.

    Attributes:
        policies: By name.
        moved: Patterns of indices that were given another policy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policies: dict[str, Body] = {}
        self.moved: list[str] = []

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        ism = "/_plugins/_ism"
        return [
            ("GET", f"{ism}/policies/([^/]+)", self._get_policy),
            ("PUT", f"{ism}/policies/([^/]+)", self._put_policy),
            ("DELETE", f"{ism}/policies/([^/]+)", lambda _request, name: (200, self.policies.pop(name))),
            ("POST", f"{ism}/change_policy/([^/]+)", self._change_policy),
            ("GET", "/_index_template/([^/]+)", self._get_template),
            ("DELETE", "/_index_template/([^/]+)", lambda _request, name: (200, self.templates.pop(name))),
            *super()._routes(),
        ]

    def _get_template(self, _request: Request, name: str) -> Answer:
        return (200, self.templates[name]) if name in self.templates else _error(404, "resource_not_found", name)

    def _get_policy(self, _request: Request, name: str) -> Answer:
        found = self.policies.get(name)
        return (200, found) if found else _error(404, "status_exception", "Policy not found")

    def _put_policy(self, request: Request, name: str) -> Answer:
        before = self.policies.get(name)
        at = int(request.params["if_seq_no"]) if "if_seq_no" in request.params else None
        if (before["_seq_no"] if before else None) != at:
            return _error(409, "version_conflict_engine_exception", "required seqNo")
        body = json.loads(request.body)
        self.policies[name] = {"_seq_no": (at or 0) + 1, "_primary_term": 1, **body}
        return 201, {}

    def _change_policy(self, _request: Request, pattern: str) -> Answer:
        self.moved.append(pattern)
        return 200, {"updated_indices": 1, "failures": False}


class FakeWithout(FakeIsm):
    """A cluster without it."""

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        return [route for route in super()._routes() if "_ism" not in route[1]]


@pytest.fixture
def fake() -> Iterator[FakeIsm]:
    with FakeIsm() as server:
        yield server


def cluster_of(server: FakeOpenSearch) -> Cluster:
    return Cluster(client_of(server))


def client_of(server: FakeOpenSearch) -> OpenSearch:
    return connect(SearchSettings(hosts=(server.url,)))


def prepare(server: FakeOpenSearch, retention: str | None = None) -> list[str]:
    notes: list[str] = []
    assert set(prepare_indices(cluster_of(server), "lrem-os-eval", retention, notes)) == NAMES
    return notes


def test_the_templates_are_put_and_removed(fake: FakeIsm) -> None:
    assert prepare(fake) == prepare(fake) == []
    assert set(fake.templates) == NAMES
    assert fake.indices == {}
    assert set(remove_templates(cluster_of(fake), "lrem-os-eval")) == NAMES
    assert (fake.templates, fake.policies) == ({}, {})
    assert remove_templates(cluster_of(fake), "lrem-os-eval") == []


def test_without_the_plugin_there_is_no_retention_but_all_the_rest() -> None:
    with FakeWithout() as fake:
        prepare(fake)
        assert set(fake.templates) == NAMES
        fake.templates.clear()
        with pytest.raises(Unsupported, match="after 30d: the cluster has no Index State Management"):
            prepare(fake, "30d")
        assert fake.templates == {}


def rollover_alias(fake: FakeIsm) -> Any:
    settings = fake.templates["lrem-os-ubi-queries"]["template"]["settings"]
    return settings.get("plugins.index_state_management.rollover_alias")


def test_records_are_deleted_with_their_index(fake: FakeIsm) -> None:
    assert prepare(fake, "30d") == ["behaviour records are deleted after 30d"]
    assert fake.behind("ubi_queries") == ["ubi_queries-000001"]
    assert fake.behind("ubi_events") == ["ubi_events-000001"]
    assert rollover_alias(fake) == "ubi_queries"
    patterns = fake.policies[POLICY]["policy"]["ism_template"][0]["index_patterns"]
    assert patterns == ["ubi_queries-*", "ubi_events-*"]
    prepare(fake)  # without saying it again
    assert rollover_alias(fake) == "ubi_queries"
    assert fake.policies[POLICY]["_seq_no"] == 1


def test_another_age_reaches_the_indices_that_are_there(fake: FakeIsm) -> None:
    prepare(fake, "30d")
    prepare(fake, "48h")
    assert fake.policies[POLICY]["_seq_no"] == 2
    assert "48h" in fake.policies[POLICY]["policy"]["description"]
    assert fake.moved == ["ubi_queries-*", "ubi_events-*"]
    assert sorted(fake.indices) == ["ubi_events-000001", "ubi_queries-000001"]


def test_one_index_that_holds_everything_cannot_be_cut(fake: FakeIsm) -> None:
    client_of(fake).indices.create(index="ubi_queries", body={})
    with pytest.raises(RequestRejected, match="'ubi_queries' is one index") as caught:
        prepare(fake, "30d")
    assert "ubi_queries-000001" in str(caught.value.hint)
    assert (fake.templates, fake.policies) == ({}, {})


@pytest.mark.parametrize("age", ["", "30", "0d", "d", "-3d", "30 d", "1w", "999999d"])
def test_an_age_that_is_none(fake: FakeIsm, age: str) -> None:
    with pytest.raises(InputError, match="no span of time"):
        prepare(fake, age)


def test_an_index_of_the_plugin_gets_our_fields(fake: FakeIsm) -> None:
    client = client_of(fake)
    for name in ("ubi_queries", "ubi_events"):
        client.indices.create(index=name, body={"mappings": {"properties": {"query_id": {"type": "keyword"}}}})
    prepare(fake)
    for name in ("ubi_queries", "ubi_events"):
        assert fake.indices[name].mapping["properties"]["lrem"]["properties"]["route"]["type"] == "keyword"
        assert fake.indices[name].mapping["properties"]["query_id"] == {"type": "keyword"}
    assert prepare(fake) == []
