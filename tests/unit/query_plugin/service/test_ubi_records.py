from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.dashboards.objects import fields_of
from lrem_os.query_plugin.routing.features import phrasing
from lrem_os.query_plugin.service import ubi_records
from lrem_os.query_plugin.service.ubi_records import (
    EVENTS,
    MAPPINGS,
    QUERIES,
    Found,
    event_record,
    found_in,
    query_record,
    request_text,
)
from tests.fakes.engine import by_words, direct, reasoned
from tests.fakes.traffic import day

READING = reasoned("what goes under a pot", "trivet")


def record(reading: Any = READING, said: Any = None, **more: Any) -> dict[str, Any]:
    given = {"query_id": "q", "response_id": "r", "user_query": reading.text} | more
    return query_record([reading], 12.5, said or {}, **given)


def answer(**hits: Any) -> bytes:
    return json.dumps({"took": 7, "hits": {"total": {"value": 2, "relation": "eq"}, **hits}}).encode()


def test_an_answer_tells_hits_products_and_time() -> None:
    hits = [{"_id": "1", "_source": {"sku": "a"}}, {"_id": "2", "_source": {}}, {"_id": "3"}]
    assert found_in(answer(hits=hits)) == Found(2, ("1", "2", "3"), 7.0)
    assert found_in(answer(hits=hits), id_field="sku").ids == ("a", "2", "3")
    assert found_in(answer(hits=[], total=0)).hits == 0
    assert found_in(answer(hits=[], total=None)).hits is None
    assert len(found_in(answer(hits=[{"_id": str(at)} for at in range(500)])).ids) == 100


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"hits":3}', b'{"hits":{"hits":[{}]}}', b"<html>", b"\x1f\x8b"])
def test_what_is_no_answer_tells_nothing(data: bytes) -> None:
    assert found_in(data, request="GET x") == Found(request="GET x")


def test_a_long_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = answer(hits=[])
    monkeypatch.setattr(ubi_records, "_MAX_ANSWER_BYTES", len(data))
    assert found_in(data).hits == 2
    assert found_in(data + b" ").hits is None


@given(st.binary(max_size=200))
def test_no_bytes_end_the_recording(data: bytes) -> None:
    found_in(data)
    request_text("POST", "/x/_search", "", data)


def test_a_search_is_recorded_typed_beside_what_ubi_wants() -> None:
    made = record(found=Found(0, ("a",), 3.0, "POST shop/_search\n{}"), budget=0.3)
    typed = made["lrem"]
    assert (typed["route"], typed["why"], typed["type"]) == ("reasoned", "above_threshold", "question")
    assert (typed["reasoned"], typed["zero_results"], typed["hits"], typed["searches"]) == (1, 1, 0, 1)
    assert (typed["search_ms"], typed["reason_ms"], typed["budget"], typed["score"]) == (3.0, 9.0, 0.3, 0.9)
    assert "gain" not in typed, "NaN is not written"
    assert made["query_response_hit_ids"] == ["a"]
    assert made["query"] == "POST shop/_search\n{}"
    assert made["query_attributes"]["took_ms"] == 12.5


def test_what_is_not_known_is_absent() -> None:
    made = record(direct("sofa"))
    assert made["lrem"].keys().isdisjoint({"hits", "zero_results", "search_ms", "budget", "score"})
    assert made["lrem"]["why"] == "forced"
    assert (made["query"], made["query_response_hit_ids"]) == (None, None)


def test_degradations_count_and_are_named() -> None:
    made = record(by_words("sofa", "embedder_timeout"))["lrem"]
    assert (made["is_degraded"], made["degraded"], made["route"]) == (1, ["embedder_timeout"], "bm25")


def test_the_client_may_say_what_type_a_query_is() -> None:
    said = {"query_attributes": {"type": "gift", "page": 2, "route": "mine"}, "application": "app"}
    made = record(said=said)
    assert made["lrem"]["type"] == "gift"
    assert made["application"] == "app"
    assert made["query_attributes"]["page"] == 2
    assert made["query_attributes"]["route"] == "reasoned", "what the service knows wins"
    assert record(said={"query_attributes": "x"})["lrem"]["type"] == "question"


def test_a_hashed_record_tells_nothing_that_was_typed() -> None:
    said = {"query_attributes": {"type": "pot", "typed": READING.text}}
    found = Found(3, ("p1",), 1.0, f"POST shop/_search\n{READING.text}")
    made = record(said=said, found=found, user_query="0123", is_hashed=True)
    text = json.dumps(made)
    assert "pot" not in text
    assert "trivet" not in text
    assert made["lrem"]["route"] == "reasoned"


def test_an_event_knows_the_route_of_its_search() -> None:
    search = record()["lrem"]
    made = event_record({"action_name": "click", "query_id": "q", "lrem": {"clicks": 100}}, search)
    assert made["lrem"] == {"route": "reasoned", "type": "question", "why": "above_threshold", "events": 1, "clicks": 1}
    assert event_record({"action_name": "impression"})["lrem"] == {"events": 1, "clicks": 0}


def test_a_request_is_written_as_dev_tools_takes_it() -> None:
    assert request_text("POST", "/shop/_search", "size=3", b'{"a": 1}\n') == 'POST shop/_search?size=3\n{"a": 1}'
    assert request_text("POST", "shop/_search", "q=a", b"") == "POST shop/_search?q=a"
    assert len(request_text("POST", "shop/_search", "", b"x" * 100_000)) < 9000


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("red sofa", "plain"),
        ("what is a trivet", "question"),
        ("trivet?", "question"),
        ("sofa without arms", "negation"),
        ("gluten-free bread", "negation"),
        ("something like airpods", "comparison"),
        ("", "plain"),
    ],
)
def test_how_a_query_is_put(text: str, kind: str) -> None:
    assert phrasing(text) == kind


def test_every_field_that_is_written_is_mapped() -> None:
    for index, _, row in day(num_searches=80):
        known = set(fields_of(MAPPINGS[index]["properties"]))
        written = {f"lrem.{name}" for name in row["lrem"]}
        assert written <= known, index
    queries, events = (fields_of(MAPPINGS[index]["properties"]) for index in (QUERIES, EVENTS))
    assert all(events[name] == kind for name, kind in queries.items() if name in events)


def test_timings_of_the_engine_are_all_mapped() -> None:
    timings = dict.fromkeys(("embed", "route", "reason", "queue"), 1.0)
    written = record(replace(READING, timings_ms=timings))["lrem"]
    known = set(fields_of(MAPPINGS[QUERIES]["properties"]))
    assert {f"lrem.{name}_ms" for name in timings} <= {f"lrem.{name}" for name in written} & known
