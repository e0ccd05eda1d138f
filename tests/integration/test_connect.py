"""`lrem-os connect` on a real node with ML Commons: what OpenSearch answers by itself is what the service answers.

The node is this module's own; ML Commons is 390 MB that come from Maven Central once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from lrem_os import connecting
from lrem_os.config import NodeSettings, Settings
from lrem_os.errors import Unsupported
from lrem_os.node.local import reset_node, start_node
from lrem_os.search.mappings import build_index_body
from tests.fakes.engine import FakeEngine, reasoned, vector_of
from tests.fakes.ports import quiet_port
from tests.fakes.served import served

pytestmark = pytest.mark.opensearch

FETCH_S = 300
KEY = "key-of-the-service"
NUM_DOCUMENTS = 40
REASONED = "three words here"
NDJSON = {"content-type": "application/x-ndjson"}
FETCH = """
from lrem_os.node.distribution import ensure_distribution
from lrem_os.node.home import node_root
from lrem_os.config import NodeSettings
root = node_root()
folders = {"downloads": root / "downloads", "distributions": root / "distributions"}
ensure_distribution(NodeSettings().version, with_ml=True, **folders)
"""


@pytest.fixture(scope="module")
def ml_url(node_cache: Path) -> Iterator[str]:
    """Where an OpenSearch with ML Commons answers."""
    environ = os.environ | {"LREM_OS_HOME": str(node_cache)}
    try:  # in a process of its own, which can be ended; the next run goes on where it was
        subprocess.run([sys.executable, "-c", FETCH], env=environ, check=True, timeout=FETCH_S, capture_output=True)
    except subprocess.TimeoutExpired:
        pytest.skip(f"ML Commons (390 MB) did not come from Maven Central within {FETCH_S} s")
    except subprocess.CalledProcessError as exc:
        last = exc.stderr.decode().strip().splitlines()[-1]
        if "DownloadFailed" not in last:
            raise
        pytest.skip(f"ML Commons (390 MB) could not be fetched from Maven Central: {last}")
    settings = NodeSettings(name=f"test-ml-{os.getpid()}", port=quiet_port(), heap_mb=768)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(node_cache))
        node = start_node(settings, with_ml=True, fetch_java=True)
    yield node.url
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(node_cache))
        reset_node(settings)


@dataclass(frozen=True)
class World:
    """An index, the service before it, and the service inside it.

    Args:
        straight: To the node.
        through: To the service.
        settings: What connected them: name ``lrem-os``, an ingest pipeline, no default.
        engine: Of the service.
        model_id: Of ML Commons.
    """

    straight: httpx.Client
    through: httpx.Client
    settings: Settings
    engine: FakeEngine
    model_id: str

    def with_(self, **connect: Any) -> Settings:
        """Return the settings with another section ``connect``."""
        values = self.settings.model_dump(exclude={"connect"}) | {
            "connect": {"url": self.settings.connect.url} | connect
        }
        return Settings.model_validate(values)

    def hits(self, client: httpx.Client, body: dict[str, Any], **params: str) -> list[tuple[str, float]]:
        answer = client.post(f"/{self.settings.index.name}/_search", json=body, params=params)
        assert answer.status_code == 200, answer.text
        return [(hit["_id"], hit["_score"]) for hit in answer.json()["hits"]["hits"]]


@pytest.fixture(scope="module")
def world(ml_url: str) -> Iterator[World]:
    index = f"test-connect-{uuid.uuid4().hex[:8]}"
    sections: dict[str, Any] = {
        "search": {"hosts": [ml_url], "timeout_s": 120},
        "index": {"name": index},
        "serve": {"api_keys": f"another, {KEY}"},
    }
    settings = Settings.model_validate(sections)
    engine = FakeEngine({REASONED: reasoned(REASONED, "shoe")})
    key = {"x-lrem-api-key": KEY}
    with httpx.Client(base_url=ml_url, timeout=120) as straight, served(settings, engine, ml_url) as url:
        fill(straight, settings)
        connect = {"url": url, "api_key": KEY, "ingest_field": "title", "timeout_s": 120}
        connected = Settings.model_validate(sections | {"connect": connect})
        outcome = connecting.connect_service(connected)
        (model_id,) = [step.id for step in outcome.steps if step.what == "model"]
        with httpx.Client(base_url=url, timeout=120, headers=key) as through:
            yield World(straight, through, connected, engine, str(model_id))
        connecting.disconnect_service(connected)
        straight.delete(f"/{index}*")


def fill(node: httpx.Client, settings: Settings) -> None:
    index = settings.index.name
    node.put(f"/{index}", json=build_index_body(settings.catalog, settings.index, 8, {})).raise_for_status()
    lines = []
    for number in range(NUM_DOCUMENTS):
        row = {
            "id": f"p{number:02d}",
            "title": f"{'red leather bag' if number % 3 else 'blue shoe'} three {'words ' * (number % 4)}",
            "brand": ("Sony", "Bose", "Acme")[number % 3],
            "lrem_vector": vector_of(f"item {number}"),
        }
        lines += [json.dumps({"index": {"_id": row["id"]}}), json.dumps(row)]
    answer = node.post(f"/{index}/_bulk?refresh=true", content="\n".join(lines) + "\n", headers=NDJSON)
    assert not answer.raise_for_status().json()["errors"]


def test_twice_is_once(world: World) -> None:
    outcome = connecting.connect_service(world.settings)
    assert outcome.changes == []
    assert {step.action for step in outcome.steps} == {"unchanged"}
    assert {finding.status for finding in connecting.check_service(world.settings)} == {"ok"}


def neural(text: str, **more: Any) -> dict[str, Any]:
    return {"neural": {"lrem_vector": {"query_text": text, "k": 8, **more}}}


FILTER = {"term": {"brand.keyword": "Bose"}}
BODIES: dict[str, Any] = {
    "alone": lambda text: {"query": neural(text), "size": 20},
    "alone, filtered, boosted": lambda text: {"query": neural(text, filter=FILTER, boost=2.5, k=20), "size": 20},
    "alone, by score": lambda text: {"query": {"neural": {"lrem_vector": {"query_text": text, "min_score": 2.0}}}},
    "bool": lambda text: {
        "query": {"bool": {"must": [neural(text, k=30)], "should": [{"match": {"title": text}}], "filter": [FILTER]}}
    },
    "two clauses": lambda text: {"query": {"bool": {"should": [neural(text), neural("another", boost=0.5)]}}},
    "hybrid": lambda text: {"query": {"hybrid": {"queries": [{"match": {"title": text}}, neural(text)]}}, "size": 30},
    "hybrid, filtered": lambda text: {
        "query": {
            "hybrid": {"queries": [{"match": {"title": text}}, neural(text, filter=FILTER)]},
        }
    },
}


@pytest.mark.parametrize("text", ["red leather bag", REASONED])
@pytest.mark.parametrize("kind", BODIES)
def test_opensearch_by_itself_finds_what_the_service_finds(world: World, kind: str, text: str) -> None:
    body = BODIES[kind](text)
    asked = len(world.engine.asked)
    straight = world.hits(world.straight, body, search_pipeline="lrem-os")
    assert (text, "auto", None) in world.engine.asked[asked:], "it asked the service"
    # inside the cluster keywords cannot enter the text leg
    through = world.hits(world.through, body, **{"search_pipeline": "lrem-os", "lrem.keywords": "false"})
    assert len(straight) > 3
    assert [doc_id for doc_id, _ in straight] == [doc_id for doc_id, _ in through]
    assert [score for _, score in straight] == pytest.approx([score for _, score in through], rel=1e-5)


def test_a_named_model_and_an_inline_pipeline_work_too(world: World) -> None:
    ours = neural("red leather bag", model_id=world.model_id)
    pipeline = {"phase_results_processors": [{"score-ranker-processor": {"combination": {"technique": "rrf"}}}]}
    body = {"query": {"hybrid": {"queries": [{"match": {"title": "bag"}}, ours]}}, "search_pipeline": pipeline}
    straight, through = world.hits(world.straight, body), world.hits(world.through, body)
    assert straight
    assert straight == [(doc_id, pytest.approx(score, rel=1e-5)) for doc_id, score in through]


HARD = [
    'a "quoted" \\ text',
    "lines\nand\ttabs",
    "é 😀 \u2028 漢字",
    "</script>&<>",
    "${credential.key} ${x} $$",
    "{}[],:",
]


@pytest.mark.parametrize("text", HARD)
def test_a_text_comes_through_as_it_was_typed(world: World, text: str) -> None:
    world.hits(world.straight, {"query": neural(text)}, search_pipeline="lrem-os")
    assert world.engine.asked[-1][0] == text


def test_the_ingest_pipeline_stores_what_the_service_gives_for_passages(world: World) -> None:
    index = f"{world.settings.index.name}-ingest"
    body = build_index_body(world.settings.catalog, world.settings.index, 8, {})
    world.straight.put(f"/{index}", json=body).raise_for_status()
    titles = [f"bag number {number}" for number in range(70)] + HARD
    lines = [line for at, title in enumerate(titles) for line in ({"index": {"_id": str(at)}}, {"title": title})]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    answer = world.straight.post(f"/{index}/_bulk?refresh=true&pipeline=lrem-os", content=content, headers=NDJSON)
    assert not answer.raise_for_status().json()["errors"]
    found = world.straight.post(f"/{index}/_search", json={"size": 100}).json()["hits"]["hits"]
    stored = {int(hit["_id"]): hit["_source"]["lrem_vector"] for hit in found}
    told = world.through.post("/v1/embeddings", json={"input": titles, "input_type": "passage"}).json()["data"]
    assert len(stored) == len(titles)
    for at, row in enumerate(told):
        np.testing.assert_allclose(stored[at], row["embedding"], rtol=1e-6)
    queries = world.through.post("/v1/embeddings", json={"input": titles[0], "input_type": "query"}).json()["data"]
    assert not np.allclose(stored[0], queries[0]["embedding"]), "a passage is no query"


def test_the_pipeline_can_be_the_default_of_the_index(world: World) -> None:
    settings = world.with_(name="by-default", api_key=KEY, default=True)
    body = {"query": neural("red leather bag")}
    assert world.straight.post(f"/{settings.index.name}/_search", json=body).status_code == 400
    connecting.connect_service(settings)
    assert world.hits(world.straight, body) == world.hits(world.through, body)
    connecting.disconnect_service(settings)
    match = {"query": {"match_all": {}}}
    assert world.hits(world.straight, match), "an index whose default pipeline is gone would answer nothing"


def test_a_wrong_key_is_told_and_put_right_in_place(world: World) -> None:
    wrong, right = (world.with_(name="keys", api_key=key) for key in ("wrong", KEY))
    before = connecting.connect_service(wrong)
    found = {finding.name: finding for finding in connecting.check_service(wrong)}
    assert found["registered"].status == "ok"
    assert found["query"].message.startswith("the service answered 401")
    assert "connect.api_key" in found["query"].hint
    after = connecting.connect_service(right)
    assert {finding.status for finding in connecting.check_service(right)} == {"ok"}
    ids = [[step.id for step in outcome.steps if step.what == "model"] for outcome in (before, after)]
    assert ids[0] == ids[1]
    assert connecting.connect_service(right).changes == []
    connecting.disconnect_service(right)


def test_a_service_that_is_down_is_told(world: World) -> None:
    settings = world.with_(name="down", url=f"http://127.0.0.1:{quiet_port()}")
    connecting.connect_service(settings)
    found = {finding.name: finding for finding in connecting.check_service(settings)}
    assert found["registered"].status == "ok"
    assert found["query"].status == "fail"
    assert "Connection refused" in found["query"].message
    assert "`lrem-os serve`" in found["query"].hint
    connecting.disconnect_service(settings)


def test_vectors_of_another_length_are_told(world: World) -> None:
    settings = world.with_(name="dims", api_key=KEY)
    name = f"{settings.index.name}-wide"
    settings = settings.model_copy(update={"index": settings.index.model_copy(update={"name": name})})
    world.straight.put(f"/{name}", json=build_index_body(settings.catalog, settings.index, 16, {})).raise_for_status()
    connecting.connect_service(settings)
    found = {finding.name: finding for finding in connecting.check_service(settings)}
    assert found["query"].message == f"the service gives vectors of 8 numbers, index {name!r} has 16"
    connecting.disconnect_service(settings)


def test_what_the_cluster_forbids_is_set_when_asked_and_taken_back(world: World) -> None:
    endpoints = "plugins.ml_commons.trusted_connector_endpoints_regex"
    private = "plugins.ml_commons.connector.private_ip_enabled"
    theirs = {endpoints: ["^https://api\\.example\\.org/.*$"], private: "false"}

    def persistent() -> Any:
        return world.straight.get("/_cluster/settings?flat_settings=true").raise_for_status().json()["persistent"]

    settings = world.with_(name="allowed", api_key=KEY)
    world.straight.put("/_cluster/settings", json={"persistent": theirs}).raise_for_status()
    try:
        with pytest.raises(Unsupported, match="trusted_connector_endpoints_regex has no entry"):
            connecting.connect_service(settings)
        connecting.connect_service(settings, allow=True)
        assert {finding.status for finding in connecting.check_service(settings)} == {"ok"}
        assert connecting.connect_service(settings, allow=True).changes == []
        connecting.disconnect_service(settings)
        assert persistent() == theirs
    finally:
        world.straight.put("/_cluster/settings", json={"persistent": dict.fromkeys(theirs)}).raise_for_status()


def test_the_command_line_from_end_to_end(world: World, tmp_path: Path) -> None:
    connect = {"url": world.settings.connect.url, "name": "by-hand"}
    config = {"search": {"hosts": list(world.settings.search.hosts)}, "index": {"name": world.settings.index.name}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config | {"connect": connect}))

    def run(*args: str, code: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "lrem_os", "connect", "-c", "c.yaml", "--json", *args],
            env=os.environ | {"LREM_OS__CONNECT__API_KEY": KEY, "LREM_OS__SEARCH__TIMEOUT_S": "120"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert KEY not in done.stdout + done.stderr
        return json.loads(done.stdout)

    shown = run("--dry-run")
    assert shown["requests"]
    assert run("--check", code=1)[0]["status"] == "fail", "the rehearsal registered nothing"
    assert len(run()["requests"]) >= len(shown["requests"])
    assert run()["changed"] is False
    assert {finding["status"] for finding in run("--check")} == {"ok"}
    assert run("--remove")["changed"] is True
    assert run("--remove")["changed"] is False


def test_removing_leaves_nothing(world: World) -> None:
    """The last test: what the others registered is gone, and so is the first registration."""
    connecting.disconnect_service(world.settings)
    for kind in ("connectors", "model_groups", "models"):
        answer = world.straight.post(f"/_plugins/_ml/{kind}/_search", json={"query": {"match_all": {}}}).json()
        assert answer["hits"]["hits"] == [], kind
    assert world.straight.get("/_search/pipeline").json() == {}
    assert world.straight.get("/_ingest/pipeline").json() == {}
    assert world.straight.get("/_cluster/settings").json() == {"persistent": {}, "transient": {}}
    outcome = connecting.connect_service(world.settings)  # and it can all come back
    assert {step.action for step in outcome.steps} == {"created"}
