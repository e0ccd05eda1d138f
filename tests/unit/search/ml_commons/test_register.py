"""Registering and removing, against ML Commons as it was seen to behave: twice is once, a killed run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lrem_os.config import SearchSettings
from lrem_os.errors import IndexMismatch, RequestRejected, SearchError, SearchTimeout, Unsupported
from lrem_os.search.client import ServerInfo, connect
from lrem_os.search.ml_commons import permissions
from lrem_os.search.ml_commons.bodies import Wanted
from lrem_os.search.ml_commons.cluster import Cluster
from lrem_os.search.ml_commons.found import check_server, dimension_of
from lrem_os.search.ml_commons.register import register
from lrem_os.search.ml_commons.remove import remove
from tests.fakes import ml_commons
from tests.fakes.ml_commons import ENDPOINTS, PRIVATE, FakeMlCommons
from tests.fakes.opensearch import Index

WANTED = replace(ml_commons.WANTED, ingest_field="title", is_default=True)


class Killed(BaseException):
    """The process ended."""


@dataclass(slots=True)
class Mortal(Cluster):
    """A cluster whose caller is killed when it is about to send one more request that changes something."""

    left: int = 0

    def change(self, method: str, path: str, body: Any = None, **stand_in: str) -> Any:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return Cluster.change(self, method, path, body, **stand_in)


@pytest.fixture
def fake() -> Iterator[FakeMlCommons]:
    with FakeMlCommons() as fake:
        mapping = {"properties": {"v": {"type": "knn_vector", "dimension": 8}, "title": {"type": "text"}}}
        fake.indices["shop-v1"] = Index(mapping, {}, {"shop"})
        yield fake


@pytest.fixture
def cluster(fake: FakeMlCommons) -> Iterator[Cluster]:
    client = connect(SearchSettings(hosts=(fake.url,), timeout_s=20))
    yield Cluster(client, timeout_s=20)
    client.close()


def state(fake: FakeMlCommons) -> Any:
    """Return all that the cluster holds of ours."""
    return fake.ml, fake.pipelines, fake.persistent, fake.indices["shop-v1"].settings


def is_empty(fake: FakeMlCommons) -> bool:
    ml = fake.ml
    return not (
        ml.connectors or ml.groups or ml.models or ml.deployed or fake.pipelines or fake.persistent
    ) and not any(fake.indices["shop-v1"].settings.values())


def check_whole(fake: FakeMlCommons, wanted: Wanted) -> str:
    """Assert that everything is there once and fits together; return the model's id."""
    ((connector_id, connector),) = fake.ml.connectors.items()
    ((group_id, _),) = fake.ml.groups.items()
    ((model_id, model),) = fake.ml.models.items()
    assert connector["actions"][0]["url"] == wanted.endpoint
    assert connector["credential"]["key"] == (wanted.key or "none")
    assert (model["connector_id"], model["model_group_id"]) == (connector_id, group_id)
    assert model["model_config"]["embedding_dimension"] == wanted.dimension
    assert fake.ml.deployed[model_id]["credential"] == connector["credential"], "what is deployed is what is registered"
    assert fake.ml.deployed[model_id]["actions"] == connector["actions"]
    assert fake.ml.deployed[model_id]["private"] == "true"
    assert model["model_state"] == "DEPLOYED"
    (enricher,) = fake.pipelines["search/lrem-os"]["request_processors"]
    assert enricher["neural_query_enricher"]["neural_field_default_id"] == {wanted.vector_field: model_id}
    (processor,) = fake.pipelines["ingest/lrem-os"]["processors"]
    assert processor["text_embedding"]["model_id"] == model_id
    assert fake.indices["shop-v1"].settings["index.search.default_pipeline"] == "lrem-os"
    return model_id


def test_twice_is_once(fake: FakeMlCommons, cluster: Cluster) -> None:
    first = register(cluster, WANTED)
    assert {step.action for step in first} == {"created"}
    check_whole(fake, WANTED)
    again = Cluster(cluster.client)
    assert {step.action for step in register(again, WANTED)} == {"unchanged"}
    assert again.changes == []


def test_a_rehearsal_sends_nothing_and_names_the_same_requests(fake: FakeMlCommons, cluster: Cluster) -> None:
    rehearsal = Cluster(cluster.client, is_rehearsal=True)
    register(rehearsal, WANTED)
    assert is_empty(fake)
    assert {request.method for request in fake.requests if not request.path.endswith("_search")} == {"GET"}
    register(cluster, WANTED)
    shown, sent = ([(change.method, change.path) for change in one.changes] for one in (rehearsal, cluster))
    model_id = check_whole(fake, WANTED)
    assert [(method, path.replace("<model>", model_id)) for method, path in shown] == sent
    assert "secret" not in str(rehearsal.changes) + str(cluster.changes)


