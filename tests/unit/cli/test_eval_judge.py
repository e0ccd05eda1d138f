"""``lrem-os eval`` judge and pool: the judge is a scripted server, over real HTTP."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import DatasetError, ModelError
from lrem_os.eval.datasets import read_qrels
from tests.fakes.openai_server import BUSY, FakeOpenAI, Fault, times, when


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        fake.write = lambda text, _sample: "Grade: 3" if "red bag" in text.lower().split("product:")[1] else "0"
        yield fake


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LREM_OS_JUDGE_KEY", raising=False)
    (tmp_path / "q.jsonl").write_text('{"qid": "q1", "query": "red bag"}\n{"qid": "q2", "query": "bags"}\n')
    rows = [{"id": "a", "title": "Red bag"}, {"id": "b", "title": "Sofa"}, {"id": "c", "title": "Big red bag"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "one.trec").write_text("q1 Q0 a 1 9 x\nq1 Q0 b 2 8 x\nq2 Q0 c 1 9 x\nq9 Q0 a 1 9 x\n")
    (tmp_path / "two.trec").write_text("q1 Q0 b 1 9 x\nq1 Q0 z 2 8 x\n")
    return tmp_path


def judge(url: str, *options: str, candidates: str = "one.trec") -> Result:
    arguments = ["eval", "judge", "--queries", "q.jsonl", "--candidates", candidates, "--catalog", "c.jsonl"]
    return CliRunner().invoke(cli, [*arguments, "--url", url, "--model", "m", "--out", "o.txt", "--json", *options])


def test_pairs_are_graded_once_and_agreement_is_told(folder: Path, server: FakeOpenAI) -> None:
    (folder / "human.txt").write_text("q1 0 a 3\nq1 0 b 0\nq2 0 c 1\n")
    first = judge(server.url, "--human", "human.txt")
    assert first.exit_code == 0, first.output
    assert read_qrels(folder / "o.txt") == {"q1": {"a": 3, "b": 0}, "q2": {"c": 3}}
    summary = json.loads(first.stdout)
    assert (summary["asked"], summary["cached"], summary["grades"]) == (3, 0, {"0": 1, "1": 0, "2": 0, "3": 2})
    agreement = summary["agreement"]
    assert (agreement["pairs"], agreement["grades"], agreement["table"]) == (
        3,
        [0, 1, 3],
        [[1, 0, 0], [0, 0, 1], [0, 0, 1]],
    )
    assert agreement["kappa_relevant"]["value"] == 1.0
    assert all(call.body["temperature"] == 0 for call in server.calls)
    assert "judged: 3 of 3" in first.stderr
    second = json.loads(judge(server.url).stdout)
    assert (second["asked"], second["cached"], second["judged"]) == (0, 3, 3)
    assert len(server.calls) == 3


def test_a_dry_run_asks_nothing_and_writes_nothing(folder: Path, server: FakeOpenAI) -> None:
    before = sorted(folder.iterdir())
    found = json.loads(judge(server.url, "--dry-run").stdout)
    assert (found["pairs"], found["to_ask"], found["queries"]) == (3, 3, 2)
    assert found["prompt_tokens"] > 100
    assert "Red bag" in found["first_question"]["user"]
    assert server.calls == []
    assert sorted(folder.iterdir()) == before
    judge(server.url)
    assert json.loads(judge(server.url, "--dry-run").stdout)["to_ask"] == 0


def test_a_busy_server_is_asked_again(server: FakeOpenAI) -> None:
    server.fault = times(2, BUSY)
    assert json.loads(judge(server.url, "--concurrency", "1").stdout)["judged"] == 3


def test_a_server_that_dies_leaves_what_it_answered(folder: Path, server: FakeOpenAI) -> None:
    server.fault = when("Big red bag", Fault(401, message="no such key"))
    failed = judge(server.url, "--concurrency", "1")
    assert isinstance(failed.exception, ModelError)
    assert "no such key" in str(failed.exception)
    assert not (folder / "o.txt").exists()
    server.fault = lambda _call: None
    assert json.loads(judge(server.url).stdout)["cached"] == 2


def test_a_question_that_is_refused_is_told(folder: Path, server: FakeOpenAI) -> None:
    server.fault = when("Sofa", Fault(400, message="too long"))
    (folder / "both.txt").write_text("q1 0 a 3\nq1 0 b 0\nq2 0 c 3\nq2 0 a 3\n")  # one more, or all would be refused
    result = judge(server.url)
    summary = json.loads(result.stdout)
    assert (summary["judged"], summary["failed"]) == (2, 1)
    assert "failed: q1 b: 400: too long" in result.stderr
    again = json.loads(judge(server.url, "--concurrency", "1", candidates="both.txt").stdout)
    assert (again["cached"], again["failed"]) == (2, 1)


def test_an_answer_may_be_held_to_a_schema(server: FakeOpenAI) -> None:
    server.write = lambda _text, _sample: '{"grade": 1}'
    assert json.loads(judge(server.url, "--structured").stdout)["grades"]["1"] == 3
    schema = server.calls[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["grade"]["enum"] == [0, 1, 2, 3]
    assert json.loads(judge(server.url).stdout)["asked"] == 3  # other answers than those without a schema
    assert "response_format" not in server.calls[-1].body


def test_answers_without_a_grade_are_told(folder: Path, server: FakeOpenAI) -> None:
    server.write = lambda _text, _sample: "I would say so"
    (folder / "human.txt").write_text("q1 0 a 3\n")
    result = judge(server.url, "--human", "human.txt")
    summary = json.loads(result.stdout)
    assert (summary["judged"], summary["ungraded"]) == (0, 3)
    assert "ungraded: q1 a: I would say so" in result.stderr
    assert "try --structured" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "human.txt: cannot read it"),
        ("q1 0 a much\n", "human.txt:1: grade 'much'"),
        ("q1 0 z 1\nq7 0 a 1\n", "human.txt: none of the 3 pairs that are put before the judge is in it"),
    ],
)
def test_peoples_judgments_that_cannot_be_used_are_told_before_anything_is_asked(
    folder: Path, server: FakeOpenAI, text: str | None, message: str
) -> None:
    if text is not None:
        (folder / "human.txt").write_text(text)
    before = sorted(folder.iterdir())
    for options in ([], ["--dry-run"]):
        result = judge(server.url, "--human", "human.txt", *options)
        assert isinstance(result.exception, DatasetError)
        assert message in str(result.exception)
    assert server.calls == []
    assert sorted(folder.iterdir()) == before


def test_grades_are_written_though_none_can_be_compared(folder: Path, server: FakeOpenAI) -> None:
    server.fault = when("Sofa", Fault(400, message="too long"))
    (folder / "human.txt").write_text("q1 0 b 0\n")  # the one pair that the judge does not answer
    result = judge(server.url, "--human", "human.txt")
    assert "no query and document are judged by both" in str(result.exception)
    assert read_qrels(folder / "o.txt") == {"q1": {"a": 3}, "q2": {"c": 3}}


def test_people_may_name_queries_by_their_text(folder: Path, server: FakeOpenAI) -> None:
    (folder / "quepid.csv").write_text("query,docid,rating\nRed  bag,a,3\nred bag,b,0\nbags,c,1\n")
    result = judge(server.url, "--human", "quepid.csv")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["agreement"]["pairs"] == 3


def test_a_sheet_of_a_pool_is_judged_by_people_or_by_a_model(folder: Path, server: FakeOpenAI) -> None:
    (folder / "known.txt").write_text("q1 0 a 3\n")
    arguments = ["eval", "pool", "--runs", "one.trec,other=two.trec", "--queries", "q.jsonl", "--qrels", "known.txt"]
    result = CliRunner().invoke(cli, [*arguments, "--catalog", "c.jsonl", "--out", "sheet.csv", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": "sheet.csv",
        "to_judge": 3,
        "queries": 2,
        "found_by": {"other": 2, "one": 2},
        "found_by_it_alone": {"other": 1, "one": 1},
    }
    rows = list(csv.DictReader((folder / "sheet.csv").read_text().split("\n")[:-1]))
    assert [(row["qid"], row["doc_id"], row["title"], row["found_by"]) for row in rows] == [
        ("q1", "b", "Sofa", "other:1 one:2"),
        ("q1", "z", "", "other:2"),
        ("q2", "c", "Big red bag", "one:1"),
    ]
    judged = json.loads(judge(server.url, candidates="sheet.csv").stdout)
    assert (judged["judged"], judged["without_text"]) == (2, 1)
    assert read_qrels(folder / "o.txt") == {"q1": {"b": 0}, "q2": {"c": 3}}
