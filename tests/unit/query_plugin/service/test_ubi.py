from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from lrem_os.config_query import ServeSettings
from lrem_os.query_plugin.service import ubi as ubi_module
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.ubi import Ubi
from lrem_os.query_plugin.service.wire import Answer
from tests.fakes.clock import until
from tests.fakes.engine import FakeEngine, reasoned
from tests.fakes.service import Service, serving

JSON = {"content-type": "application/json"}


class Store:
    """The cluster: keeps what is written, fails as told."""

    def __init__(self) -> None:
        self.searches: dict[str, dict[str, Any]] = {}
        self.looked_up: list[list[str]] = []
        self.rows: list[tuple[str, str, dict[str, Any]]] = []
        self.made: list[str] = []
        self.failing: list[int | Problem] = []
        self.making: list[int] = []
        self.item_status = 201

    async def __call__(self, method: str, path: str, body: bytes) -> Answer:
        if method == "PUT":
            self.made.append(path)
            return Answer(self.making.pop(0) if self.making else 400, [], b'{"error":"resource_already_exists"}')
        if path.endswith("/_search"):
            asked = json.loads(body)["query"]["terms"]["query_id"]
            self.looked_up.append(asked)
            found = [{"query_id": one, "lrem": self.searches[one]} for one in asked if one in self.searches]
            return Answer(200, [], json.dumps({"hits": {"hits": [{"_source": row} for row in found]}}).encode())
        if self.failing:
            fault = self.failing.pop(0)
            if isinstance(fault, Problem):
                raise fault
            return Answer(fault, [], b"{}")
        lines = body.splitlines()
        for head, row in zip(lines[::2], lines[1::2], strict=True):
            what = json.loads(head)["create"]
            self.rows.append((what["_index"], what["_id"], json.loads(row)))
        items = [{"create": {"status": self.item_status}} for _ in lines[::2]]
        return Answer(200, [], json.dumps({"errors": False, "items": items}).encode())


def recording(check: Callable[[Ubi], Awaitable[None]], store: Store, **settings: Any) -> str:
    """Run a check with a writer, end it; return the metrics."""
    metrics = Metrics()

    async def run() -> None:
        ubi = Ubi(ServeSettings.model_validate(settings), store, metrics)
        ubi.start()
        await check(ubi)
        await ubi.aclose()

    asyncio.run(run())
    return metrics.page({}).decode()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ubi_module, "_LINGER_S", 0.0)
    monkeypatch.setattr(ubi_module, "_WAITS_S", (0.0, 0.0))


def count(page: str, index: str, outcome: str) -> float:
    wanted = f'lrem_ubi_records_total{{index="{index}",outcome="{outcome}"}} '
    return sum(float(line.removeprefix(wanted)) for line in page.splitlines() if line.startswith(wanted))


READING = reasoned("what goes under a pot", "trivet")


@pytest.mark.parametrize("status", [429, 503])
def test_nothing_is_written_into_an_index_that_could_not_be_made(status: int) -> None:
    store = Store()
    store.making = [status, 200]

    async def check(ubi: Ubi) -> None:
        ubi.query([READING], 1.0, {})
        await until(lambda: bool(store.rows))

    page = recording(check, store)
    assert store.made == ["/ubi_queries"] * 2
    assert count(page, "ubi_queries", "written") == 1


def test_a_query_is_written_with_how_it_was_read() -> None:
    store = Store()

    async def check(ubi: Ubi) -> None:
        assert ubi.query([READING], 12.5, {"query_id": "q1", "client_id": "c", "user_query": "Pot?"}) == "q1"

    page = recording(check, store)
    [(index, row_id, row)] = store.rows
    assert (index, row_id) == ("ubi_queries", "q1")
    assert (row["query_id"], row["client_id"], row["user_query"]) == ("q1", "c", "Pot?")
    assert row["query_response_id"] != "q1"
    assert row["timestamp"][10] == "T"
    attributes = row["query_attributes"]
    assert (attributes["route"], attributes["keywords"], attributes["took_ms"]) == ("reasoned", ["trivet"], 12.5)
    assert store.made == ["/ubi_queries"]
    assert count(page, "ubi_queries", "written") == 1


