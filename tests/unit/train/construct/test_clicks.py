from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.errors import ConfigError, DatasetError
from lrem_os.train.construct.click_log import ClickLog
from lrem_os.train.construct.clicks import ClickRule, count_pairs, write_pairs
from lrem_os.train.construct.run import Files
from lrem_os.train.data import read_training_queries
from tests.unit.train.construct.shop import read

LOOSE = ClickRule(min_clicks=1, min_impressions=1, min_coec=0)


def write(path: Path, *rows: object) -> str:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return str(path)


def search(number: int, query: str, *hits: str) -> dict[str, Any]:
    return {"query_id": f"s{number}", "user_query": query, "query_response_hit_ids": list(hits), "client_id": "c"}


def event(number: int, action: str, item: str, ordinal: int | None = None, **more: Any) -> dict[str, Any]:
    position = {} if ordinal is None else {"position": {"ordinal": ordinal}}
    attributes = {"object": {"object_id": item, "object_id_field": "sku"}, **position}
    return {"query_id": f"s{number}", "action_name": action, "event_attributes": attributes, **more}


def pairs(tmp_path: Path, rule: ClickRule = LOOSE, **inputs: Any) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Return query → positives, and the counts."""
    files = Files(tmp_path / "clicks.jsonl")
    with ClickLog() as log:
        log.load(**inputs)
        counts = write_pairs(log, rule, files, restart=True)
    return {row["query"]: row["positives"] for row in read(files.out)}, counts


def ubi(tmp_path: Path, searches: list[Any], events: list[Any]) -> dict[str, Any]:
    return {
        "queries": [write(tmp_path / "ubi_queries.jsonl", *searches)],
        "events": [write(tmp_path / "ubi_events.jsonl", *events)],
    }


def test_clicked_products_are_positives_and_bought_ones_more(tmp_path: Path) -> None:
    searches = [search(1, "Red Bag", "a", "b", "c"), search(2, "red  bag", "a", "b", "c"), search(3, "hat", "d")]
    events = [
        event(1, "click", "a", 1),
        event(1, "click", "a", 1),  # twice in one search is once
        event(2, "click", "b", 2),
        event(2, "add_to_cart", "b"),
        event(2, "product_hover", "c"),
    ]
    found, counts = pairs(tmp_path, **ubi(tmp_path, searches, events))
    assert found == {"Red Bag": {"a": 1, "b": 2}}  # one query however it is spelt; c and d were not clicked
    assert (counts["searches"], counts["clicks"], counts["conversions"], counts["other_events"]) == (3, 3, 1, 1)
    assert (counts["pairs"], counts["few_clicks"], counts["positives"]) == (4, 2, 2)


def test_the_output_is_what_the_training_reads(tmp_path: Path) -> None:
    pairs(tmp_path, **ubi(tmp_path, [search(1, "bag", "a")], [event(1, "click", "a")]))
    [first] = read_training_queries(tmp_path / "clicks.jsonl")
    pairs(tmp_path, **ubi(tmp_path, [search(7, " Bag", "a")], [event(7, "click", "a")]))
    [second] = read_training_queries(tmp_path / "clicks.jsonl")
    assert first.query_id == second.query_id  # the same query is held out in every export
    assert (first.reasoning, first.negatives, first.positives) == ("", (), {"a": 1})


def test_minimum_clicks_and_impressions(tmp_path: Path) -> None:
    searches = [search(number, "bag", "a", "b") for number in range(6)] + [search(9, "hat", "c")]
    events = [event(number, "click", "a", 1) for number in range(3)] + [
        event(0, "click", "b", 2),
        event(9, "click", "c", 1),
    ]
    inputs = ubi(tmp_path, searches, events)
    assert pairs(tmp_path, ClickRule(2, 5, 0), **inputs)[0] == {"bag": {"a": 1}}
    assert pairs(tmp_path, ClickRule(1, 5, 0), **inputs)[0] == {"bag": {"a": 1, "b": 1}}
    assert pairs(tmp_path, ClickRule(1, 1, 0), **inputs)[0] == {"bag": {"a": 1, "b": 1}, "hat": {"c": 1}}
    assert pairs(tmp_path, ClickRule(3, 7, 0), **inputs)[1]["few_impressions"] == 1


def test_the_position_is_taken_out() -> None:
    """Two products as good as each other, one always on top: what decides is how they do at their positions."""
    rule = ClickRule(1, 1, 1.0)
    assert rule.verdict(shown=100, clicked=20, clicked_at=20, expected=30.0) == "as_expected"  # on top, 30 % usual
    assert rule.verdict(shown=100, clicked=8, clicked_at=8, expected=2.0) == "positive"  # far down, 2 % usual
    assert rule.verdict(shown=100, clicked=8, clicked_at=0, expected=0) == "positive"  # no position known


def test_a_user_who_only_clicks_on_top_teaches_nothing(tmp_path: Path) -> None:
    """Simulated: attention falls with the position; relevant products are clicked when they are seen."""
    rng = random.Random(0)
    searches, events, number = [], [], 0
    for query in range(40):
        items = [f"q{query}-{name}" for name in "abcde"]  # a and d are relevant, b, c and e are clicked by mistake
        for _ in range(60):
            searches.append(search(number, f"query {query}", *items))
            for rank, item in enumerate(items, 1):
                relevance = 0.9 if item[-1] in "ad" else 0.15
                if rng.random() < relevance / rank:
                    events.append(event(number, "click", item, rank))
            number += 1
    inputs = ubi(tmp_path, [*searches, *(search(number + n, f"query {n + 50}", *"vwxyz") for n in range(60))], events)
    found, _ = pairs(tmp_path, ClickRule(2, 5, 1.0), **inputs)
    names = [item[-1] for positives in found.values() for item in positives]
    assert names.count("a") + names.count("d") >= 38
    plain, _ = pairs(tmp_path, ClickRule(2, 5, 0), **inputs)
    assert sum(map(len, plain.values())) > 150  # without the rule nearly everything that was shown is a positive


def test_coec_by_hand(tmp_path: Path) -> None:
    """CTR(1) = 6/12, CTR(2) = 2/12; so 4 of 6 at position 1 pass (4/3), 2 of 6 do not (2/3), 2 of 6 at 2 pass (2/1)."""
    table = write(
        tmp_path / "t.tsv",
        b"query\tdoc_id\tclicks\timpressions\tposition\tconversions",
        b"bag\ta\t4\t6\t1\t",
        b"bag\tb\t2\t6\t2\t1",
        b"hat\tc\t2\t6\t1\t0",
        b"hat\td\t0\t6\t2\t0",
    )
    found, counts = pairs(tmp_path, ClickRule(1, 1, 1.0), tables=[table])
    assert found == {"bag": {"a": 1, "b": 2}}
    assert (counts["as_expected"], counts["few_clicks"], counts["pairs"]) == (1, 1, 4)


def test_impression_events_count_for_more_than_the_hits(tmp_path: Path) -> None:
    searches = [search(number, "bag", "a", "b") for number in range(6)]
    events = [event(number, "impression", "a", 1) for number in range(6)] + [
        event(0, "click", "a", 1),
        event(1, "click", "b"),
    ]
    _, counts = pairs(tmp_path, ClickRule(1, 2, 0), **ubi(tmp_path, searches, events))
    assert counts["few_impressions"] == 1  # b was among the hits six times, but seen only when it was clicked
    assert counts["positives"] == 1


def test_a_click_without_a_position_is_kept_by_the_other_rules(tmp_path: Path) -> None:
    events = [event(number, "click", "a", user_query="bag") for number in range(3)]
    found, counts = pairs(tmp_path, ClickRule(2, 2, 1.0), events=[write(tmp_path / "e.jsonl", *events)])
    assert found == {"bag": {"a": 1}}
    assert counts["no_position"] == 1


def test_clicks_of_unknown_searches_are_counted_and_left_out(tmp_path: Path) -> None:
    found, counts = pairs(tmp_path, **ubi(tmp_path, [search(1, "bag", "a")], [event(2, "click", "a")]))
    assert (found, counts["orphan_clicks"]) == ({}, 1)


def test_bad_lines_are_named(tmp_path: Path) -> None:
    searches = [search(1, "bag", "a"), b"{broken", {"query_id": "s2"}, {"user_query": "x"}, search(3, "x" * 3000)]
    events = [event(1, "click", "a"), {"action_name": "click", "query_id": "s1"}, b"[1]"]
    found, counts = pairs(tmp_path, **ubi(tmp_path, searches, events))
    assert found == {"bag": {"a": 1}}
    assert counts["unusable"] == 6
    named = read(tmp_path / "clicks.failed.jsonl")
    assert [(row["file"], row["line"]) for row in named] == [
        *[("ubi_queries.jsonl", line) for line in (2, 3, 4, 5)],
        *[("ubi_events.jsonl", line) for line in (2, 3)],
    ]


def test_a_table_of_single_clicks_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(b"query\tdoc_id\nbag\ta\nBag\ta\nbag\tb\nbag\n\tb\n"))
    found, counts = pairs(tmp_path, ClickRule(2, 2, 1.0), tables=[str(path)])
    assert found == {"bag": {"a": 1}}
    assert (counts["clicks"], counts["unusable"]) == (3, 2)


@pytest.mark.parametrize(("row", "reason"), [(b"bag\ta\t-1\t3", "not whole"), (b"bag\ta\t5\t3", "5 clicks in 3")])
def test_wrong_numbers_are_refused(tmp_path: Path, row: bytes, reason: str) -> None:
    table = write(tmp_path / "t.tsv", b"query\tdoc_id\tclicks\timpressions", row)
    assert pairs(tmp_path, tables=[table])[0] == {}
    assert reason in read(tmp_path / "clicks.failed.jsonl")[0]["error"]


def test_a_table_needs_its_header(tmp_path: Path) -> None:
    for header in (b"bag\ta", b"query\tdoc_id\tsku", b"query\tquery\tdoc_id"):
        with pytest.raises(DatasetError, match="the header is"), ClickLog() as log:
            log.load(tables=[write(tmp_path / "t.tsv", header)])


def test_the_output_appears_whole_and_is_not_lost(tmp_path: Path) -> None:
    inputs = ubi(tmp_path, [search(1, "bag", "a")], [event(1, "click", "a")])
    files = Files(tmp_path / "out.jsonl")
    with ClickLog() as log:
        log.load(**inputs)
        assert count_pairs(log, LOOSE)["written"] == 1  # a dry run
        assert not files.out.exists()
    with ClickLog() as log:
        log.load(**inputs)
        write_pairs(log, LOOSE, files)
        with pytest.raises(DatasetError, match="is there already"):
            write_pairs(log, LOOSE, files)
    assert len(read(files.out)) == 1
    assert not files.out.with_suffix(".part").exists()


def test_limit_and_progress(tmp_path: Path) -> None:
    seen = []
    with ClickLog(limit=2, on_progress=lambda counts: seen.append(counts["read"])) as log:
        log.load(queries=[write(tmp_path / "q.jsonl", *(search(n, f"bag {n}", "a") for n in range(5)))])
    assert seen == [1, 2]


def test_a_rule_without_clicks_is_no_rule() -> None:
    with pytest.raises(ConfigError, match="at least one click"):
        ClickRule(min_clicks=0)
