"""``lrem-os eval --runs …``: what a name can be, and what is told before anything is connected or loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os import api
from lrem_os.cli import cli
from lrem_os.eval.answers import open_answers
from lrem_os.types import Hit, Query, Ranking, Trace

LATENCY_MS = {"direct": 20.0, "reasoned": 320.0}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text('{"qid": "q1", "query": "bag"}\n{"qid": "q2", "query": "what to sit on"}\n')
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\nq2 0 c 1\n")
    (tmp_path / "runs").mkdir()
    for name, found in (("direct", ("a", "x")), ("reasoned", ("a", "c"))):
        answers = open_answers(tmp_path / "runs" / f"{name}.jsonl", name, {})
        for query, doc_id, score in zip((Query("q1", "bag"), Query("q2", "sofa")), found, (0.1, 0.7), strict=True):
            is_reasoned = name == "reasoned"
            trace = Trace(name, latency_ms=LATENCY_MS[name], reason_ms=300.0 * is_reasoned, score=score)
            answers.add([(query, Ranking((Hit(doc_id, 1.0),), trace=trace))])
    return tmp_path


def closed(*_args: object, **_options: object) -> None:
    raise AssertionError("the cluster was asked for")


def run(runs: str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["eval", "--runs", runs, "--queries", "q.jsonl", "--qrels", "qrels.txt", *options])


def test_saved_answers_need_no_cluster_and_bring_cost_and_curve(data: Path) -> None:
    options = (
        "--json",
        "--measures",
        "recall@1",
        "--curve",
        "recall@1",
        "--gpu-hour",
        "12",
        "--set",
        "eval.bootstrap=100",
    )
    result = run("runs/direct.jsonl,runs/reasoned.jsonl", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    cost = report["runs"]["reasoned"]["cost"]
    assert cost["latency_ms"]["p50"] == 320.0
    assert cost["price_per_1000"] == {"value": pytest.approx(1.0), "currency": "USD", "per_gpu_hour": 12.0}
    assert report["curve"]["area"]["router"] == 1.0
    assert (report["curve"]["direct"], report["curve"]["reasoned"]) == (0.5, 1.0)
    assert report["runs"]["direct"]["traces"]["q1"]["route"] == "direct"


@pytest.mark.parametrize(
    ("runs", "options", "code", "message"),
    [
        ("bm25,reasond", (), 3, "do you mean 'reasoned'?"),
        ("routed@30", (), 3, "write 0% to 100%, with the percent sign"),
        ("direct,runs/direct.jsonl", (), 3, "two runs are called 'direct'"),
        ("http://localhost:8099", (), 3, "write live=http://localhost:8099"),
        ("direct", ("--curve", "ndcg@10"), 3, "reasoned is none of the runs"),
        ("direct", ("--baseline", "hybrid"), 3, "the baseline 'hybrid' is none of the runs"),
        ("direct", ("--set", "search.candidates=50"), 3, "run 'direct': 100 hits are asked for"),
        ("reasoned", ("--set", "model.name=fake:8"), 2, "run 'reasoned': there is no reasoner"),
        ("mine", ("--set", "eval.runs={mine: {search: {weights: [1, 1]}}}"), 2, "eval.runs.mine.search"),
        ("mine", ("--set", "eval.runs={mein: {}}"), 3, "do you mean 'mein'?"),
        ("direct", ("--limit", "0"), 2, "--limit"),
        ("direct", ("--gpu-hour", "0"), 2, "--gpu-hour"),
        ("direct", ("--concurrency", "100"), 2, "eval.concurrency"),
    ],
)
def test_what_is_wrong_is_told_before_the_cluster_is_asked(
    data: Path, monkeypatch: pytest.MonkeyPatch, runs: str, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.setattr("lrem_os.query_plugin.served.connect", closed)
    monkeypatch.setattr(api, "connect", closed)
    result = run(runs, *options)
    told = f"{result.output} {result.exception} {getattr(result.exception, 'hint', '')}"
    assert message in told
    assert getattr(result.exception, "exit_code", result.exit_code) == code


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ("a.trec", ("--fresh",), "--fresh is about runs that are asked"),
        ("a.trec,runs/direct.jsonl", ("--concurrency", "4"), "--concurrency is about runs that are asked"),
        ("a.trec,b=c.run.gz", ("--gpu-hour", "2"), "--gpu-hour needs a run with times"),
        ("bm25", ("--fresh", "--save-runs", ""), "--save-runs '' keeps nothing"),
    ],
)
def test_an_option_that_none_of_the_runs_heeds_is_refused(
    data: Path, runs: str, options: tuple[str, ...], message: str
) -> None:
    result = run(runs, *options)
    assert result.exit_code == 2
    assert message in result.output
