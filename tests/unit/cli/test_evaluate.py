"""``lrem-os eval`` on run files: no cluster, no model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import RunError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    queries = [("q1", "bag", "easy"), ("q2", "sofa", "easy"), ("q3", "not red", "negative"), ("q4", "x", "negative")]
    rows = [json.dumps({"qid": qid, "query": text, "type": kind}) for qid, text, kind in queries]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    (tmp_path / "qrels.txt").write_text("q1 0 a 2\nq1 0 b 1\nq2 0 c 1\nq3 0 d 1\nq4 0 a 0\n")
    (tmp_path / "half.trec").write_text("q1 Q0 a 1 9 x\nq2 Q0 x 1 9 x\nq2 Q0 c 2 8 x\n")
    (tmp_path / "full.run").write_text("q1 Q0 a 1 9 x\nq1 Q0 b 2 8 x\nq2 Q0 c 1 9 x\nq3 Q0 d 1 9 x\n")
    return tmp_path


def run(*options: str, runs: str = "half.trec,full.run") -> Result:
    return CliRunner().invoke(cli, ["eval", "--runs", runs, "--queries", "q.jsonl", "--qrels", "qrels.txt", *options])


def test_markdown_to_the_letter(data: Path) -> None:
    result = run("--markdown", "--measures", "hitrate@1,mrr@10", "--slices", "", "--baseline", "full")
    assert result.exit_code == 0, result.output
    lines = result.stdout.split("\n")
    assert lines[:13] == [
        "### all queries (n = 3)",
        "",
        "| measure | half | full |",
        "| --- | --- | --- |",
        "| hitrate@1 | 0.167 [0.00, 0.50] | 0.833 [0.50, 1.00] |",
        "| mrr@10 | 0.500 [0.00, 1.00] | 1.000 [1.00, 1.00] |",
        "",
        "### difference to full (n = 3)",
        "",
        "| measure | half |",
        "| --- | --- |",
        "| hitrate@1 | -0.667 [-1.00, +0.00] |",
        "| mrr@10 | -0.500 [-1.00, +0.00] |",
    ]
    assert "- left out: 1 query (q4), judged without a relevant document (trec_eval counts them as 0)" in lines
    assert "- counted 0: 1 query (q3), without a result in half" in lines


def test_tables(data: Path) -> None:
    result = run("--measures", "ndcg@10,mrr@10", "--set", "eval.bootstrap=100")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.split("\n")]
    titles = [line for line in lines if "(n = " in line]
    assert titles == ["all queries (n = 3)", "type: easy (n = 2)", "type: negative (n = 1)"]
    assert lines.count("measure half full") == 3
    assert "ndcg@10 0.000 [0.00, 0.00] 1.000 [1.00, 1.00]" in lines
    assert "counted 0: 1 query (q3), without a result in half" in lines
    assert result.stderr == "measuring: 3 of 3\n"
    only_all = run("--measures", "ndcg@10", "--slices", "").stdout
    assert ("all queries" in only_all, "easy" in only_all) == (True, False)


def test_json(data: Path) -> None:
    result = run("--json", "--measures", "hitrate@10,success@10,precision@10")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["runs"]["half"]["per_query"] == {
        "q1": {"hitrate@10": 0.5, "success@10": 1.0, "precision@10": 0.1},
        "q2": {"hitrate@10": 1.0, "success@10": 1.0, "precision@10": 0.1},
        "q3": {"hitrate@10": 0.0, "success@10": 0.0, "precision@10": 0.0},
    }
    means = {name: {m: e["mean"] for m, e in part["overall"].items()} for name, part in value["runs"].items()}
    assert means == {
        "half": pytest.approx({"hitrate@10": 0.5, "success@10": 2 / 3, "precision@10": 0.2 / 3}),
        "full": pytest.approx({"hitrate@10": 1.0, "success@10": 1.0, "precision@10": 0.4 / 3}),
    }
    assert value["runs"]["half"]["missing"] == ["q3"]
    assert value["card"]["num_queries"] == 4
    assert value["card"]["num_evaluated"] == 3


def test_the_default_measures(data: Path) -> None:
    value = json.loads(run("--json", "--set", "eval.bootstrap=100").stdout)
    assert value["card"]["measures"] == [
        "ndcg@10",
        "hitrate@10",
        "hitrate@100",
        "precision@10",
        "judged@10",
    ]
    assert value["card"]["interval"]["resamples"] == 100


def test_nothing_is_written_when_nothing_was_retrieved(data: Path) -> None:
    before = sorted(data.iterdir())
    assert run("--measures", "mrr@10").exit_code == 0
    assert sorted(data.iterdir()) == before


def test_two_runs_of_one_name_are_refused(data: Path) -> None:
    result = run(runs="half.trec,./half.trec")
    assert isinstance(result.exception, RunError)
    assert str(result.exception) == "two runs are called 'half'"


def test_json_and_markdown_exclude_each_other(data: Path) -> None:
    result = run("--json", "--markdown")
    assert result.exit_code == 2
    assert "--json and --markdown exclude each other" in result.stderr


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (
            ["--runs", "half.trec", "--qrels", "nowhere"],
            3,
            "error: nowhere: cannot read it: No such file or directory\n",
        ),
        (
            ["--runs", "half.trec", "--measures", "ndgc@10"],
            3,
            "error: no measure is called 'ndgc@10': do you mean 'ndcg'?\n",
        ),
        (["--runs", "bm25", "-n", "10"], 3, "error: hitrate@100 looks at 100 results, but only 10 are asked for\n"),
        (["--runs", "half.trec", "-n", "0"], 2, "0 is not in the range x>=1"),
    ],
)
def test_a_mistake_is_a_sentence_and_an_exit_code(data: Path, options: list[str], exit_code: int, message: str) -> None:
    command = [sys.executable, "-m", "lrem_os", "eval", "--queries", "q.jsonl", "--qrels", "qrels.txt", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_redacted_json_has_no_text_and_no_id(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run("--measures", "ndcg@10", "--baseline", "full", "--json").stdout
    assert "not red" in plain
    assert '"q3"' in plain
    hidden = run("--measures", "ndcg@10", "--baseline", "full", "--json", "--redact").stdout
    assert "not red" not in hidden
    assert '"q3"' not in hidden
    numbers, found = (json.loads(text)["runs"]["half"]["overall"] for text in (plain, hidden))
    assert found == numbers
    monkeypatch.setenv("LREM_OS_EVAL_KEY", "short")
    refused = run("--measures", "ndcg@10", "--redact")
    assert refused.exit_code != 0
    assert "the key for hashed ids has 5 bytes" in str(refused.exception)


def test_cutoffs_and_violations(data: Path) -> None:
    (data / "v.jsonl").write_text('{"qid": "q3", "ids": ["x"]}\n')
    card = json.loads(run("--k", "5,1000", "--violations", "v.jsonl", "--json").stdout)["card"]
    assert card["measures"][0] == "ndcg@5"
    assert card["measures"][-1] == "violation@1000"
    assert any("ndcg@1000" in note and "results a query" in note for note in card["notes"])
    for wrong, message in (("0", "the cutoff is '0'"), ("a", "the cutoff is 'a'"), (",", "no cutoff was given")):
        assert message in str(run("--k", wrong).exception)
    both = run("--k", "5", "--measures", "ndcg@5")
    assert both.exit_code == 2
    assert "--measures and --k exclude each other" in both.output
