from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from lrem_os.errors import InputError
from lrem_os.eval.datasets import read_qrels
from lrem_os.eval.judgments.pool import build_pool, format_sheet
from lrem_os.types import Hit, Query, Ranking

QUERIES = (Query("q1", "bag"), Query("q2", "=sofa"))


def ranking(*doc_ids: str) -> Ranking:
    return Ranking(tuple(Hit(doc_id, 9.0 - place) for place, doc_id in enumerate(doc_ids)))


RUNS = {
    "one": {"q1": ranking("a", "b", "c"), "q2": ranking("x")},
    "two": {"q1": ranking("d", "b", "a")},
}


def test_unjudged_results_of_all_runs_best_rank_first() -> None:
    rows = build_pool(RUNS, QUERIES, depth=2, judged={"q1": {"a": 0}}, titles={"b": "Bag"})
    assert [(row.query_id, row.doc_id, dict(row.ranks), row.title) for row in rows] == [
        ("q1", "d", {"two": 1}, ""),
        ("q1", "b", {"one": 2, "two": 2}, "Bag"),
        ("q2", "x", {"one": 1}, ""),
    ]


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_a_sheet_that_was_filled_in_is_judgments(tmp_path: Path, name: str) -> None:
    rows = build_pool(RUNS, QUERIES, depth=3, titles={"a": '5" "tall", blue\nvase', "x": "=HYPERLINK(1)"})
    text = format_sheet(rows, name).decode()
    if name.endswith("csv"):
        cells = list(csv.DictReader(io.StringIO(text)))
        assert cells[0] == {"qid": "q1", "query": "bag", "doc_id": "a", "title": '5" "tall", blue vase',
                            "found_by": "one:1 two:3", "grade": ""}  # fmt: skip
        assert (cells[-1]["query"], cells[-1]["title"]) == ("'=sofa", "'=HYPERLINK(1)")
        text = text.replace("one:1 two:3,", "one:1 two:3,3").replace("one:1,", "one:1,0")
    else:
        lines = text.split("\n")
        text = "\n".join([lines[0].replace("null", "3"), *lines[1:-2], lines[-2].replace("null", "0")])
    (tmp_path / name).write_text(text)
    assert read_qrels(tmp_path / name, QUERIES) == {"q1": {"a": 3}, "q2": {"x": 0}}


def test_runs_of_other_queries_are_refused() -> None:
    with pytest.raises(InputError, match="no run has a result for any of the queries"):
        build_pool(RUNS, [Query("q9", "x")], depth=3)


def test_all_judged_is_an_empty_sheet() -> None:
    judged = {"q1": dict.fromkeys("abcd", 1), "q2": {"x": 0}}
    assert build_pool(RUNS, QUERIES, depth=3, judged=judged) == []
    assert format_sheet([], "s.csv") == b"qid,query,doc_id,title,found_by,grade\n"
