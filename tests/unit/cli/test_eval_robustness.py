"""``lrem-os eval robustness``: everything that is wrong is told before a model or a cluster is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import DatasetError, InputError, LremError, RunError


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LREM_OS__SEARCH__HOSTS", "[http://127.0.0.1:9]")  # nobody is there, and nobody is asked
    (tmp_path / "q.tsv").write_text("q1\tred sofa\n")
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\n")
    (tmp_path / "old.trec").write_text("q1 Q0 a 1 9 x\n")
    (tmp_path / "bad.txt").write_text("sofa\n")


def run(*options: str, runs: str = "bm25") -> Result:
    command = ["eval", "robustness", "--runs", runs, "--queries", "q.tsv", "--qrels", "qrels.txt", *options]
    return CliRunner().invoke(cli, command)


@pytest.mark.parametrize(
    ("runs", "options", "error", "message"),
    [
        ("old.trec", [], RunError, "run 'old' is a file: it cannot be asked anything new"),
        ("bm52", [], RunError, "'bm52' is no mode"),
        (
            "bm25",
            ["--families", "mispelling"],
            InputError,
            "no family is called 'mispelling': do you mean 'misspelling'",
        ),
        ("bm25", ["--families", "synonyms"], InputError, "synonyms come from you"),
        ("bm25", ["--families", "synonyms", "--synonyms", "bad.txt"], DatasetError, "'sofa' is no synonym rule"),
        ("bm25", ["--families", "synonyms", "--synonyms", "none.txt"], DatasetError, "cannot read it"),
        ("bm25", ["--families", "paraphrase"], InputError, "a language model writes the paraphrases"),
        ("bm25", ["--families", ""], InputError, "nothing is to be tried"),
        ("bm25", ["--seeds", "5,5"], InputError, "each once"),
        ("bm25", ["--seeds", ""], InputError, "want one or more"),
        ("bm25", ["--poison", "10001"], InputError, "10001 products to inject"),
        ("bm25", ["--measure", "ndgc@10"], InputError, "no measure is called 'ndgc@10'"),
        ("live=http://localhost:1", ["--poison", "10"], InputError, "every run is a service"),
        ("bm25", ["--min-grade", "3"], InputError, "no query has a judgment of grade 3 or more"),
    ],
)
def test_what_cannot_be_tried(runs: str, options: list[str], error: type[LremError], message: str) -> None:
    result = run(*options, runs=runs)
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "5,x"], "want whole numbers"),
        (["--json", "--markdown"], "exclude each other"),
        (["--families", "paraphrase", "--paraphrase-url", "http://localhost:1/v1"], "go together"),
        (["--poison", "-1"], "not in the range"),
        (["--synonyms", "bad.txt"], "--synonyms is for the family synonyms, which --families does not name"),
        (["--families", "order", "--paraphrase-url", "http://localhost:1/v1"], "--paraphrase-url is for the family"),
        (["--paraphrase-model", "m"], "--paraphrase-model is for the family paraphrase"),
        (["--paraphrase-key", "k"], "--paraphrase-key is for the family paraphrase"),
        (["--paraphrase-temperature", "0.7"], "--paraphrase-temperature is for the family paraphrase"),
    ],
)
def test_usage(options: list[str], message: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert message in result.output


def test_a_dry_run_shows_what_would_be_asked() -> None:
    value = json.loads(run("--dry-run", "--json", "--poison", "10", runs="bm25,hybrid").stdout)
    assert value["searches"] == 2 * (1 + 3 * 5) + 2
    assert [(row["family"], row["query_id"]) for row in value["queries"]] == [
        (family, "q1") for family in ("misspelling", "order", "dropped") for _ in range(5)
    ]
    assert {row["asked"] for row in value["queries"] if row["family"] == "order"} == {"sofa red"}
    text = run("--dry-run").stdout
    assert "exchange" in text
    assert "16 searches for bm25; nothing was asked" in text


def test_a_key_in_the_environment_is_no_option_of_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS_PARAPHRASE_KEY", "k")
    assert run("--dry-run").exit_code == 0


def test_judgments_may_name_queries_by_their_text(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("query,docid,rating\nRed  sofa,a,1\n")
    result = run("--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert {row["query_id"] for row in json.loads(result.stdout)["queries"]} == {"q1"}
