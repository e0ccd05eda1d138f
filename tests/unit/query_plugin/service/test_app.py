from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from lrem_os.errors import ModelError, Overloaded
from lrem_os.query_plugin.service.edge import Edge
from lrem_os.query_plugin.service.wire import Unreachable
from tests.fakes.engine import FakeEngine, by_words, reasoned, vector_of
from tests.fakes.service import Service, serving

JSON = {"content-type": "application/json"}
PATH = "/products/_search"
NEURAL = json.dumps({"query": {"neural": {"lrem_vector": {"query_text": "pot"}}}}).encode()


def ask(method: str, path: str, **options: Any) -> httpx.Response:
    """Send one request to a service of its own."""
    engine, serve = options.pop("engine", None), options.pop("serve", {})
    found: list[httpx.Response] = []

    async def check(service: Service) -> None:
        found.append(await service.ask(method, path, **options))

    serving(check, engine=engine, serve=serve)
    return found[0]


def embeddings(engine: FakeEngine | None = None, **body: Any) -> httpx.Response:
    return ask("POST", "/v1/embeddings", json=body, engine=engine)


def test_queries_are_embedded_as_searches_are() -> None:
    answer = embeddings(FakeEngine({"b": reasoned("b", "c")}), input=["a", "b", "a"], model="mine", user="u").json()
    assert [row["embedding"] for row in answer["data"]] == [list(vector_of(text)) for text in ("a", "b!", "a")]
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]
    assert (answer["object"], answer["model"], answer["usage"]["total_tokens"]) == ("list", "mine", 0)
    assert [one["route"] for one in answer["lrem"]] == ["direct", "reasoned", "direct"]


def test_passages_are_embedded_as_products_are_and_base64_is_float32() -> None:
    answer = embeddings(input="a", input_type="passage", encoding_format="base64", dimensions=8).json()
    raw = base64.b64decode(answer["data"][0]["embedding"])
    assert np.frombuffer(raw, "<f4").tolist() == list(vector_of("passage a"))
    assert answer["lrem"] == []


def test_a_route_is_asked_for() -> None:
    engine = FakeEngine()
    embeddings(engine, input="a", route="direct")
    assert engine.asked == [("a", "direct", None)]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": [[1, 2]]}, 400, "input"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "dimensions": 9}, 400, "have [8]"),
        ({"input": "x" * 2001}, 400, "[2001] characters"),
        ({"input": "blank"}, 400, "blank"),
        ({"input": "busy"}, 429, "too many"),
        ({"input": "lost"}, 503, "embedder_failed"),
    ],
)
def test_what_cannot_be_embedded_is_an_error_as_openai_has_them(body: dict[str, Any], status: int, told: str) -> None:
    readings = {
        "blank": by_words("blank"),
        "busy": by_words("busy", "overloaded"),
        "lost": by_words("lost", "embedder_failed"),
    }
    answer = embeddings(FakeEngine(readings), **body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert told in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error["type"] == {400: "invalid_request_error", 429: "rate_limit_error", 503: "server_error"}[status]


@pytest.mark.parametrize(("error", "status"), [(Overloaded("inside"), 429), (ModelError("inside"), 503)])
def test_passages_that_fail_say_nothing_of_the_inside(error: Exception, status: int) -> None:
    engine = FakeEngine()
    engine.passage_error = error
    answer = embeddings(engine, input="a", input_type="passage")
    assert answer.status_code == status
    assert "inside" not in answer.text
    assert answer.headers["retry-after"] == "1"


def test_a_route_is_explained() -> None:
    engine = FakeEngine({"b": reasoned("b", "c", "d")})
    answer = ask("POST", "/v1/route", json={"text": "b", "route": "reasoned"}, engine=engine).json()
    assert engine.asked == [("b", "reasoned", None)]
    assert (answer["route"], answer["keywords"], answer["reasonings"]) == ("reasoned", ["c", "d"], ["c, d"])
    assert answer["decision"]["features"] == {"words": 3.0}
    assert "vector" not in answer
    assert ask("POST", "/v1/route", json={"text": "a"}).json()["decision"] is None
    assert ask("POST", "/v1/route", json={"text": "a", "x": 1}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_cluster/health", 404),
        ("POST", "/products/_doc", 404),
        ("POST", "/_search/scroll", 404),
        ("POST", "/products/_search/point_in_time", 404),
        ("GET", "/_cat/indices", 404),
        ("DELETE", PATH, 405),
        ("GET", "/v1/embeddings", 405),
        ("POST", "/ubi/events", 400),
    ],
)
def test_other_paths_are_not_served_and_the_answer_says_what_is(method: str, path: str, status: int) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    if status == 404:
        assert answer.json()["status"] == 404
        assert "/{index}/_search" in answer.json()["error"]["reason"]


