from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lrem_os.query_plugin.service.wire import CannotSend, TooSlow, Unreachable
from tests.fakes.engine import FakeEngine, by_words, reasoned, vector_of
from tests.fakes.service import HITS, Service, serving

TEXT = "what goes under a hot pot"
NEURAL = {"neural": {"lrem_vector": {"query_text": TEXT, "k": 50}}}
KNN = {"knn": {"lrem_vector": {"vector": list(vector_of(TEXT)), "k": 50}}}
JSON = {"content-type": "application/json"}
PATH = "/products/_search"


def _deep(clause: bytes) -> bytes:
    return b'{"query":' + b'{"bool":{"must":' * 60 + clause + b"}}" * 60 + b"}"


def post(path: str, body: Any, headers: dict[str, str] | None = None, **serve: Any) -> tuple[httpx.Response, Service]:
    """Send one search; return the answer, and the service with what it sent on."""
    found: list[httpx.Response] = []
    engine = serve.pop("engine", None)
    cluster = serve.pop("cluster", None)
    sections = serve.pop("sections", {})

    async def check(service: Service) -> None:
        if cluster is not None:
            cluster(service.cluster)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found.append(await service.ask("POST", path, content=content, headers=JSON | (headers or {})))

    service = serving(check, engine=engine, serve=serve, **sections)
    return found[0], service


def sent(service: Service, number: int = -1) -> Any:
    return json.loads(service.cluster.requests[number].content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{ "query" : {"match_all":{}} ,"size": 1.0e0 }\n',
        b'{"query":{"match":{"title":"neural networks"}}}',
        b'{"query":{"neural":{"other":{"query_text":"x"}}}}',
        b'{"query":{"neural":{"lrem_vector":{"k":5}}}}',
        b'{"ext":{"ubi":{}},"query":{"match_all":{}}}',
        b'{"query": {"neural": ',
        b'{"query":{"neural":{"lrem_vector":{"query_text":"a","query_text":"b"}}}}',
        b'{"a":"\\u006eeural"}',
        b"query: {match_all: {}}",
        b"\xff\xfe{}",
        b"[]",
        b"5",
    ],
)
def test_a_body_without_a_clause_of_ours_goes_through_byte_for_byte(body: bytes) -> None:
    query = "?size=3&pretty&filter_path=hits.hits._id&q2=a%2Bb+c&x="
    headers = {"accept": "application/json", "X-Opaque-Id": "7", "authorization": "Basic abc"}
    answer, service = post(PATH + query, body, headers)
    [request] = service.cluster.requests
    assert (request.method, request.content) == ("POST", body)
    assert str(request.url) == f"http://cluster:9200{PATH}{query}"
    expected = {"accept": "application/json", "x-opaque-id": "7", "authorization": "Basic abc", "host": "cluster:9200"}
    assert dict(request.headers) == JSON | expected | {"content-length": str(len(body))}
    assert (answer.status_code, answer.content) == (200, HITS)
    assert not [name for name in answer.headers if name.startswith("x-lrem")]
    assert service.engine.asked == []


def test_a_clause_of_ours_is_answered_and_the_rest_keeps_its_meaning() -> None:
    body = b'{"size":1.0,"query":{"bool":{"must":[%b],"filter":[{"range":{"price":{"lt":1e400}}}]}}}'
    answer, service = post(PATH, body % json.dumps(NEURAL).encode())
    expected = b'{"size":1.0,"query":{"bool":{"must":[%b],"filter":[{"range":{"price":{"lt":1e400}}}]}}}'
    knn = json.dumps(KNN, separators=(",", ":")).encode()
    assert service.cluster.requests[0].content == expected % knn
    told = answer.json()
    ext = told.pop("ext")["lrem"]
    assert answer.content.startswith(HITS[:-1])
    assert told == json.loads(HITS)
    assert (ext["route"], ext["degraded"], ext["keywords"], ext["cached"]) == ("direct", [], [], False)
    assert ext["timings_ms"] == {"embed": 1.5}
    assert answer.headers["x-lrem-route"] == "direct"
    assert "x-lrem-degraded" not in answer.headers
    assert float(answer.headers["x-lrem-took-ms"]) == ext["took_ms"] > 0


