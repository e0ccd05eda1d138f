"""``lrem-os eval`` convert, queries, clicks: no cluster, no model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.eval.datasets import read_qrels, read_queries, text_id
from lrem_os.eval.logs import keyed_hash
from lrem_os.types import Query

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LREM_OS_EVAL_KEY", raising=False)
    return tmp_path


def run(*arguments: str, **options: Any) -> Result:
    result = CliRunner().invoke(cli, ["eval", *arguments], **options)
    assert result.exit_code == 0, result.output
    return result


def test_quepid_to_trec_under_the_queries_ids(folder: Path) -> None:
    (folder / "q.jsonl").write_text('{"qid": "q1", "query": "Red bag"}\n')
    (folder / "quepid.csv").write_text("query,docid,rating\nred bag,a,3\nred bag,b,0\nsofa,c,1\n")
    summary = json.loads(run("convert", "quepid.csv", "--queries", "q.jsonl", "--out", "o.txt", "--json").stdout)
    assert read_qrels(folder / "o.txt") == {"q1": {"a": 3, "b": 0}, text_id("sofa"): {"c": 1}}
    assert summary == {
        "out": "o.txt",
        "queries": 2,
        "judgments": 3,
        "grades": {"0": 1, "1": 1, "3": 1},
        "queries_unknown": 1,
    }


def test_there_and_back_again_changes_nothing(folder: Path) -> None:
    (folder / "a.txt").write_text("q1 0 a 3\nq1 0 b 0\nq2 0 a 1\n")
    run("convert", "a.txt", "--out", "b.jsonl")
    run("convert", "b.jsonl", "--out", "c.txt")
    assert (folder / "c.txt").read_text() == (folder / "a.txt").read_text()


def test_hashed_ids_are_the_same_for_queries_and_judgments(folder: Path) -> None:
    (folder / "q.csv").write_text("qid,query\nq1,mail jo@example.org\n")
    (folder / "qrels.txt").write_text("q1 0 a 3\n")
    env = {"LREM_OS_EVAL_KEY": KEY}
    run("queries", "q.csv", "--hash-ids", "--redact", "pii", "--out", "q.jsonl", env=env)
    run("convert", "qrels.txt", "--hash-ids", "--out", "o.txt", env=env)
    hashed = keyed_hash("q1", KEY.encode())
    assert read_queries(folder / "q.jsonl") == (Query(hashed, "mail [email]"),)
    assert read_qrels(folder / "o.txt") == {hashed: {"a": 3}}


def test_the_most_frequent_queries_of_a_zipped_log(folder: Path) -> None:
    rows = ["q,n", "sofa,1", "red bag,5", "Red Bag,2", "chair,1"]
    (folder / "log.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    result = run(
        "queries", "log.csv.gz", "--columns", "query=q,frequency=n", "--top", "1", "--out", "q.jsonl", "--json"
    )
    row = {"qid": text_id("red bag"), "query": "red bag", "frequency": 7}
    assert json.loads((folder / "q.jsonl").read_text()) == row
    summary = json.loads(result.stdout)
    assert (summary["queries"], summary["searches"], summary["texts_redacted"]) == (1, 9.0, 0)
    assert summary["share"] == pytest.approx(7 / 9)


LOG = "query,doc_id,position,impressions,clicks\nbag,a,1,100,30\nbag,b,2,100,20\nbag,c,3,100,1\nbag,d,4,5,0\n"


def test_clicks_to_judgments_with_scores(folder: Path) -> None:
    (folder / "log.csv").write_text(LOG)
    options = ("--method", "ctr", "--queries-out", "q.jsonl")
    result = run("clicks", "log.csv", *options, "--out", "c.jsonl", "--json")
    rows = [json.loads(line) for line in (folder / "c.jsonl").read_text().split("\n") if line]
    found = [(row["doc_id"], row["score"], row["clicks"], row["grade"]) for row in rows]
    assert found == [("a", 0.3, 30, 3), ("b", 0.2, 20, 3), ("c", 0.01, 1, 0)]
    assert all(row["low"] < row["score"] < row["high"] for row in rows)
    assert read_qrels(folder / "c.jsonl") == {text_id("bag"): {"a": 3, "b": 3, "c": 0}}
    assert read_queries(folder / "q.jsonl") == (Query(text_id("bag"), "bag"),)
    summary = json.loads(result.stdout)
    assert summary["too_few_impressions"] == 1
    assert summary["grades"] == {"0": 1, "1": 0, "2": 0, "3": 2}
    assert summary["thresholds"] == [0.02, 0.05, 0.15]


def test_clicks_graded_by_the_lower_end_and_own_thresholds(folder: Path) -> None:
    (folder / "log.csv").write_text(LOG)
    options = ("--method", "ctr", "--thresholds", "0.15", "--lower-bound", "--min-impressions", "1")
    run("clicks", "log.csv", *options, "--out", "o.txt")
    assert read_qrels(folder / "o.txt") == {text_id("bag"): {"a": 1, "b": 0, "c": 0, "d": 0}}  # b: 0.2, from 0.13


def test_a_csv_export_is_evaluated_as_it_is(folder: Path) -> None:
    (folder / "q.csv").write_text("id;query\nq1;red bag\n")
    (folder / "quepid.csv").write_text("query,docid,rating\nRed bag,a,3\n")
    (folder / "r.trec").write_text("q1 Q0 b 1 2 x\nq1 Q0 a 2 1 x\n")
    options = ("--queries", "q.csv", "--qrels", "quepid.csv", "--measures", "mrr@10", "--json")
    result = CliRunner().invoke(cli, ["eval", "--runs", "r.trec", *options, "--columns", "qid=id"])
    assert "quepid.csv:1: no column 'id'" in str(result.exception)  # the mapping is for both files
    (folder / "q.csv").write_text("qid;query\nq1;red bag\n")
    value = json.loads(run("--runs", "r.trec", *options).stdout)
    assert value["runs"]["r"]["overall"]["mrr@10"]["mean"] == 0.5


def test_help_has_an_example_of_each() -> None:
    for name in ("convert", "queries", "clicks", "judge", "pool"):
        assert f"lrem-os eval {name} " in run(name, "--help").stdout.replace("\n", " ")