def test_a_slash_at_the_end_is_overlooked() -> None:
    assert ask("POST", PATH + "/", content=b"{}").status_code == 200


def test_the_service_is_alive_until_only_a_restart_helps() -> None:
    assert ask("GET", "/live").json() == {"status": "ok", "opensearch": None, "embedder": "ok", "reasoner": "ok"}
    engine = FakeEngine()
    engine.break_embedder()
    answer = ask("GET", "/live", engine=engine)
    assert (answer.status_code, answer.json()["status"]) == (503, "broken")


def test_the_service_is_ready_while_opensearch_answers() -> None:
    async def check(service: Service) -> None:
        assert (await service.ask("GET", "/ready")).json()["opensearch"] == "reachable"
        service.cluster.answers(401, b"{}")
        assert (await service.ask("GET", "/ready")).status_code == 200
        service.cluster.fails(Unreachable("refused"))
        answer = await service.ask("GET", "/ready")
        assert (answer.status_code, answer.json()["opensearch"]) == (503, "unreachable")

    serving(check)


KEYS = {"api_keys": "one, two"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH, {}, 401),
        (PATH, {"x-lrem-api-key": "one"}, 200),
        (PATH, {"x-lrem-api-key": "two", "authorization": "Basic abc"}, 200),
        (PATH, {"x-lrem-api-key": "three"}, 401),
        (PATH, {"authorization": "Bearer one"}, 401),  # that one is for OpenSearch
        ("/v1/route", {"authorization": "Bearer one"}, 200),
        ("/v1/route", {"x-lrem-api-key": "two"}, 200),
        ("/v1/route", {}, 401),
        ("/v1/route", {"authorization": "Bearer "}, 401),
        ("/metrics", {}, 401),
        ("/metrics", {"authorization": "Bearer two"}, 200),
        ("/live", {}, 200),
        ("/ready", {}, 200),
    ],
)
def test_keys_are_asked_for_where_there_are_any(path: str, headers: dict[str, str], status: int) -> None:
    async def check(service: Service) -> None:
        method, body = ("GET", b"") if path in ("/metrics", "/live", "/ready") else ("POST", b'{"text":"a"}')
        answer = await service.ask(method, path, content=body, headers=JSON | headers)
        assert answer.status_code == status
        assert not [request for request in service.cluster.requests if "x-lrem-api-key" in request.headers]

    serving(check, serve=KEYS)


def test_a_body_that_is_too_long_is_refused_announced_or_not() -> None:
    async def parts() -> Any:
        for _ in range(3):
            yield b" " * 1000

    for body in (b" " * 2001, parts()):
        answer = ask("POST", PATH, content=body, serve={"max_body_bytes": 2000})
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "content_too_long_exception"
    assert ask("POST", PATH, content=b" " * 2000, serve={"max_body_bytes": 2000}).status_code == 200


