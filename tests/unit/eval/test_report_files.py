from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lrem_os.cli import cli
from lrem_os.errors import DatasetError
from lrem_os.eval.report_file import load_report
from lrem_os.eval.report_files import check_folder, write_report
from tests.fakes.eval_report import eval_report


def test_a_report_is_three_files_and_json_is_what_it_was(tmp_path: Path) -> None:
    report = eval_report()
    files = write_report(report, tmp_path / "a" / "b")
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    assert load_report(tmp_path / "a" / "b") == report
    assert files[1].read_text(encoding="utf-8").startswith("### Evaluation on 120 queries")
    assert files[2].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["report.html", "report.json", "report.md"]


def test_a_folder_that_cannot_be_written_is_told_before_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="no report can be written there"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"qid": f"q{idx}", "query": f"query {idx}", "type": "easy"}) for idx in range(5)]
    Path("q.jsonl").write_text("\n".join(rows))
    Path("qrels.txt").write_text("".join(f"q{idx} 0 a 1\n" for idx in range(5)))
    Path("bad.trec").write_text("".join(f"q{idx} Q0 x 1 9 r\nq{idx} Q0 a 2 8 r\n" for idx in range(5)))
    Path("good.trec").write_text("".join(f"q{idx} Q0 a 1 9 r\n" for idx in range(5)))
    return tmp_path


def evaluate(*options: str) -> None:
    fixed = ["--queries", "q.jsonl", "--qrels", "qrels.txt", "--measures", "mrr@10", "--set", "eval.bootstrap=100"]
    result = CliRunner().invoke(cli, ["eval", *fixed, *options])
    assert result.exit_code == 0, result.output


def test_from_an_evaluation_to_report_comparison_and_gate(data: Path) -> None:
    evaluate("--runs", "bad.trec,good.trec", "--baseline", "bad", "--report", "first")
    evaluate("--runs", "bad=good.trec,good.trec", "--report", "second")
    first = load_report("first")
    assert first["runs"]["good"]["overall"]["mrr@10"]["mean"] == 1.0
    assert "query 3" in Path("first/report.html").read_text(encoding="utf-8")

    compared = CliRunner().invoke(cli, ["eval", "compare", "first", "second", "--json"])
    assert compared.exit_code == 0, compared.output
    value = json.loads(compared.stdout)
    assert value["same_data"] is True
    assert [(change["run"], change["difference"]["mean"], change["verdict"]) for change in value["changes"]] == [
        ("bad", 0.5, "better"),
        ("good", 0.0, "open"),
    ]
    table = CliRunner().invoke(cli, ["eval", "compare", "first", "second"])
    assert table.stdout.startswith("same queries, same judgments\n")
    assert "▲ better" in table.stdout
    markdown = CliRunner().invoke(cli, ["eval", "compare", "first", "second", "--markdown"])
    assert markdown.stdout.startswith("| run | measure | before | after |")
    both = CliRunner().invoke(cli, ["eval", "compare", "first", "second", "--markdown", "--json"])
    assert both.exit_code == 2

    Path("gate.yaml").write_text("runs: {good: {mrr@10: {min: 0.9, min_difference: 0.4}}}")
    assert CliRunner().invoke(cli, ["eval", "gate", "gate.yaml", "first"]).exit_code == 0
    Path("gate.yaml").write_text("runs: {good: {mrr@10: {min_difference: 0.6}}}")
    failed = CliRunner().invoke(cli, ["eval", "gate", "gate.yaml", "first"])
    assert "FAIL good mrr@10 difference = 0.500, min 0.6, baseline bad (gate.yaml:1)" in failed.stdout


def test_other_judgments_are_said_before_anything(data: Path) -> None:
    evaluate("--runs", "good.trec", "--report", "first")
    Path("qrels.txt").write_text(Path("qrels.txt").read_text() + "q1 0 x 1\n")
    evaluate("--runs", "good.trec", "--report", "second")
    table = CliRunner().invoke(cli, ["eval", "compare", "first", "second"])
    assert table.stdout.startswith("NOT THE SAME DATA")
    assert "checksum of qrels: sha256:" in table.stdout