def test_a_reasoned_hybrid_query_has_its_keywords_in_the_text_leg() -> None:
    body = {"query": {"hybrid": {"queries": [{"match": {"title": TEXT}}, NEURAL]}}}
    engine = FakeEngine({TEXT: reasoned(TEXT, "trivet", "mat")})
    answer, service = post(PATH, body, engine=engine)
    text_leg, vector_leg = sent(service)["query"]["hybrid"]["queries"]
    assert text_leg["bool"]["should"][1]["multi_match"]["query"] == "trivet, mat"
    assert vector_leg["knn"]["lrem_vector"]["vector"] == list(vector_of(TEXT + "!"))
    ext = answer.json()["ext"]["lrem"]
    assert (ext["route"], ext["keywords"]) == ("reasoned", ["trivet", "mat"])
    assert ext["decision"] == {"reasoned": True, "why": "above_threshold", "score": 0.9, "threshold": 0.5}


@pytest.mark.parametrize("how", ["body", "url", "header", "config"])
def test_keywords_can_be_kept_out(how: str) -> None:
    body: dict[str, Any] = {"query": {"hybrid": {"queries": [{"match": {"title": TEXT}}, NEURAL]}}}
    if how == "body":
        body["ext"] = {"lrem": {"keywords": False}}
    path = PATH + "?lrem.keywords=false" if how == "url" else PATH
    headers = {"x-lrem-keywords": "false"} if how == "header" else {}
    serve = {"keywords": False} if how == "config" else {}
    _, service = post(path, body, headers, engine=FakeEngine({TEXT: reasoned(TEXT, "trivet")}), **serve)
    assert sent(service)["query"]["hybrid"]["queries"][0] == {"match": {"title": TEXT}}
    assert "ext" not in sent(service)
    assert "lrem" not in str(service.cluster.requests[0].url) + str(service.cluster.requests[0].headers)


def test_the_body_wins_over_the_url_and_the_url_over_the_headers() -> None:
    def route(body: dict[str, Any], query: str) -> Any:
        headers = {"x-lrem-route": "reasoned", "x-lrem-deadline-ms": "250"}
        return post(PATH + query, body | {"query": NEURAL}, headers)[1].engine.asked

    assert route({}, "") == [(TEXT, "reasoned", 0.25)]
    assert route({}, "?lrem.route=direct") == [(TEXT, "direct", 0.25)]
    assert route({"ext": {"lrem": {"route": "auto", "deadline_ms": 40}}}, "?lrem.route=direct") == [
        (TEXT, "auto", 0.04)
    ]


def test_nothing_is_told_where_nothing_is_to_be_told() -> None:
    for path, serve in ((PATH + "?lrem.report=false", {}), (PATH, {"report": False}), (PATH + "?filter_path=took", {})):
        answer, _ = post(path, {"query": NEURAL}, **serve)
        assert answer.content == HITS
        assert answer.headers["x-lrem-route"] == "direct"


