"""``lrem-os eval publish`` and ``lrem-os eval export``."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import DatasetError, InputError, PublishIncomplete
from tests.fakes.eval_report import eval_report
from tests.fakes.opensearch import FakeOpenSearch


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.tsv").write_text('q1\tred sofa\nq2\t55" tv\n')
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\nq2 0 b 2\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_bytes(orjson.dumps(eval_report(num_queries=20)))


def run(*command: str) -> Result:
    return CliRunner().invoke(cli, ["eval", *command])


def test_publish_says_what_became_of_every_document(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenSearch() as fake:
        monkeypatch.setenv("LREM_OS__SEARCH__HOSTS", f"[{fake.url}]")
        result = run("publish", "out")
        assert result.exit_code == 0, result.output
        assert "lrem-os-eval-queries: 80 documents = written 80 + unchanged 0 + failed 0" in result.stdout
        value = json.loads(run("publish", "out", "--json").stdout)
        assert value["indices"]["lrem-os-eval-queries"]["unchanged"] == 80
        fake.item_status = lambda _doc_id: 400
        refused = run("publish", "out", "--prefix", "other", "--json")
        assert isinstance(refused.exception, PublishIncomplete)
        assert refused.exception.exit_code == 7
        assert json.loads(refused.stdout)["indices"]["other-queries"]["failed"] == 80


def test_a_dry_run_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__SEARCH__HOSTS", "[http://127.0.0.1:9]")
    result = run("publish", "out/report.json", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "lrem-os-eval-queries: 80 documents\n" in result.stdout
    assert "was not sent" in result.stdout


def test_publish_of_something_else() -> None:
    assert isinstance(run("publish", "q.tsv").exception, DatasetError)
    assert isinstance(run("publish", "out", "--prefix", "A").exception, InputError)
    assert "other judgments" in str(run("publish", "out", "--qrels", "qrels.txt", "--dry-run").exception)


def test_export_for_the_workbench() -> None:
    result = run("export", "--queries", "q.tsv", "--qrels", "qrels.txt", "--name", "Shop", "-o", "wb")
    assert result.exit_code == 0, result.output
    assert "left out, the workbench refuses their text: 1 (q2)" in result.stdout
    assert "1 queries, 1 judgments" in result.stdout
    body = json.loads(Path("wb/query_set.json").read_text())
    assert body == {"name": "Shop", "sampling": "manual", "querySetQueries": [{"queryText": "red sofa"}]}
    assert json.loads(Path("wb/judgments.json").read_text())["type"] == "IMPORT_JUDGMENT"


def test_export_for_trec_and_without_a_trace() -> None:
    result = run("export", "--to", "trec", "--queries", "q.tsv", "--qrels", "qrels.txt", "-o", "trec", "--json")
    assert json.loads(result.stdout)["judgments"] == 2
    assert Path("trec/topics.tsv").read_text() == 'q1\tred sofa\nq2\t55" tv\n'
    assert Path("trec/qrels.txt").read_text() == "q1 0 a 1\nq2 0 b 2\n"
    dry = run("export", "--queries", "q.tsv", "--qrels", "qrels.txt", "-o", "none", "--dry-run")
    assert "none/query_set.json would be written" in dry.stdout
    assert not Path("none").exists()


def test_export_with_a_name_that_the_workbench_refuses() -> None:
    result = run("export", "--queries", "q.tsv", "--qrels", "qrels.txt", "--name", "<shop>", "-o", "wb")
    assert isinstance(result.exception, InputError)
    assert "the name is '<shop>'" in str(result.exception)


def test_export_of_judgments_that_name_a_query_by_its_text() -> None:
    Path("quepid.csv").write_text('query,docid,rating\nRed  sofa,a,1\n"55"" tv",b,2\n')
    result = run("export", "--to", "trec", "--queries", "q.tsv", "--qrels", "quepid.csv", "-o", "trec")
    assert result.exit_code == 0, result.output
    assert Path("trec/qrels.txt").read_text() == "q1 0 a 1\nq2 0 b 2\n"
    assert "2 queries, 2 judgments" in result.stdout


@pytest.mark.parametrize("target", ["workbench", "trec"])
def test_export_without_a_judgment_is_no_success(target: str) -> None:
    Path("other.txt").write_text("q7 0 a 1\n")
    result = run("export", "--to", target, "--queries", "q.tsv", "--qrels", "other.txt", "-o", "none")
    assert isinstance(result.exception, InputError)
    assert "none of the judgments is about one of the queries that are exported; the first is about 'q7'" in str(
        result.exception
    )
    assert not Path("none").exists()