def test_a_hash_is_written_in_place_of_what_was_typed() -> None:
    store = Store()

    async def check(ubi: Ubi) -> None:
        ubi.query([READING], 1, {})
        ubi.events([{"action_name": "click", "user_query": READING.text}])

    recording(check, store, ubi_hash=True, ubi_hash_key="k")
    assert "pot" not in str(store.rows) + str(store.made[2:])
    assert "trivet" not in str(store.rows)
    by_index = {index: row for index, _, row in store.rows}
    assert by_index["ubi_queries"]["user_query"] == by_index["ubi_events"]["user_query"]
    other = Store()
    recording(check, other, ubi_hash=True, ubi_hash_key="another")
    assert other.rows[0][2]["user_query"] != store.rows[0][2]["user_query"]


def test_a_share_of_the_queries_is_written_and_all_events() -> None:
    store = Store()

    async def check(ubi: Ubi) -> None:
        for number in range(1000):
            assert ubi.query([READING], 1, {"query_id": f"q{number}"}) == f"q{number}"
        ubi.events([{"action_name": "click"}])

    recording(check, store, ubi_sample=0.2)
    assert 140 < sum(index == "ubi_queries" for index, _, _ in store.rows) < 260
    assert sum(index == "ubi_events" for index, _, _ in store.rows) == 1


def test_a_full_queue_drops_and_counts() -> None:
    store = Store()

    async def check(ubi: Ubi) -> None:
        taken = ubi.events([{"action_name": str(number)} for number in range(8)])
        assert taken == 5  # nothing was written meanwhile: this has not waited

    page = recording(check, store, ubi_queue=5)
    assert (count(page, "ubi_events", "written"), count(page, "ubi_events", "dropped")) == (5, 3)


@pytest.mark.parametrize("fault", [429, 503, Problem(503, "x", "down")])
def test_what_can_be_tried_again_is(fault: int | Problem) -> None:
    store = Store()
    store.failing = [fault, fault]

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "click"}])
        while not store.rows:
            await asyncio.sleep(0.001)

    assert count(recording(check, store), "ubi_events", "written") == 1


@pytest.mark.parametrize("faults", [[403], [429] * 3])
def test_what_cannot_be_written_is_given_up_and_the_next_is_written(faults: list[int]) -> None:
    store = Store()
    store.failing = list(faults)

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "lost"}])
        while store.failing:
            await asyncio.sleep(0.001)
        ubi.events([{"action_name": "kept"}])

    page = recording(check, store)
    assert [row["action_name"] for _, _, row in store.rows] == ["kept"]
    assert (count(page, "ubi_events", "failed"), count(page, "ubi_events", "written")) == (1, 1)


@pytest.mark.parametrize(("status", "outcome"), [(201, "written"), (403, "failed"), (409, "written")])
def test_the_answer_to_each_record_counts(status: int, outcome: str) -> None:
    store = Store()
    store.item_status = status

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "a"}, {"action_name": "b"}])

    assert count(recording(check, store), "ubi_events", outcome) == 2


def test_an_event_is_put_with_its_search_wherever_that_was_answered() -> None:
    store = Store()
    store.searches["elsewhere"] = {"route": "direct", "type": "gift", "took_ms": 3.0}

    async def check(ubi: Ubi) -> None:
        here = ubi.query([READING], 1.0, {})
        searches = (here, "elsewhere", "elsewhere", "unknown", None)
        ubi.events([{"action_name": "click", **({"query_id": one} if one else {})} for one in searches])

    recording(check, store, ubi_sample=1.0)
    told = [row["lrem"] for index, _, row in store.rows if index == "ubi_events"]
    assert [one.get("route") for one in told] == ["reasoned", "direct", "direct", None, None]
    assert [one.get("type") for one in told] == ["question", "gift", "gift", None, None]
    assert {one["clicks"] for one in told} == {1}
    assert store.looked_up == [["elsewhere", "unknown"]], "one request a batch, for what is not remembered"


