"""Requests that found a fault once, or that could widen what may be searched."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lrem_os.query_plugin.service.asked import check_index
from lrem_os.query_plugin.service.problems import Problem
from tests.fakes.engine import FakeEngine, vector_of
from tests.fakes.service import Service, serving

JSON = {"content-type": "application/json"}
PATH = "/products/_search"
NEURAL = {"neural": {"lrem_vector": {"query_text": "hot pot"}}}


def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[httpx.Response, Service]:
    """Send one request; return the answer, and the service with what it sent on."""
    found: list[httpx.Response] = []

    async def check(service: Service) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        found.append(await service.ask(method, path, content=body, headers=JSON | told if body else told))

    service = serving(check, serve={"ubi": True})
    return found[0], service


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, b'{"ext":{"lrem":{"route":"\\ud800"}}}'),
        (PATH, b'{"ext":{"lrem":{"\\ud800":1}}}'),
        (PATH, b'{"query":{"neural":{"lrem_vector":{"query_text":"\\ud800"}}}}'),
        (PATH, b'{"query":{"bool":{"must":[%b],"filter":["\\udc00"]}}}' % json.dumps(NEURAL).encode()),
        ("/v1/embeddings", b'{"input":"\\ud800"}'),
        ("/v1/route", b'{"text":"a","\\ud800":1}'),
        ("/ubi/events", b'{"action_name":"\\ud800"}'),
    ],
)
def test_half_a_surrogate_pair_is_refused_and_can_be_told(path: str, body: bytes) -> None:
    answer, service = ask("POST", path, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]
    assert service.engine.asked == [] or "filter" in body.decode()


def test_an_index_that_is_no_text_is_refused_and_can_be_told() -> None:
    assert ask("POST", "/_msearch", b'{"index":"\\ud800"}\n{}\n')[0].status_code == 403


@pytest.mark.parametrize(
    "header",
    ['{"index":[]}', '{"index":"products","indices":[]}', '{"indices":[],"index":["products"]}', '{"index":[""]}'],
)
def test_an_empty_list_of_indices_means_all_and_is_refused(header: str) -> None:
    answer, service = ask("POST", "/products/_msearch", f"{header}\n{{}}\n".encode())
    assert answer.status_code in (400, 403)
    assert service.cluster.requests == []


@pytest.mark.parametrize(
    "kind", ["application/smile;json", "application/cbor; a=json", "text/json", "xjson", "application/jsonx"]
)
@pytest.mark.parametrize("body", [b"\x00", b'{"index":"secret"}\xff{}\xff', b":)\n\xfa", b'{"index":"products"}\n{}\n'])
def test_what_is_json_by_name_alone_is_not_read_as_json(kind: str, body: bytes) -> None:
    answer, service = ask("POST", "/_msearch", body, content_type=kind)
    assert (answer.status_code, service.cluster.requests) == (400, [])


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/x-ndjson", "application/*"]
)
def test_json_is_known_by_every_name_that_opensearch_knows(kind: str) -> None:
    answer, service = ask("POST", PATH, json.dumps({"query": NEURAL}).encode(), content_type=kind)
    assert answer.json()["ext"]["lrem"]["route"] == "direct"
    assert "knn" in service.cluster.requests[0].content.decode()


SECRET = quote('{"index":"secret"}\n{}\n')


@pytest.mark.parametrize(
    "query",
    [
        f"pretty;source={SECRET};source_content_type=application/json",
        f"source={SECRET};source_content_type=application/json",
        f"source={SECRET}&source_content_type=application/smile;json",
        f"source={SECRET}",
    ],
)
def test_a_semicolon_separates_parameters_as_it_does_for_opensearch(query: str) -> None:
    answer, service = ask("GET", f"/_msearch?{query}")
    assert answer.status_code in (400, 403)
    assert service.cluster.requests == []


def test_what_stands_behind_a_semicolon_is_seen() -> None:
    assert "scroll" in ask("GET", f"{PATH}?size=1;scroll=1m")[0].text
    answer, service = ask("POST", f"{PATH}?size=1;lrem.route=reasoned", json.dumps({"query": NEURAL}).encode())
    assert answer.status_code == 200
    assert service.engine.asked[0][1] == "reasoned"
    assert service.cluster.requests[0].url.query == b"size=1"
    _, service = ask("GET", f"{PATH}?size=1;from=2")
    assert service.cluster.requests[0].url.query == b"size=1;from=2"


def test_another_cluster_is_allowed_only_by_its_name() -> None:
    check_index("other:products", ("other:*",))
    check_index("other:products", ("*",))
    for allowed in ("oth*", "o*s", "products", "*s"):
        with pytest.raises(Problem):
            check_index("other:products", (allowed,))


def test_a_deep_body_without_a_clause_of_ours_is_opensearchs_to_judge() -> None:
    body = b'{"query":' + b'{"bool":{"must":' * 90 + b'{"match":{"title":"neural \\u00e9"}}' + b"}}" * 90 + b"}"
    answer, service = ask("POST", PATH, body)
    assert answer.status_code == 200
    assert service.cluster.requests[0].content == body


def test_nan_as_a_text_is_opensearchs_to_refuse() -> None:
    body = b'{"query":{"neural":{"lrem_vector":{"query_text":NaN}}}}'
    _, service = ask("POST", PATH, body)
    assert (service.engine.asked, service.cluster.requests[0].content) == ([], body)


@pytest.mark.parametrize("path", [PATH, "/products/_msearch"])
def test_what_says_gzip_and_is_none_is_refused(path: str) -> None:
    answer, service = ask("POST", path, b'{"size": 1, "from": 2}\n', content_encoding="gzip")
    assert answer.status_code == 400
    assert "not gzip" in answer.text
    assert service.cluster.requests == []
    _, service = ask("POST", PATH, gzip.compress(json.dumps({"query": NEURAL}).encode()), content_encoding="gzip")
    assert "content-encoding" not in service.cluster.requests[0].headers


def test_a_body_in_the_url_is_sent_as_json_whatever_else_its_type_says() -> None:
    source = quote(json.dumps({"query": NEURAL}))
    answer, service = ask("GET", f"{PATH}?source={source}&source_content_type=application/json;%0d%0aX-A:%20b")
    assert answer.status_code == 200
    assert service.cluster.requests[0].headers["content-type"] == "application/json"
    assert "x-a" not in service.cluster.requests[0].headers


def test_q_beside_a_body_is_opensearchs_own() -> None:
    query = "q=title:pot&source=%7B%22size%22%3A1%7D&source_content_type=application/json"
    _, service = ask("GET", f"{PATH}?{query}")
    assert service.engine.asked == []
    assert service.cluster.requests[0].url.query == query.encode()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", PATH, "GET, POST"),
        ("OPTIONS", "/_msearch", "GET, POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("HEAD", "/live", "GET"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_served_is_answered_with_those_that_are(method: str, path: str, allowed: str) -> None:
    answer, service = ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert service.cluster.requests == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_clients_ask_when_they_start_is_answered_by_opensearch(method: str) -> None:
    answer, service = ask(method, "/?pretty", authorization="Basic eA==", x_lrem_route="direct")
    assert answer.status_code == 200
    [request] = service.cluster.requests
    assert (request.method, request.url.raw_path) == (method, b"/?pretty")
    assert request.headers["authorization"] == "Basic eA=="
    assert "x-lrem-route" not in request.headers
    assert service.engine.asked == []


def test_the_tasks_of_the_event_loop_are_counted() -> None:
    page = ask("GET", "/metrics")[0].text
    [line] = [line for line in page.splitlines() if line.startswith("lrem_tasks ")]
    assert 1 <= float(line.split()[1]) < 30


def test_bodies_of_any_kind_leave_no_task_behind() -> None:
    import asyncio

    bodies: list[Any] = [{"query": NEURAL}, {"query": {}}, {"ext": {"lrem": {"route": "x"}}}]
    left: list[int] = []

    async def check(service: Service) -> None:
        for number in range(60):
            await service.ask("POST", PATH, content=json.dumps(bodies[number % 3]).encode(), headers=JSON)
            left.append(len(asyncio.all_tasks()))

    service = serving(check, engine=FakeEngine())
    assert left[-1] <= left[2]
    assert service.engine.asked[0][0] == "hot pot"
    assert json.loads(service.cluster.requests[0].content)["query"]["knn"]["lrem_vector"]["vector"] == list(
        vector_of("hot pot")
    )
