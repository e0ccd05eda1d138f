from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings, Settings
from lrem_os.errors import ConfigError, QueryError, Unsupported
from lrem_os.query_plugin.routing.signals import probe_bodies
from lrem_os.search.client import ServerInfo, connect, engine_of, translated
from lrem_os.search.dialect import dialect_of, kind_of_server, only_opensearch, spoken
from lrem_os.search.mappings import build_index_body, build_mapping
from lrem_os.search.requests import SearchSetup, build_body, build_fused_bodies, fused_here
from lrem_os.types import Engine

SETUP = SearchSetup(
    CatalogSettings(), IndexSettings(), SearchSettings(engine="elasticsearch", candidates=40), (9, 5, 3)
)
RED = {"term": {"brand.keyword": "Acme"}}


def test_the_mapping_differs_in_vectors_and_objects_alone() -> None:
    ours, theirs = (
        build_mapping(CatalogSettings(), IndexSettings(m=8), 16, engine=engine)["properties"]
        for engine in ("opensearch", "elasticsearch")
    )
    assert {name for name in ours if ours[name] != theirs[name]} == {"attributes", "lrem_vector"}
    assert theirs["attributes"] == {"type": "flattened", "ignore_above": 8191}
    assert theirs["lrem_vector"] == {
        "type": "dense_vector",
        "dims": 16,
        "element_type": "float",
        "similarity": "max_inner_product",
        "index_options": {"type": "hnsw", "m": 8, "ef_construction": 100},
    }
    body = build_index_body(CatalogSettings(), IndexSettings(), 16, {}, engine="elasticsearch")
    assert "knn" not in body["settings"]["index"]


@pytest.mark.parametrize("changed", [{"engine": "faiss"}, {"engine": "faiss", "on_disk": True}])
def test_an_engine_of_opensearch_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"index\.engine is 'faiss', which is OpenSearch's") as caught:
        build_mapping(CatalogSettings(), IndexSettings(**changed), 16, engine="elasticsearch")
    assert "index.engine to lucene" in (caught.value.hint or "")


def test_the_vector_leg_has_its_filter_inside() -> None:
    query = dialect_of("elasticsearch").knn("v", [0.5, 0.5], k=7, filters=RED)
    assert query == {
        "knn": {"field": "v", "query_vector": [0.5, 0.5], "k": 7, "num_candidates": 14, "filter": RED},
    }
    assert dialect_of("elasticsearch").knn("v", [1.0], k=9_000, filters=None)["knn"]["num_candidates"] == 10_000
    assert "filter" not in dialect_of("elasticsearch").knn("v", [0.5, 0.5], k=7, filters=None)["knn"]


def test_a_hybrid_query_is_two_searches_on_elasticsearch_alone() -> None:
    assert fused_here(SETUP, "hybrid", "red bag")
    assert not fused_here(SETUP, "hybrid", " ")  # it browses
    assert not fused_here(SETUP, "vector", "red bag")
    plain = SearchSetup(CatalogSettings(), IndexSettings(), SearchSettings(), (3, 6, 0))
    assert not fused_here(plain, "hybrid", "red bag")
    bodies = build_fused_bodies(SETUP, "red bag", [1.0], top_k=10, keywords=("tote",))
    assert bodies.keys() == {"bm25", "vector"}
    for body in bodies.values():
        assert (body["size"], body["_source"]) == (40, False)
        assert body["sort"] == [{"_score": "desc"}, {"id": "asc"}]
    assert bodies["vector"]["aggs"]["in_both"]["filter"] == bodies["bm25"]["query"]
    with pytest.raises(QueryError, match=r"search\.candidates"):
        build_fused_bodies(SETUP, "red bag", [1.0], top_k=10, start=31)


