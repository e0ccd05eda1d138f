from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile, text_id
from lrem_os.eval.judgments.click_log import ClickLog


def file(text: str, path: str = "log") -> DataFile:
    return DataFile(path, "", tuple((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()))


def read(*texts: str, **options: Any) -> tuple[dict[tuple[str, str, int], tuple[float, float]], dict[str, int]]:
    columns = options.pop("columns", None)
    with ClickLog(**options) as log:
        for text in texts:
            log.add_file(file(text), columns)
        counts = log.sum_up()
        names = {qid: text for qid, text in log.texts().items() if text}
        found = {
            (names.get(counts.pairs[pair][0], counts.pairs[pair][0]), counts.pairs[pair][1], int(position)): (
                shown,
                clicks,
            )
            for pair, position, shown, clicks in zip(
                counts.pair, counts.position, counts.impressions, counts.clicks, strict=True
            )
        }
        return found, log.counts


def jsonl(rows: Sequence[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def event(action: str, search: str, doc: str, ordinal: int | None, **more: Any) -> dict[str, Any]:
    attributes = {"object": {"object_id": doc, "object_id_field": "sku"}, "position": {"ordinal": ordinal}}
    return {"action_name": action, "query_id": search, "event_attributes": attributes} | more


def test_one_row_an_impression() -> None:
    found, counts = read("query,doc_id,position,clicked\nBag,a,1,1\nbag ,a,1,0\nbag,b,2,false\nbag,a,3,true\n")
    assert found == {("Bag", "a", 1): (2, 1), ("Bag", "b", 2): (1, 0), ("Bag", "a", 3): (1, 1)}
    assert counts["rows"] == counts["impressions"] == 4
    assert counts["clicks"] == 2


def test_rows_of_one_search_are_one_impression_and_at_most_one_click() -> None:
    rows = [("s1", "a", 1, 0), ("s1", "a", 1, 1), ("s1", "a", 1, 1), ("s2", "a", 2, 0)]
    text = jsonl([{"search": s, "query": "bag", "doc_id": d, "position": p, "clicked": c} for s, d, p, c in rows])
    assert read(text)[0] == {("bag", "a", 1): (1, 1), ("bag", "a", 2): (1, 0)}


def test_sums_under_other_names() -> None:
    found, _ = read(
        "q;sku;pos;n;k\nq1;a;1;100;7\nq1;a;1;50;3\n",
        columns={"qid": "q", "doc_id": "sku", "position": "pos", "impressions": "n", "clicks": "k"},
    )
    assert found == {("q1", "a", 1): (150, 10)}


def test_ubi_events() -> None:
    events = [
        event("impression", "s1", "a", 1, user_query="bag"),
        event("impression", "s1", "b", 2, user_query="bag"),
        event("impression", "s1", "b", 2, user_query="bag"),
        event("click", "s1", "b", 2, user_query="bag"),
        event("click", "s1", "b", 2, user_query="bag"),
        event("hover", "s1", "a", 1, user_query="bag"),
        event("impression", "s2", "a", 5),  # its text is in ubi_queries
        event("click", "s3", "a", 5),  # nobody knows what s3 asked
        event("impression", "s2", "c", None),
    ]
    searches = [{"query_id": "s2", "user_query": "sofa", "timestamp": "2026-01-01"}]
    found, counts = read(jsonl([{"_source": row} for row in events]), jsonl(searches))
    assert found == {("bag", "a", 1): (1, 0), ("bag", "b", 2): (1, 1), ("sofa", "a", 5): (1, 0)}
    assert (counts["other_events"], counts["orphans"], counts["no_position"]) == (1, 1, 1)
    assert read(jsonl(events), jsonl(searches), click_actions=("hover",))[0][("bag", "a", 1)] == (1, 1)


def test_what_was_returned_counts_as_shown_where_impressions_are_not_logged() -> None:
    searches = [
        {"query_id": "s1", "user_query": "bag", "query_response_hit_ids": ["a", 7, "a"]},
        {"query_id": "s2", "user_query": "bag", "query_response_hit_ids": ["7"]},
    ]
    clicks = [event("click", "s1", "7", 2), event("click", "s1", "x", None)]
    found, counts = read(jsonl(searches), jsonl(clicks))
    assert found == {("bag", "a", 1): (1, 0), ("bag", "7", 2): (1, 1), ("bag", "7", 1): (1, 0)}
    assert (counts["hits_shown"], counts["no_position"]) == (3, 1)
    with_impressions, counts = read(jsonl(searches), jsonl([*clicks, event("impression", "s1", "a", 1)]))
    assert with_impressions == {("bag", "a", 1): (1, 0), ("bag", "7", 2): (1, 1)}
    assert counts["hits_shown"] == 0
    with pytest.raises(DatasetError, match="the events hold clicks and no impression"):
        read(jsonl([event("click", "s1", "a", 1, user_query="bag")]))


def test_a_log_may_call_its_columns_as_ubi_does() -> None:
    rows = [{"query_id": "q1", "user_query": "bag", "object_id": "a", "position": 1, "clicked": True}]
    assert read(jsonl(rows))[0] == {("bag", "a", 1): (1, 1)}


def test_ids_of_queries_come_from_their_texts() -> None:
    with ClickLog() as log:
        log.add_file(file("query,doc_id,position,clicked\nbag,a,1,1\n"))
        assert log.sum_up().pairs == ((text_id("bag"), "a"),)
        assert log.texts() == {text_id("bag"): "bag"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,doc_id,position,clicked\nbag,a,0,1\n", "log:2: position is 0: want a whole number from 1 up"),
        ("query,doc_id,position,clicked\nbag,a,,1\n", "position is ''"),
        ("query,doc_id,position,clicked\nbag,a,1,maybe\n", "clicked is 'maybe': want 1 or 0"),
        ("query,doc_id,position,clicked\nbag,,1,1\n", "no query or doc_id"),
        ("query,doc_id,position,impressions,clicks\nbag,a,1,3,4\n", "4 clicks in 3 impressions"),
        ("query,doc_id,position,impressions,clicks\nbag,a,1,3,\n", "clicks is ''"),
        ("bag,a,1,1\n", "log:1: no header names doc_id and position"),
        (
            '{"action_name": "click", "query_id": "s", "event_attributes": {"object": {"object_id": "a"}, '
            '"position": {"ordinal": -1}}}',
            "position.ordinal is -1",
        ),
        ('{"action_name": "hover"}', "holds no impression"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(text)
    assert message in str(caught.value)