@pytest.mark.parametrize("fault", [Problem(503, "x", "down"), b"<html>", b'{"hits":{"hits":[{}]}}'])
def test_an_event_is_written_though_its_search_cannot_be_looked_up(fault: Problem | bytes) -> None:
    store = Store()

    async def faulty(method: str, path: str, data: bytes) -> Answer:
        if not path.endswith("/_search"):
            return await store(method, path, data)
        if isinstance(fault, Problem):
            raise fault
        return Answer(200, [], fault)

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "click", "query_id": "elsewhere"}])

    page = recording(check, faulty)  # type: ignore[arg-type]
    assert count(page, "ubi_events", "written") == 1
    assert store.rows[0][2]["lrem"] == {"events": 1, "clicks": 1}


def test_a_record_that_is_no_text_is_given_up() -> None:
    async def check(ubi: Ubi) -> None:
        assert ubi.events([{"action_name": "\ud800"}, {"action_name": "a"}]) == 1

    page = recording(check, Store())
    assert (count(page, "ubi_events", "failed"), count(page, "ubi_events", "written")) == (1, 1)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"items":[{}]}', b"[]"])
def test_an_answer_that_is_none_of_opensearchs_ends_nothing(body: bytes) -> None:
    store = Store()

    async def odd(method: str, path: str, data: bytes) -> Answer:
        answer = await store(method, path, data)
        return Answer(200, [], body) if path == "/_bulk" and len(store.rows) == 1 else answer

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "lost"}])
        while not store.rows:
            await asyncio.sleep(0.001)
        ubi.events([{"action_name": "kept"}])

    page = recording(check, odd)  # type: ignore[arg-type]
    assert (count(page, "ubi_events", "failed"), count(page, "ubi_events", "written")) == (1, 1)


def test_a_service_that_ends_does_not_wait_for_ever() -> None:
    async def hangs(_method: str, _path: str, _body: bytes) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async def check(ubi: Ubi) -> None:
        ubi.events([{"action_name": "a"}])
        await asyncio.sleep(0.01)
        ubi.events([{"action_name": "b"}])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ubi_module, "_DRAIN_S", 0.05)
        page = recording(check, hangs)  # type: ignore[arg-type]
    assert count(page, "ubi_events", "dropped") + count(page, "ubi_events", "failed") == 2


def test_searches_are_recorded_and_their_answer_names_the_record() -> None:
    text = READING.text
    neural = {"neural": {"lrem_vector": {"query_text": text}}}

    async def check(service: Service) -> None:
        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/_bulk":
                items = json.dumps({"items": [{"create": {"status": 201}}]}).encode()
                return httpx.Response(200, stream=httpx.ByteStream(items))
            return await service.cluster.hits(request)

        service.cluster.answer = answer
        body = {"query": neural, "ext": {"ubi": {"query_id": "q7", "client_id": "me", "object_id_field": "sku"}}}
        told = (await service.ask("POST", "/products/_search", json=body)).json()
        assert told["ext"]["ubi"] == {"query_id": "q7"}
        assert told["ext"]["lrem"]["query_id"] == "q7"
        assert "ext" not in json.loads(service.cluster.requests[0].content)
        told = (await service.ask("POST", "/products/_search", json={"query": neural})).json()
        assert len(told["ext"]["lrem"]["query_id"]) == 36
        assert "ubi" not in told["ext"]
        plain = {"query": {"match_all": {}}, "ext": {"ubi": {"query_id": "q8"}}}
        await service.ask("POST", "/products/_search", json=plain)
        assert json.loads(service.cluster.requests[-1].content) == plain
        taken = await service.ask(
            "POST", "/ubi/events", json=[{"action_name": "click", "query_id": "q7", "mine": {"a": 1}}]
        )
        assert (taken.status_code, taken.json()) == (202, {"accepted": 1, "dropped": 0})
        for wrong in ({}, {"action_name": ""}, [{"action_name": 1}], "click", []):
            answer_to_wrong = await service.ask("POST", "/ubi/events", json=wrong)
            assert answer_to_wrong.status_code == (202 if wrong == [] else 400)

    serving(check, engine=FakeEngine({text: READING}), serve={"ubi": True})