CHANGED = {
    "address": replace(WANTED, url="http://127.0.0.1:9000"),
    "key": replace(WANTED, key="other"),
    "no key": replace(WANTED, key=None),
    "model": replace(WANTED, dimension=16, fingerprint="012345"),
    "time": replace(WANTED, read_timeout_s=5),
    "fusion": replace(WANTED, fusion={"phase_results_processors": [{"score-ranker-processor": {}}]}),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_is_made_in_place(fake: FakeMlCommons, cluster: Cluster, what: str) -> None:
    register(cluster, WANTED)
    before = check_whole(fake, WANTED)
    register(cluster, CHANGED[what])
    assert check_whole(fake, CHANGED[what]) == before, "clients and pipelines name the model by its id"
    again = Cluster(cluster.client)
    register(again, CHANGED[what])
    assert again.changes == []


@pytest.mark.parametrize("what", [None, "key", "model"])
def test_a_killed_run_is_gone_on_with(fake: FakeMlCommons, cluster: Cluster, what: str | None) -> None:
    """Killed before each request in turn, on a new cluster and on one that held an older state."""
    wanted = WANTED if what is None else CHANGED[what]
    for left in range(30):
        if what is not None:
            register(cluster, WANTED)
        try:
            register(Mortal(cluster.client, left=left), wanted)
        except Killed:
            register(cluster, wanted)
            check_whole(fake, wanted)
            remove(cluster, "lrem-os")
            assert is_empty(fake)
        else:
            break
    assert left >= 3
    check_whole(fake, wanted)


def test_removing_can_be_killed_too(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.defaults = {ENDPOINTS: ["^https://x/.*$"], PRIVATE: "false"}
    for left in range(30):
        register(cluster, WANTED, allow=True)
        try:
            remove(Mortal(cluster.client, left=left), "lrem-os")
        except Killed:
            assert "lrem-os" not in str(fake.indices["shop-v1"].settings) or "search/lrem-os" in fake.pipelines, (
                "an index never names a pipeline that is gone"
            )
            remove(cluster, "lrem-os")
        else:
            break
        assert is_empty(fake)
    assert left >= 7
    assert is_empty(fake)


def test_removing_nothing_is_harmless(fake: FakeMlCommons, cluster: Cluster) -> None:
    assert remove(cluster, "lrem-os") == []
    assert cluster.changes == []


def test_every_index_that_names_the_pipeline_lets_it_go(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    fake.indices["other"] = Index(
        {}, {"index.search.default_pipeline": "lrem-os", "index.default_pipeline": "lrem-os"}, set()
    )
    fake.indices["third"] = Index({}, {"index.search.default_pipeline": "theirs"}, set())
    remove(cluster, "lrem-os")
    assert fake.indices["other"].settings == {}
    assert fake.indices["third"].settings == {"index.search.default_pipeline": "theirs"}


def test_what_the_cluster_forbids_is_said_and_set_only_when_asked(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.defaults = {ENDPOINTS: ["^https://x/.*$"], PRIVATE: "false"}
    with pytest.raises(Unsupported, match=r"has no entry for it.*private_ip_enabled is false") as error:
        register(cluster, WANTED)
    assert "--allow" in str(error.value.hint)
    assert is_empty(fake)
    register(cluster, WANTED, allow=True)
    check_whole(fake, WANTED)
    assert fake.persistent[ENDPOINTS] == ["^https://x/.*$", permissions.endpoint_regex(WANTED.endpoint)]
    again = Cluster(cluster.client)
    register(again, WANTED, allow=True)
    assert again.changes == []
    remove(cluster, "lrem-os")
    assert is_empty(fake)


def test_an_allowed_address_that_moves_leaves_no_entry_behind(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.defaults = {ENDPOINTS: ["^https://x/.*$"], PRIVATE: "false"}
    moved = replace(WANTED, url="http://127.0.0.1:9000")
    register(cluster, WANTED, allow=True)
    register(cluster, moved, allow=True)
    check_whole(fake, moved)
    assert fake.persistent[ENDPOINTS] == ["^https://x/.*$", permissions.endpoint_regex(moved.endpoint)]
    remove(cluster, "lrem-os")
    assert is_empty(fake)


def test_a_model_that_was_deployed_before_it_was_allowed_is_deployed_again(
    fake: FakeMlCommons, cluster: Cluster
) -> None:
    register(cluster, WANTED)
    fake.defaults[PRIVATE] = "false"
    (model_id,) = fake.ml.models
    fake.ml.deployed[model_id]["private"] = "false"
    for left in range(1, 8):  # killed in between, it is still seen
        try:
            register(Mortal(cluster.client, left=left), WANTED, allow=True)
        except Killed:
            continue
        break
    check_whole(fake, WANTED)
    assert left > 2


@pytest.mark.parametrize("kind", ["model group", "search pipeline", "ingest pipeline"])
def test_what_others_made_is_left_alone(fake: FakeMlCommons, cluster: Cluster, kind: str) -> None:
    if kind == "model group":
        fake.ml.groups["g"] = {"name": "lrem-os", "description": "mine"}
    else:
        fake.pipelines[f"{kind.split()[0]}/lrem-os"] = {"description": "mine"}
    for run in (lambda: register(cluster, WANTED), lambda: remove(cluster, "lrem-os")):
        with pytest.raises(RequestRejected, match=f"{kind} 'lrem-os' that lrem-os did not make"):
            run()
    assert cluster.changes == []


def test_connectors_and_models_of_others_are_left_alone(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.ml.connectors["theirs"] = {"name": "lrem-os", "description": "mine"}
    register(cluster, WANTED)
    remove(cluster, "lrem-os")
    assert list(fake.ml.connectors) == ["theirs"]


def test_two_models_become_one(fake: FakeMlCommons, cluster: Cluster) -> None:
    """As two runs at the same moment leave them."""
    register(cluster, WANTED)
    kept = check_whole(fake, WANTED)
    fake.ml.models["later"] = fake.ml.models[kept] | {"created_time": 99}
    register(cluster, WANTED)
    assert check_whole(fake, WANTED) == kept


def test_an_ingest_pipeline_is_kept_when_it_is_not_asked_for_again(fake: FakeMlCommons, cluster: Cluster) -> None:
    register(cluster, WANTED)
    register(cluster, replace(WANTED, ingest_field=None, is_default=False, dimension=16))
    assert check_whole(fake, replace(WANTED, dimension=16))


def test_a_deployment_that_meets_another_is_tried_again(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.conflicts = 3
    register(cluster, WANTED)
    check_whole(fake, WANTED)
    assert sum(change.path.endswith("_deploy") for change in cluster.changes) == 1


def test_a_task_that_fails_says_why(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.task = {"state": "FAILED", "error": '{"node":"no nodes available"}'}
    with pytest.raises(SearchError, match=r"could not register the model: .*no nodes available"):
        register(cluster, WANTED)
    fake.task = {"state": "COMPLETED"}
    register(cluster, WANTED)
    check_whole(fake, WANTED)


def test_a_task_that_hangs_is_given_up(fake: FakeMlCommons, cluster: Cluster) -> None:
    fake.task = {"state": "RUNNING"}
    with pytest.raises(SearchTimeout, match=r"did not register the model within 0\.2 s: task .* is RUNNING"):
        register(Cluster(cluster.client, timeout_s=0.2), WANTED)
    fake.task = {"state": "COMPLETED"}
    register(cluster, WANTED)
    check_whole(fake, WANTED)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (ServerInfo((3, 4, 1), frozenset({"opensearch-ml"})), "OpenSearch 3.4.1 cannot tell .* 3.5 is the first"),
        (ServerInfo((3, 6, 0), frozenset({"opensearch-knn"})), r"no ML Commons \(plugin opensearch-ml\)"),
        (ServerInfo((3, 6, 0), frozenset({"opensearch-ml"})), "no neural-search"),
    ],
)
def test_a_cluster_that_cannot_ask_the_service_is_told(info: ServerInfo, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        check_server(info)


def test_a_cluster_whose_plugins_may_not_be_listed_is_tried() -> None:
    check_server(ServerInfo((3, 5, 0), None))


def test_the_dimension_is_the_index(fake: FakeMlCommons, cluster: Cluster) -> None:
    assert dimension_of(cluster, "shop-v1", "v") == 8
    for name in ("title", "absent"):
        with pytest.raises(IndexMismatch, match=f"field '{name}' of index 'shop-v1' holds no vectors"):
            dimension_of(cluster, "shop-v1", name)