def test_an_ext_of_ours_without_a_clause_is_taken_out() -> None:
    answer, service = post(PATH, {"size": 1, "ext": {"lrem": {"route": "direct"}, "other": {"a": 1}}})
    assert sent(service) == {"size": 1, "ext": {"other": {"a": 1}}}
    assert answer.content == HITS


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (PATH + "?lrem.route=fast", {}, "[lrem.route] is [fast]"),
        (PATH + "?lrem.rout=direct", {}, "[lrem.rout]"),
        (PATH, {"ext": {"lrem": {"keywords": "maybe"}}}, "[ext.lrem.keywords]"),
        (PATH, {"ext": {"lrem": {"deadline_ms": -1}}}, "[ext.lrem.deadline_ms]"),
        (PATH, {"ext": {"lrem": []}}, "[ext.lrem] must be an object"),
        (PATH + "?scroll=1m", {"query": {"match_all": {}}}, "[scroll] is not served"),
        (PATH, {"query": NEURAL, "pit": {"id": "x"}}, "[pit] is not served"),
        (PATH, {"query": {"neural": {"lrem_vector": {"query_text": "x" * 2001}}}}, "[2001] characters"),
        (
            PATH,
            {"query": {"bool": {"should": [{"neural": {"lrem_vector": {"query_text": str(n)}}} for n in range(6)]}}},
            "[5]",
        ),
        (PATH, _deep(json.dumps(NEURAL).encode()), "deeper than [100]"),
        (PATH, b'{"ext":{"lrem":{}},"query":' + _deep(b'{"neural":1}') + b"}", "deeper than [100]"),
        (PATH, b'{"query":%b,"_source":"\\ud800"}' % json.dumps(NEURAL).encode(), "surrogate"),
        (PATH + "?q=a&size=ten", b"", "[size] is [ten]"),
        (PATH + "?q=a&from=9999&size=10000", b"", "ranked"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(path: str, body: Any, reason: str) -> None:
    answer, service = post(path, body, max_queries=5)
    assert answer.status_code == 400
    told = answer.json()
    assert told["status"] == 400
    assert reason in told["error"]["reason"]
    assert told["error"]["root_cause"] == [{"type": "illegal_argument_exception", "reason": told["error"]["reason"]}]
    assert told["error"]["request_id"] == answer.headers["x-request-id"]
    assert service.cluster.requests == []


@pytest.mark.parametrize(
    ("index", "status"),
    [
        ("products", 200),
        ("shop-1,products", 200),
        ("shop-*", 200),
        ("shop-*,-shop-old", 200),
        ("secret", 403),
        ("products,secret", 403),
        ("*", 403),
        ("_all", 403),
        ("prod*", 403),
        ("<products-{now}>", 403),
        ("products%2Csecret", 403),
        ("shop", 403),
        ("other:products", 403),
    ],
)
def test_only_allowed_indices_are_searched(index: str, status: int) -> None:
    serve = {"indices": ["products", "shop-*"]}
    answer, service = post(f"/{quote(index, safe='')}/_search", {"query": NEURAL}, **serve)
    assert answer.status_code == status
    line = json.dumps({"index": index.split(",")}) + "\n{}\n"
    assert post("/_msearch", line.encode(), **serve)[0].status_code == status
    assert len(service.cluster.requests) == (status == 200)
    anything, service = post(f"/{quote(index, safe='')}/_search", {}, indices=["*"])
    assert anything.status_code == 200
    assert service.cluster.requests[0].url.path == f"/{index}/_search"


@pytest.mark.parametrize(
    "header", ["{", '{"index":5}', '{"index":"products","index":"secret"}', "[]", '{"indices":"secret"}']
)
def test_a_header_line_that_cannot_be_checked_is_refused(header: str) -> None:
    answer, service = post("/products/_msearch", f"{header}\n{{}}\n".encode())
    assert answer.status_code in (400, 403)
    assert service.cluster.requests == []


def test_an_msearch_that_names_no_index_would_search_all() -> None:
    assert post("/_msearch", b"{}\n{}\n")[0].status_code == 403
    assert post("/products/_msearch", b"{}\n{}\n\n{}\n")[0].status_code == 200


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


RESPONSES = (
    b'{"took":9, "responses":[ {"took":1.0,"hits":{}},{"error":{"type":"x"},"status":400}, {"took":2,"hits":{}}]}'
)


def test_an_msearch_rewrites_its_lines_and_leaves_the_others() -> None:
    plain = b'{ "size" : 1.0 }'
    body = lines({}, plain, {"index": "products"}, {"query": {"neural": {"lrem_vector": {"query_text": "b"}}}})
    body += b"\n" + lines({"query": NEURAL, "ext": {"lrem": {"route": "direct"}}}) + lines({}, b'{"neural": oops')
    answer, service = post(
        "/products/_msearch?max_concurrent_searches=2", body, cluster=lambda it: it.answers(200, RESPONSES)
    )
    rows = service.cluster.requests[0].content.split(b"\n")
    assert rows[:3] == [b"{}", plain, b'{"index": "products"}']
    assert json.loads(rows[3])["query"]["knn"]["lrem_vector"]["vector"] == list(vector_of("b"))
    assert rows[4] == b""
    assert json.loads(rows[5]) == {"query": KNN}
    assert rows[6:] == [b"{}", b'{"neural": oops', b""]
    assert sorted(service.engine.asked) == [("b", "auto", None), (TEXT, "direct", None)]
    first, failed, third = answer.json()["responses"]
    assert (first, failed) == ({"took": 1.0, "hits": {}}, {"error": {"type": "x"}, "status": 400})
    assert third["ext"]["lrem"]["route"] == "direct"
    assert answer.content.startswith(b'{"took":9, "responses":[{"took":1.0,"hits":{}},{"error"')


@pytest.mark.parametrize(
    "body",
    [lines({}, {}), b"{}\n" + json.dumps({"query": NEURAL}).encode(), b"", b"\n", b"\n\n", b"{}", b"{}\n\n{}\n"],
)
def test_an_msearch_without_anything_of_ours_or_without_its_end_goes_through(body: bytes) -> None:
    answer, service = post("/products/_msearch", body, cluster=lambda it: it.answers(200, RESPONSES))
    assert service.cluster.requests[0].content == body
    assert answer.content == RESPONSES


def test_a_line_break_at_the_beginning_is_overlooked() -> None:
    body = b"\n" + lines({}, {"query": NEURAL})
    _, service = post("/products/_msearch", body)
    assert json.loads(service.cluster.requests[0].content.split(b"\n")[2]) == {"query": KNN}


def test_the_same_text_is_read_once_and_no_more_than_some_at_a_time() -> None:
    rows: list[Any] = []
    for number in range(100):
        rows += [{}, {"query": {"neural": {"lrem_vector": {"query_text": str(number % 50)}}}}]
    running, most = [0], [0]

    class Counting(FakeEngine):
        async def read(self, text: str, **options: Any) -> Any:
            running[0] += 1
            most[0] = max(most[0], running[0])
            await asyncio.sleep(0)
            running[0] -= 1
            return await super().read(text, **options)

    _, service = post("/products/_msearch", lines(*rows), engine=Counting())
    assert len(service.engine.asked) == 50
    assert 1 < most[0] <= 32


def test_degraded_readings_are_answered_and_told() -> None:
    body = {"query": {"hybrid": {"queries": [{"match": {"title": TEXT}}, NEURAL]}}}
    engine = FakeEngine({TEXT: by_words(TEXT, "embedder_failed")})
    answer, service = post(PATH, body, engine=engine)
    assert answer.status_code == 200
    assert sent(service)["query"]["hybrid"]["queries"][1] == {"match_none": {}}
    assert (answer.headers["x-lrem-route"], answer.headers["x-lrem-degraded"]) == ("bm25", "embedder_failed")
    assert answer.json()["ext"]["lrem"]["degraded"] == ["embedder_failed"]


def test_several_texts_of_one_search_are_all_told() -> None:
    body = {"query": {"dis_max": {"queries": [NEURAL, {"neural": {"lrem_vector": {"query_text": "b"}}}]}}}
    engine = FakeEngine({"b": reasoned("b", "c")})
    ext = post(PATH, body, engine=engine)[0].json()["ext"]["lrem"]
    assert ext["route"] == "direct"
    assert [(other["text"], other["route"]) for other in ext["others"]] == [("b", "reasoned")]


def test_an_error_of_opensearch_is_the_clients_as_it_is() -> None:
    error = b'{ "error":{"root_cause":[]},"status":429 }'
    answer, _ = post(
        PATH, {"query": NEURAL}, cluster=lambda it: it.answers(429, error, retry_after="7", warning="299 x")
    )
    assert (answer.status_code, answer.content) == (429, error)
    assert (answer.headers["retry-after"], answer.headers["warning"]) == ("7", "299 x")


def test_a_compressed_body_is_read_and_a_compressed_answer_is_passed_on() -> None:
    packed = gzip.compress(json.dumps({"query": NEURAL}).encode())
    headers = {"content-encoding": "gzip", "accept-encoding": "gzip"}
    answer, service = post(PATH, packed, headers)
    assert sent(service) == {"query": KNN}
    assert not {"content-encoding", "accept-encoding"} & set(service.cluster.requests[0].headers)
    assert "ext" in answer.json()
    zipped = gzip.compress(HITS)
    plain = gzip.compress(b'{"query":{"match_all":{}}}')
    answer, service = post(PATH, plain, headers, cluster=lambda it: it.answers(200, zipped, content_encoding="gzip"))
    assert service.cluster.requests[0].content == plain
    assert service.cluster.requests[0].headers["content-encoding"] == "gzip"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(zipped))