def test_one_leg_and_the_probe_speak_it_too() -> None:
    body = build_body(SETUP, "vector", "red bag", [1.0], top_k=3)
    assert body["query"]["knn"]["field"] == "lrem_vector"
    assert probe_bodies(SETUP, "red bag", [1.0])[1]["query"]["knn"]["num_candidates"] == 40


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ({"number": "3.6.0", "distribution": "opensearch"}, "opensearch"),
        ({"number": "9.5.3", "build_flavor": "default"}, "elasticsearch"),
        ({"number": "7.10.2", "build_flavor": "oss", "distribution": "other"}, None),
        ({"number": "1"}, None),
        ("3.6.0", None),
    ],
)
def test_a_server_is_known_by_its_greeting(version: Any, kind: Engine | None) -> None:
    assert kind_of_server({"version": version}) == kind
    assert kind_of_server({}) is None


def test_what_only_opensearch_has_is_refused_in_a_sentence() -> None:
    only_opensearch("opensearch", "this", why="that", hint="else")
    with pytest.raises(Unsupported, match=r"`lrem-os x` needs OpenSearch: it is so; search\.engine is elasticsearch"):
        only_opensearch("elasticsearch", "`lrem-os x`", why="it is so", hint="do without")


def test_serve_connect_and_dashboards_say_so_before_anything_is_connected(tmp_path: Path) -> None:
    from lrem_os import api, connecting
    from lrem_os.dashboards import install

    settings = Settings(search=SearchSettings(engine="elasticsearch", hosts=("http://127.0.0.1:1",)))
    with pytest.raises(Unsupported, match=r"lrem-os serve.*needs OpenSearch"):
        api.serve(settings)
    file = tmp_path / "out.ndjson"
    for call in (install.install, install.remove, partial(install.export, path=file)):
        with pytest.raises(Unsupported, match=r"lrem-os dashboards.*saved objects are of OpenSearch Dashboards"):
            call(settings)
    assert not file.exists()
    with pytest.raises(Unsupported, match=r"lrem-os connect.*ML Commons"):
        connecting.connect_service(settings)


def test_a_template_is_translated_whole_and_not_changed() -> None:
    template = {"template": {"mappings": {"properties": {"card": {"type": "flat_object"}, "a": {"type": "text"}}}}}
    found = spoken("elasticsearch", template)["template"]["mappings"]["properties"]
    assert found == {"card": {"type": "flattened", "ignore_above": 8191}, "a": {"type": "text"}}
    assert template["template"]["mappings"]["properties"]["card"] == {"type": "flat_object"}
    assert spoken("opensearch", template) == template


@pytest.mark.parametrize(
    ("engine", "token", "sent"),
    [
        ("opensearch", "abc", "Bearer abc"),
        ("elasticsearch", "abc", "ApiKey abc"),
        ("elasticsearch", "Bearer abc", "Bearer abc"),
    ],
)
def test_a_token_is_sent_as_the_server_wants_it(engine: Engine, token: str, sent: str) -> None:
    client = connect(SearchSettings(engine=engine, hosts=("http://127.0.0.1:1",), token=token))
    assert client.transport.get_connection().headers["authorization"] == sent
    assert engine_of(client) == engine


def test_errors_name_the_server_that_made_them() -> None:
    client = connect(SearchSettings(engine="elasticsearch", hosts=("http://127.0.0.1:1",)))
    with pytest.raises(Exception, match="Connection") as caught:
        client.cluster.health()
    assert str(translated(caught.value)).startswith("Elasticsearch cannot be reached")


def test_the_node_follows_the_engine_unless_told_otherwise() -> None:
    followed = Settings.model_validate({"search": {"engine": "elasticsearch"}})
    assert (followed.node.engine, followed.node.version) == ("elasticsearch", "9.5.3")
    told = Settings.model_validate({"search": {"engine": "elasticsearch"}, "node": {"version": "9.4.0"}})
    assert (told.node.engine, told.node.version) == ("elasticsearch", "9.4.0")
    other = Settings.model_validate({"search": {"engine": "elasticsearch"}, "node": {"engine": "opensearch"}})
    assert (other.node.engine, other.node.version) == ("opensearch", "3.6.0")
    assert (Settings().node.engine, Settings().node.version) == ("opensearch", "3.6.0")


def test_server_info_is_of_opensearch_unless_said() -> None:
    assert ServerInfo((3, 6, 0), None).engine == "opensearch"