def test_too_many_requests_at_once_are_refused_and_health_is_not() -> None:
    async def check(service: Service) -> None:
        service.engine.hold = asyncio.Event()
        first = asyncio.ensure_future(service.ask("POST", PATH, content=NEURAL, headers=JSON))
        while not service.engine.asked:
            await asyncio.sleep(0)
        second = await service.ask("POST", PATH, content=NEURAL, headers=JSON)
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert (await service.ask("GET", "/live")).status_code == 200
        assert b"lrem_requests_running 2.0" in (await service.ask("GET", "/metrics")).content
        service.engine.hold.set()
        assert (await first).status_code == 200
        assert (await service.ask("POST", PATH, content=NEURAL, headers=JSON)).status_code == 200

    serving(check, serve={"max_requests": 1})


def test_a_request_that_takes_too_long_ends() -> None:
    async def check(service: Service) -> None:
        service.engine.hold = asyncio.Event()
        answer = await service.ask("POST", PATH, content=NEURAL, headers=JSON)
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_exception")
        assert service.engine.num_cancelled == 1

    serving(check, serve={"timeout_s": 0.2})


def test_a_fault_of_ours_is_told_by_an_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    engine.read_error = RuntimeError("what is inside")
    answer = ask("POST", PATH, content=NEURAL, headers=JSON, engine=engine)
    assert answer.status_code == 500
    assert "inside." not in answer.text.replace("inside lrem-os", "")
    request_id = answer.json()["error"]["request_id"]
    assert f"request {request_id}" in caplog.text
    assert "what is inside" in caplog.text


class Wire:
    """One connection as a server has it: what the client sends, and what it gets."""

    def __init__(self, body: bytes, *, path: str = PATH) -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"x"), (b"content-type", b"application/json")],
            "client": None,
            "server": None,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def run(self, app: Edge) -> asyncio.Task[None]:
        return asyncio.ensure_future(_awaited(app, self))


async def _awaited(app: Edge, wire: Wire) -> None:
    await app(wire.scope, wire.incoming.get, wire.send)


def test_who_leaves_is_not_worked_for_any_more() -> None:
    async def check(service: Service) -> None:
        service.engine.hold = asyncio.Event()
        wire = Wire(NEURAL)
        task = wire.run(service.app)
        while not service.engine.asked:
            await asyncio.sleep(0)
        wire.incoming.put_nowait({"type": "http.disconnect"})
        await task
        assert service.engine.num_cancelled == 1
        assert wire.sent == []
        assert service.cluster.requests == []
        page = (await service.ask("GET", "/metrics")).text
        assert "lrem_clients_gone_total" in page
        assert "lrem_requests_running 1.0" in page  # the one that asks

    serving(check)


def test_an_answer_that_is_out_counts_although_the_connection_is_gone() -> None:
    async def check(service: Service) -> None:
        wire = Wire(NEURAL)

        async def send(message: Any) -> None:
            wire.sent.append(message)
            if message["type"] == "http.response.body":
                wire.incoming.put_nowait({"type": "http.disconnect"})
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        wire.send = send  # type: ignore[method-assign]
        await wire.run(service.app)
        assert wire.sent[0]["status"] == 200
        assert "lrem_clients_gone_total{" not in (await service.ask("GET", "/metrics")).text

    serving(check)


def test_openapi_says_what_there_is() -> None:
    async def check(service: Service) -> None:
        schema = (await service.ask("GET", "/openapi.json")).json()
        assert set(schema["paths"]) == {
            *("/live", "/ready", "/metrics", "/v1/embeddings", "/v1/route", "/ubi/events"),
            *("/", "/_msearch", "/{index}/_msearch", "/{index}/_search"),
        }
        statuses = {status for path in schema["paths"].values() for one in path.values() for status in one["responses"]}
        assert statuses == {"200", "202", "4XX", "5XX", "503"}  # no 422: what is wrong with a body is a 400 here
        assert (await service.ask("GET", "/docs")).status_code == 200

    serving(check)


def test_events_are_taken_only_where_behaviour_is_recorded() -> None:
    answer = ask("POST", "/ubi/events", json={"action_name": "click"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "ubi_disabled_exception")