def test_a_body_that_grows_when_unpacked_is_refused() -> None:
    packed = gzip.compress(b'{"neural":"' + b" " * 1_000_000 + b'"}')
    answer, _ = post(PATH, packed, {"content-encoding": "gzip"}, max_body_bytes=10_000)
    assert answer.status_code == 413


def test_an_answer_that_is_no_json_is_left_alone() -> None:
    answer, _ = post(
        PATH, {"query": NEURAL}, cluster=lambda it: it.answers(200, b"---\ntook: 1\n", content_type="application/yaml")
    )
    assert answer.content == b"---\ntook: 1\n"
    assert answer.headers["x-lrem-route"] == "direct"


def test_a_body_in_the_url_is_read_too() -> None:
    async def check(service: Service) -> None:
        source = quote(json.dumps({"query": NEURAL}))
        await service.ask("GET", f"{PATH}?source={source}&source_content_type=application/json&size=1")
        await service.ask("GET", f"{PATH}?source=%7B%7D&source_content_type=application/json")

    rewritten, plain = serving(check).cluster.requests
    assert (rewritten.method, rewritten.url.query, json.loads(rewritten.content)) == ("POST", b"size=1", {"query": KNN})
    assert rewritten.headers["content-type"] == "application/json"
    assert (plain.method, plain.content) == ("GET", b"")
    assert plain.url.query == b"source=%7B%7D&source_content_type=application/json"


