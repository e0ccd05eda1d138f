"""The service before a real node: what is not ours comes back as if nobody stood between, and what is is answered."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, RequestError, TransportError

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.model.fake import FakeEmbedder
from lrem_os.search.mappings import build_index_body
from tests.fakes.engine import FakeEngine, by_words, reasoned, vector_of
from tests.fakes.served import served

pytestmark = pytest.mark.opensearch

TEXT = "red leather bag"
NUM_DOCUMENTS = 40


@dataclass(frozen=True)
class Pair:
    """The same index by two ways.

    Args:
        straight: To the node.
        through: To the service.
        index: The index that may be searched.
        engine: Of the service.
        url: Of the service.
    """

    straight: httpx.Client
    through: httpx.Client
    index: str
    engine: FakeEngine
    url: str


@pytest.fixture(scope="module")
def pair(opensearch_url: str) -> Iterator[Pair]:
    index = f"test-serve-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"index": {"name": index}, "serve": {"ubi": True}})
    engine = FakeEngine(
        {"three words here": reasoned("three words here", "shoe"), "lost": by_words("lost", "embedder_failed")}
    )
    with httpx.Client(base_url=opensearch_url, timeout=120) as straight:
        body = build_index_body(settings.catalog, settings.index, 8, {})
        straight.put(f"/{index}", json=body).raise_for_status()
        rows = []
        for number in range(NUM_DOCUMENTS):
            is_bag = number % 3 != 0
            row = {
                "id": f"p{number:02d}",
                "title": "red leather bag" if is_bag else "blue shoe",
                "brand": ("Sony", "Bose", "AC|DC")[number % 3],
                "price": number * 1.5,
                "lrem_vector": vector_of(f"item {number}"),
            }
            rows += [json.dumps({"index": {"_id": row["id"]}}), json.dumps(row)]
        answer = straight.post(f"/{index}/_bulk?refresh=true", content="\n".join(rows) + "\n", headers=NDJSON)
        assert not answer.raise_for_status().json()["errors"]
        with (
            served(settings, engine, opensearch_url) as url,
            httpx.Client(base_url=url, timeout=120) as through,
        ):
            yield Pair(straight, through, index, engine, url)
        straight.delete(f"/{index},ubi_queries,ubi_events?ignore_unavailable=true")


NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
MATCH = {"match": {"title": TEXT}}
VECTOR = {"knn": {"lrem_vector": {"vector": list(vector_of("item 3")), "k": 5}}}
PIPELINE = {"phase_results_processors": [{"normalization-processor": {}}]}

QUERIES: list[Any] = [
    {"match_all": {}},
    MATCH,
    VECTOR,
    {"multi_match": {"query": TEXT, "fields": ["title^2", "brand"]}},
    {
        "bool": {
            "must": [MATCH],
            "filter": [{"term": {"brand.keyword": "Bose"}}, {"range": {"price": {"gte": 3, "lt": 40.5}}}],
        }
    },
    {
        "bool": {
            "should": [MATCH, {"bool": {"must_not": [{"term": {"brand.keyword": "Sony"}}]}}],
            "minimum_should_match": 1,
        }
    },
    {
        "function_score": {
            "query": MATCH,
            "functions": [{"field_value_factor": {"field": "price"}}],
            "boost_mode": "sum",
        }
    },
    {"constant_score": {"filter": {"exists": {"field": "price"}}, "boost": 1.50}},
    {"dis_max": {"queries": [MATCH, {"match": {"brand": "sony"}}], "tie_breaker": 0.3}},
    {"ids": {"values": ["p01", "p02"]}},
    {"wildcard": {"brand.keyword": "S*"}},
    {"query_string": {"query": "title:(red AND bag) OR brand:bose"}},
    {"match_phrase_prefix": {"title": "red lea"}},
    {"match": {"title": "neural"}},
    {"match_none": {}},
]
EXTRAS: list[dict[str, Any]] = [
    {},
    {"size": 3, "from": 2},
    {"sort": [{"price": "desc"}, {"id": "asc"}], "size": 4},
    {"_source": {"includes": ["title", "pri*"], "excludes": ["brand"]}, "explain": True, "size": 2},
    {"highlight": {"fields": {"title": {}}, "pre_tags": ["<i>"], "post_tags": ["</i>"]}, "size": 2},
    {
        "aggs": {"brands": {"terms": {"field": "brand.keyword"}, "aggs": {"mean": {"avg": {"field": "price"}}}}},
        "size": 0,
    },
    {"post_filter": {"term": {"brand.keyword": "Bose"}}, "track_total_hits": 5, "version": True},
    {"collapse": {"field": "brand.keyword"}, "track_scores": True, "sort": [{"price": "asc"}]},
]
MORE: list[Any] = [
    {"query": {"hybrid": {"queries": [MATCH, VECTOR]}}, "search_pipeline": PIPELINE},
    {"query": {"hybrid": {"queries": [MATCH, VECTOR]}}},
    {
        "query": {"hybrid": {"queries": [MATCH, VECTOR], "pagination_depth": 20}},
        "search_pipeline": PIPELINE,
        "aggs": {"m": {"max": {"field": "price"}}},
    },
    {"query": MATCH, "rescore": {"window_size": 5, "query": {"rescore_query": {"match_all": {}}}}},
    {"query": MATCH, "suggest": {"s": {"text": "lether", "term": {"field": "title"}}}},
    {"query": MATCH, "search_after": [30, "p20"], "sort": [{"price": "asc"}, {"id": "asc"}]},
    {"query": MATCH, "docvalue_fields": ["price"], "stored_fields": "_none_"},
    {"query": MATCH, "min_score": 0.5, "timeout": "5s", "terminate_after": 10},
    {"query": MATCH, "fields": ["title"], "_source": False},
    {"query": MATCH, "indices_boost": [{"*": 1.5}]},
    {
        "aggs": {"h": {"histogram": {"field": "price", "interval": 10}}, "p": {"percentiles": {"field": "price"}}},
        "size": 0,
    },
    {"aggs": {"f": {"filters": {"filters": {"a": MATCH, "b": {"match_all": {}}}}}}, "size": 0},
    # what OpenSearch refuses
    {"query": {"unknown_query": {}}},
    {"query": {"match": {"title": TEXT, "brand": TEXT}}},
    {"query": {"knn": {"lrem_vector": {"vector": [1, 2], "k": 5}}}},
    {"query": {"knn": {"no_such_field": {"vector": [1], "k": 5}}}},
    {"query": {"range": {"price": {"gte": "no number"}}}},
    {"sort": [{"no_such_field": "asc"}]},
    {"sort": [{"title": "asc"}]},
    {"size": -1},
    {"size": 10_001},
    {"from": 9_999, "size": 10},
    {"no_such_key": 1},
    {"aggs": {"a": {"no_such_agg": {}}}},
    {"query": {"bool": {"must": {"neural": {"other_field": {"query_text": "x", "k": 5}}}}}},
    {"query": {"neural": {}}},
    {"query": {"neural": "x"}},
    {"query": {"neural": {"lrem_vector": {"k": 5}}}},
    {"query": MATCH, "ext": {"unknown": {}}},
    {"query": MATCH, "search_pipeline": "no-such-pipeline"},
    {"query": {"hybrid": {"queries": []}}},
    {"query": {"bool": {"must": [{"hybrid": {"queries": [MATCH]}}]}}},
    {"query": {"script_score": {"query": MATCH, "script": {"source": "bad("}}}},
]
RAW = [
    b"",
    b"{",
    b"[]",
    b"5",
    b"{}x",
    b'{"query":{"match_all":{}}',
    b'{"query":{"match_all":{}},"query":{"match_all":{}}}',
    b'{"query":{"neural":{"lrem_vector":{"query_text":"a"',
    b'{"query":{"neural":{"lrem_vector":{"query_text":"a","query_text":"b"}}}}',
    b'/* neural */ {"size": 1}',
    b'{"size":1,"query":{"match":{"title":"\\u0072ed"}}}',
    b'{"size":1e0}',
    b'{"query":{"match":{"title":"\xff"}}}',
    b'{"neural":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "\ufeff{}".encode(),
]
BODIES = [json.dumps(query | extra).encode() for query in ({"query": one} for one in QUERIES) for extra in EXTRAS]
BODIES += [json.dumps(body).encode() for body in MORE] + RAW
PARAMS = [
    *("size=2", "q=title:bag&df=title&size=3", "pretty=true&size=1", "filter_path=hits.hits._id", "typed_keys=true"),
    *("rest_total_hits_as_int=true", "no_such_parameter=1", "format=yaml&size=1", "search_type=dfs_query_then_fetch"),
    *(
        "size=no",
        "_source=title&sort=price:desc",
        "human&error_trace=false",
        "preference=_local",
        "search_pipeline=nope",
    ),
    *("source=%7B%22size%22%3A1%7D&source_content_type=application%2Fjson", "allow_partial_search_results=false"),
]
HEADERS = [{}, {"content-type": "text/plain"}, {"content-type": "application/yaml"}, {"accept": "application/yaml"}]


def same(answer: httpx.Response) -> tuple[int, str | None, Any]:
    """Return what must be the same by both ways: all but how long it took."""
    kind = answer.headers.get("content-type")
    if kind is None or "json" not in kind:
        lines = [line for line in answer.text.splitlines() if not line.startswith("took:")]
        return answer.status_code, kind, lines
    body = answer.json()
    for one in [body, *body.get("responses", ())]:
        one.pop("took", None)
    return answer.status_code, kind, body


def both(pair: Pair, method: str, path: str, **options: Any) -> tuple[Any, Any]:
    """Ask by both ways."""
    url = path.replace("INDEX", pair.index)
    return same(pair.straight.request(method, url, **options)), same(pair.through.request(method, url, **options))


def test_over_a_hundred_bodies_that_are_not_ours_get_the_same_answer(pair: Pair) -> None:
    assert len(BODIES) > 100
    wrong, statuses = [], set()
    for body in BODIES:
        straight, through = both(pair, "POST", "/INDEX/_search", content=body, headers=JSON)
        statuses.add(straight[0])
        if straight != through:
            wrong.append((body[:200], straight, through))
    assert wrong == []
    assert {200, 400} <= statuses


@pytest.mark.parametrize("params", PARAMS)
def test_parameters_are_opensearchs(pair: Pair, params: str) -> None:
    for method, content in (("GET", b""), ("POST", b'{"query":{"match":{"title":"bag"}}}')):
        straight, through = both(
            pair, method, f"/INDEX/_search?{params}", content=content, headers=JSON if content else {}
        )
        assert through == straight


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_content_types_are_opensearchs(pair: Pair, headers: dict[str, str]) -> None:
    for content in (b'{"size":1}', b"size: 1\n", b""):
        straight, through = both(pair, "POST", "/INDEX/_search", content=content, headers=headers)
        assert through == straight


GOOD = {"query": MATCH, "size": 1}
MSEARCHES: list[Any] = [
    [{}, GOOD, {}, {"query": {"unknown": {}}}, {"preference": "_local"}, {"size": 0}],
    [{"index": "INDEX"}, GOOD],
    [{"index": ["INDEX"], "search_type": "query_then_fetch"}, GOOD],
    [{}, {"query": {"neural": {"other": {"query_text": "x", "k": 3}}}}, {}, GOOD],
    [{}],
    [],
    [{"no_such_key": 1}, GOOD],
]
RAW_LINES = [
    *(b"", b"\n", b"{}\n", b"{}\n{}", b"\n{}\n{}\n", b"{}\n\n", b"\n\n", b"{}\n{\n", b"{}\n{}\n{}\n"),
    *(b"{}\n[]\n", b"{}\r\n{}\r\n", b'{}\n{"neural"\n{}\n{}\n', b"\n{}\n\n{}\n"),
]


def test_msearch_is_opensearchs(pair: Pair) -> None:
    bodies = [
        b"".join(json.dumps(row).replace("INDEX", pair.index).encode() + b"\n" for row in rows) for rows in MSEARCHES
    ]
    wrong = []
    for body in bodies + RAW_LINES:
        for headers in (NDJSON, JSON):
            straight, through = both(
                pair, "POST", "/INDEX/_msearch?max_concurrent_searches=1", content=body, headers=headers
            )
            if straight != through:
                wrong.append((body, straight, through))
    assert wrong == []


def knn(text: str, **more: Any) -> dict[str, Any]:
    return {"knn": {"lrem_vector": {"vector": list(vector_of(text)), "k": 8, **more}}}


def neural(text: str, **more: Any) -> dict[str, Any]:
    return {"neural": {"lrem_vector": {"query_text": text, "k": 8, **more}}}


FILTER = {"term": {"brand.keyword": "Bose"}}
OURS: list[Any] = [
    lambda clause: {"query": clause(TEXT)},
    lambda clause: {"query": clause(TEXT, filter=FILTER, boost=2.5, _name="near"), "size": 20},
    lambda clause: {"query": {"bool": {"must": [MATCH], "should": [clause("x"), clause("y")], "filter": [FILTER]}}},
    lambda clause: {
        "query": {"hybrid": {"queries": [MATCH, clause(TEXT, filter=FILTER)]}},
        "search_pipeline": PIPELINE,
    },
    lambda clause: {
        "query": {"hybrid": {"queries": [MATCH, clause(TEXT)]}},
        "search_pipeline": PIPELINE,
        "size": 0,
        "aggs": {"b": {"terms": {"field": "brand.keyword"}}},
    },
    lambda clause: {
        "query": {"function_score": {"query": clause(TEXT), "functions": [{"weight": 2}]}},
        "explain": False,
    },
    lambda clause: {"query": MATCH, "post_filter": clause(TEXT)},
    lambda clause: {"query": MATCH, "rescore": {"window_size": 9, "query": {"rescore_query": clause(TEXT)}}},
    lambda clause: {
        "query": clause(TEXT),
        "sort": [{"price": "desc"}],
        "highlight": {"fields": {"title": {"highlight_query": MATCH}}},
    },
    lambda clause: {"query": MATCH, "aggs": {"near": {"filter": clause(TEXT)}}, "size": 0},
    lambda clause: {"query": {"bool": {"filter": [clause(TEXT)]}}, "fields": ["title"], "_source": False},
    lambda clause: {"query": clause(TEXT, no_such_key=1)},
    lambda clause: {"query": {"bool": {"must": [clause(TEXT)], "no_such_key": 1}}},
    lambda clause: {"query": clause(TEXT, filter={"unknown": {}})},
]


@pytest.mark.parametrize("number", range(len(OURS)))
def test_a_neural_clause_is_answered_like_the_knn_clause_it_stands_for(pair: Pair, number: int) -> None:
    straight = pair.straight.post(f"/{pair.index}/_search", json=OURS[number](knn))
    through = pair.through.post(f"/{pair.index}/_search", json=OURS[number](neural))
    status, kind, body = same(through)
    ext = body.pop("ext", None)
    assert (status, kind, body) == same(straight)
    assert through.headers["x-lrem-route"] == "direct"
    assert (ext is not None) == (status == 200)
    if status != 200:
        return  # and in an _msearch OpenSearch would refuse the whole
    lines = json.dumps({}) + "\n" + json.dumps(OURS[number](neural)) + "\n"
    [one] = pair.through.post(f"/{pair.index}/_msearch", content=lines, headers=NDJSON).json()["responses"]
    assert one.pop("ext")["lrem"]["route"] == "direct"
    assert one["hits"] == straight.json()["hits"]


@pytest.mark.parametrize("limit", [{"k": 3}, {"min_score": 1.6}, {"max_distance": 5.0}, {}])
def test_every_limit_of_a_neural_clause_is_understood(pair: Pair, limit: dict[str, Any]) -> None:
    body = {"query": {"neural": {"lrem_vector": {"query_text": TEXT, **limit}}}, "size": 40}
    answer = pair.through.post(f"/{pair.index}/_search", json=body)
    assert answer.status_code == 200
    assert len(answer.json()["hits"]["hits"]) == {"k": 3}.get(next(iter(limit), ""), len(answer.json()["hits"]["hits"]))
    if not limit:
        assert len(answer.json()["hits"]["hits"]) == 10


def test_a_reasoned_hybrid_query_finds_what_its_keywords_name(pair: Pair) -> None:
    text = "three words here"
    body = {
        "query": {"hybrid": {"queries": [{"match": {"title": text}}, neural(text, filter=FILTER)]}},
        "search_pipeline": PIPELINE,
    }
    answer = pair.through.post(f"/{pair.index}/_search", json=body | {"size": 40}).json()
    assert answer["ext"]["lrem"]["keywords"] == ["shoe"]
    assert "blue shoe" in {hit["_source"]["title"] for hit in answer["hits"]["hits"]}
    without = pair.through.post(f"/{pair.index}/_search?lrem.keywords=false", json=body | {"size": 40}).json()
    assert "blue shoe" not in {hit["_source"]["title"] for hit in without["hits"]["hits"]}


def test_without_a_vector_the_words_are_found(pair: Pair) -> None:
    text_leg = {"match": {"title": "blue"}}
    hybrid = {"query": {"hybrid": {"queries": [text_leg, neural("lost")]}}, "search_pipeline": PIPELINE}
    for body in (hybrid, {"query": neural("lost", filter=FILTER)}, {"query": {"bool": {"must": [neural("lost")]}}}):
        answer = pair.through.post(f"/{pair.index}/_search", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-lrem-degraded"] == "embedder_failed"
    found = pair.through.post(f"/{pair.index}/_search", json=hybrid | {"size": 40}).json()["hits"]
    assert {hit["_source"]["title"] for hit in found["hits"]} == {"blue shoe"}


def test_q_is_a_hybrid_search(pair: Pair) -> None:
    answer = pair.through.get(f"/{pair.index}/_search?q=red+leather+bag&size=4&from=1")
    assert answer.status_code == 200, answer.text
    hits = answer.json()["hits"]["hits"]
    assert len(hits) == 4
    assert "lrem_vector" not in hits[0]["_source"]
    whole = pair.through.get(f"/{pair.index}/_search?q=red+leather+bag&size=5").json()["hits"]["hits"]
    assert [hit["_score"] for hit in hits] == [hit["_score"] for hit in whole[1:]]
    for query in ("q=lost", "q=three+words+here", "q=", "q=lost&size=0"):
        assert pair.through.get(f"/{pair.index}/_search?{query}").status_code == 200


@pytest.mark.parametrize("compress", [False, True])
def test_opensearch_py_changes_its_host_and_nothing_else(pair: Pair, compress: bool) -> None:
    client = OpenSearch([pair.url], http_compress=compress, timeout=120)
    assert client.ping()
    assert client.info() == pair.straight.get("/").json()
    answer = client.search(index=pair.index, body={"query": neural(TEXT), "size": 3})
    assert len(answer["hits"]["hits"]) == 3
    assert answer["ext"]["lrem"]["route"] == "direct"
    rows = [{"index": pair.index}, {"query": neural(TEXT)}, {"index": pair.index}, {"query": MATCH, "size": 1}]
    first, second = client.msearch(body=rows)["responses"]
    assert (len(first["hits"]["hits"]), len(second["hits"]["hits"])) == (8, 1)
    with pytest.raises(RequestError, match="parsing_exception"):
        client.search(index=pair.index, body={"query": {"unknown": {}}})
    with pytest.raises(TransportError) as caught:
        client.search(index="secret", body={})
    assert caught.value.status_code == 403
    with pytest.raises(NotFoundError, match="path_not_served"):
        client.count(index=pair.index)
    client.close()


def test_behaviour_is_recorded(pair: Pair) -> None:
    body = {"query": neural(TEXT), "ext": {"ubi": {"query_id": "q1", "client_id": "me"}}}
    assert pair.through.post(f"/{pair.index}/_search", json=body).json()["ext"]["ubi"] == {"query_id": "q1"}
    event = {"action_name": "click", "query_id": "q1", "event_attributes": {"position": {"ordinal": 2}}}
    assert pair.through.post("/ubi/events", json=event).json() == {"accepted": 1, "dropped": 0}
    ends, rows = time.monotonic() + 120, []
    while time.monotonic() < ends and len(rows) < 2:
        time.sleep(0.2)
        pair.straight.post("/ubi_queries,ubi_events/_refresh?ignore_unavailable=true")
        query = {"query": {"term": {"query_id": "q1"}}}
        found = pair.straight.post("/ubi_queries,ubi_events/_search?ignore_unavailable=true", json=query)
        if found.status_code == 503:  # an index that was made a moment ago has no shard that answers yet
            continue
        rows = [hit["_source"] for hit in found.json()["hits"]["hits"]]
    by_kind = {"action_name" in row: row for row in rows}
    assert by_kind[False]["query_attributes"]["route"] == "direct"
    assert (by_kind[False]["user_query"], by_kind[False]["client_id"]) == (TEXT, "me")
    assert by_kind[True]["event_attributes"] == {"position": {"ordinal": 2}}
    search, click = by_kind[False], by_kind[True]
    assert search["lrem"]["hits"] >= len(search["query_response_hit_ids"]) > 0
    assert (search["lrem"]["zero_results"], search["lrem"]["route"]) == (0, "direct")
    assert search["query"].startswith(f"POST {pair.index}/_search\n")
    again = pair.through.post(f"/{pair.index}/_search", json=json.loads(search["query"].partition("\n")[2])).json()
    assert [hit["_id"] for hit in again["hits"]["hits"]] == search["query_response_hit_ids"]
    assert (click["lrem"]["route"], click["lrem"]["clicks"]) == ("direct", 1)


def test_the_command_serves_with_the_real_engine(opensearch_url: str, index_name: str, tmp_path: Path) -> None:
    rows = [
        {"id": f"p{number}", "title": f"{thing} number {number}"} for number, thing in enumerate(["bag", "mat"] * 5)
    ]
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "search": {"hosts": [opensearch_url]},
        "index": {"name": index_name},
        "model": {"name": "fake:16"},
        "reasoning": {"name": "fake:"},
        "serve": {"port": 0, "reason_deadline_ms": 60_000, "embed_deadline_ms": 60_000},
    }
    config = tmp_path / "lrem-os.yaml"
    config.write_text(json.dumps(values))  # JSON is YAML
    assert api.ingest_catalog(Settings.model_validate(values), [str(catalog)]).indexed == 10
    command = [sys.executable, "-m", "lrem_os", "serve", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stderr is not None
            url = process.stderr.readline().split()[2].rstrip(",")
            with httpx.Client(base_url=url, timeout=240) as client:
                text = "what do I put under a hot pot"
                found = client.get(f"/{index_name}/_search", params={"q": text, "lrem.route": "reasoned"}).json()
                assert len(found["hits"]["hits"]) == 10
                assert found["ext"]["lrem"]["route"] == "reasoned"
                assert found["ext"]["lrem"]["keywords"]
                asked = {"input": [text], "route": "direct"}
                answer = client.post("/v1/embeddings", json=asked).json()
                assert answer["data"][0]["embedding"] == pytest.approx(
                    FakeEmbedder(16).embed_queries([text])[0].tolist()
                )
                assert client.get("/ready").json()["status"] == "ok"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