def test_q_is_the_configured_hybrid() -> None:
    async def check(service: Service) -> None:
        answer = await service.ask("GET", f"{PATH}?q=what+goes+under+a+hot+pot&size=3&from=2&preference=_local")
        assert answer.json()["ext"]["lrem"]["route"] == "reasoned"
        await service.ask("GET", f"{PATH}?q=broken")
        await service.ask("GET", f"{PATH}?q=")
        await service.ask("GET", f"{PATH}?q=title:pot&df=title")

    readings = {TEXT: reasoned(TEXT, "trivet"), "broken": by_words("broken", "embedder_failed"), "": by_words("")}
    service = serving(check, engine=FakeEngine(readings), reasoning={"weights": [0.25, 0.75]})
    body = sent(service, 0)
    assert (body["from"], body["size"]) == (2, 3)
    text_leg, vector_leg = body["query"]["hybrid"]["queries"]
    assert text_leg["bool"]["should"][1]["multi_match"]["query"] == "trivet"
    assert vector_leg["knn"]["lrem_vector"]["vector"] == list(vector_of(TEXT + "!"))
    assert "[0.25, 0.75]" in str(body["search_pipeline"])
    assert service.cluster.requests[0].url.query == b"preference=_local"
    assert "multi_match" in sent(service, 1)["query"]
    assert sent(service, 2)["query"] == {"match_all": {}}
    assert service.cluster.requests[3].url.query == b"q=title:pot&df=title"


def test_credentials_are_the_callers_and_ours_only_where_that_is_said() -> None:
    async def check(service: Service) -> None:
        await service.ask("POST", PATH, content=b"{}", headers=JSON)
        await service.ask("POST", PATH, content=b"{}", headers=JSON | {"authorization": "Bearer theirs"})

    search = {"user": "admin", "password": "secret"}
    hosts = ("http://other:pass@cluster:9200/base/",)
    closed = serving(check, search=search, hosts=hosts)
    shown = [request.headers.get("authorization") for request in closed.cluster.requests]
    assert shown == [None, "Bearer theirs"]
    assert str(closed.cluster.requests[0].url) == "http://cluster:9200/base/products/_search"
    opened = serving(check, search=search, serve={"own_credentials": True}, hosts=hosts)
    shown = [request.headers.get("authorization") for request in opened.cluster.requests]
    assert shown == ["Basic YWRtaW46c2VjcmV0", "Bearer theirs"]


def test_headers_of_one_hop_stay_there() -> None:
    headers = {"connection": "x-private, keep-alive", "x-private": "1", "te": "trailers", "cookie": "a=b"}
    _, service = post(PATH, {"query": NEURAL}, headers)
    assert set(service.cluster.requests[0].headers) == {"host", "content-length", "content-type", "cookie"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unreachable("refused"), 503),
        (TooSlow("slow"), 504),
        (CannotSend("a blank in the URL"), 400),
    ],
)
def test_a_cluster_that_does_not_answer_is_no_fault_of_ours(error: Exception, status: int) -> None:
    for path, body in ((PATH, {"query": NEURAL}), (PATH, {}), ("/products/_msearch", lines({}, {}))):
        answer, _ = post(path, body, cluster=lambda it: it.fails(error))
        assert answer.status_code == status
        assert answer.json()["status"] == status
        assert str(error) not in answer.text


def test_a_connection_that_was_closed_meanwhile_is_replaced_and_a_dead_host_passed_over() -> None:
    async def check(service: Service) -> None:
        service.cluster.fails(Unreachable("closed"), times=1)
        assert (await service.ask("POST", PATH, content=b"{}", headers=JSON)).status_code == 200

    serving(check)
    service = serving(check, hosts=("http://one:1", "http://two:2"))
    assert [request.url.host for request in service.cluster.requests] == ["one", "two"]


def test_readings_are_counted() -> None:
    async def check(service: Service) -> None:
        await service.ask("POST", PATH, content=json.dumps({"query": NEURAL}).encode(), headers=JSON)
        page = (await service.ask("GET", "/metrics")).text
        assert 'lrem_queries_total{route="bm25"} 1.0' in page
        assert 'lrem_degraded_total{reason="overloaded"} 1.0' in page
        assert 'lrem_requests_total{endpoint="/{index}/_search",status="200"} 1.0' in page
        assert "lrem_opensearch_seconds_count 1.0" in page

    serving(check, engine=FakeEngine({TEXT: by_words(TEXT, "overloaded")}))
