from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from lrem_os import api
from lrem_os.cli.train_data import data
from lrem_os.errors import ConfigError, LremError, TrainingError
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.train.construct.shop import PRODUCTS, TinyRetriever, read


@pytest.fixture(autouse=True)
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every command finds the little shop as its index, and no configuration."""
    monkeypatch.setattr(api, "open_retriever", lambda _settings, _mode: TinyRetriever())
    monkeypatch.chdir(tmp_path)


def run(*args: object) -> Result:
    result = CliRunner().invoke(data, [str(arg) for arg in args])
    if isinstance(result.exception, LremError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def answer(text: str, _sample: int) -> str:
    if "Here is a product of a shop" in text:
        return "a drink without milk from cows"
    if product := re.search(r"Product:\s+(\w+)", text):
        return f"<score>{ {'Soy': 2, 'Winona': 2, 'Whole': 1}.get(product[1], 1) }</score>".replace(" ", "")
    return "Winona, barrier cream"


def test_lrem_with_a_teacher_and_a_judge(server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.write = answer
    monkeypatch.setenv("LREM_OS_TEACHER_KEY", "secret")
    log = write(tmp_path / "log.jsonl", {"qid": "q1", "query": "la mer dupe"}, {"qid": "q2"})
    teacher = ("--teacher-url", server.url, "--teacher-model", "big")
    judge = ("--judge", "endpoint", "--judge-url", server.url, "--judge-model", "fair")
    result = run("lrem", log, "-o", "out.jsonl", *teacher, *judge, "-n", 3)
    assert result.exit_code == 0, result.output
    assert "1  queries written" in result.output
    [row] = read(tmp_path / "out.jsonl")
    assert (row["cot"], row["positives"]) == ("Winona, barrier cream", {"p1": 2})
    card = json.loads((tmp_path / "out.card.json").read_text("utf-8"))
    assert (card["settings"]["teacher"]["model"], card["settings"]["judge"]["model"]) == ("big", "fair")
    assert card["settings"]["retriever"]["mode"] == "vector"
    assert set(card["prompts"]) == {"lrem-reason-1", "lrem-extract-1", "relevance-1"}
    assert list(card["inputs"]) == ["log.jsonl"]
    assert {call.headers["authorization"] for call in server.calls} == {"Bearer secret", "Bearer none"}
    assert "secret" not in "".join(path.read_text("utf-8") for path in tmp_path.iterdir())

    num_asked = len(server.calls)
    again = run("lrem", log, "-o", "out.jsonl", *teacher, *judge, "-n", 3, "--json")
    assert json.loads(again.stdout)["counts"]["written"] == 1
    assert len(server.calls) == num_asked  # all was done
    with pytest.raises(TrainingError, match="another top_k"):
        run("lrem", log, "-o", "out.jsonl", *teacher, *judge, "-n", 4)


def test_lrem_from_teacher_lines_without_a_judge(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", {"query": "la mer dupe", "cot": "winona"}, {"query": "tote", "cot": "cotton"})
    result = run("lrem", log, "-o", "out.jsonl", "--judge", "none", "--limit", 1)
    assert result.exit_code == 0
    assert [row["cot"] for row in read(tmp_path / "out.jsonl")] == ["winona"]
    assert "- Unjudged" in (tmp_path / "out.card.md").read_text("utf-8")


def test_a_dry_run_asks_nothing_and_writes_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", {"query": "la mer dupe"}, {"query": "La Mer dupe"}, {"query": 3})
    result = run("lrem", log, "-o", "out.jsonl", "--judge", "none", "--dry-run")
    assert "3 read, 1 usable, 1 unusable, 1 duplicate" in result.output
    assert "line 3 has no text under 'query'" in result.output
    assert "Query: la mer dupe" in result.output
    shown = json.loads(run("lrem", log, "-o", "out.jsonl", "--judge", "none", "--dry-run", "--json").stdout)
    assert shown["counts"]["usable"] == 1
    assert server.calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_remix_over_a_catalog(server: FakeOpenAI, tmp_path: Path) -> None:
    server.write = answer
    catalog = write(
        tmp_path / "catalog.jsonl",
        *({"id": key, "title": text} for key, text in PRODUCTS.items() if key == "p5"),
        {"id": "x"},
    )
    (tmp_path / "remix.yaml").write_text("min_chars: 5\nlengths: {3 to 8: 1}\n")
    models = ("--writer-url", server.url, "--writer-model", "w", "--judge-url", server.url, "--judge-model", "j")
    result = run("remix", catalog, "-o", "out.jsonl", "--settings", "remix.yaml", *models)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.failed.jsonl")[0]["line"] == 2
    assert "The query has 3 to 8 words" in server.calls[0].texts[0]
    card = json.loads((tmp_path / "out.card.json").read_text("utf-8"))
    assert card["counts"]["queries"] == 1
    assert card["settings"]["lengths"] == {"3 to 8": 1}
    dry = run("remix", catalog, "-o", "other.jsonl", "--settings", "remix.yaml", *models, "--dry-run")
    assert "2 read, 1 usable, 1 unusable" in dry.output


def test_clicks_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("query\tdoc_id\tclicks\timpressions\nbag\ta\t3\t9\nbag\tb\t1\t9\n")
    dry = run("clicks", "--table", "t.tsv", "-o", "out.jsonl", "--dry-run", "--json")
    assert json.loads(dry.stdout)["positives"] == 1
    assert not (tmp_path / "out.jsonl").exists()
    result = run("clicks", "--table", "t.tsv", "-o", "out.jsonl")
    assert "1  pairs kept" in result.output
    assert read(tmp_path / "out.jsonl")[0]["positives"] == {"a": 1}
    assert "| min_clicks | `2` |" in (tmp_path / "out.card.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("lrem", "log", "-o", "o.jsonl", "--judge", "endpoint"), "needs --judge-url and --judge-model"),
        (("lrem", "log", "-o", "o.jsonl", "--judge", "cross-encoder"), "needs --judge-model"),
        (("lrem", "log", "-o", "o.jsonl", "--judge", "none", "--teacher-url", "http://x/v1"), "go together"),
        (("remix", "log", "-o", "o.jsonl", "--judge-url", "http://x/v1", "--judge-model", "j"), "--writer-url and"),
        (("clicks", "-o", "o.jsonl"), "--events"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    (tmp_path / "log").write_text("bag\n")
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output


def test_a_file_that_is_not_there_and_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(LremError, match="cannot be read"):
        run("lrem", "absent.jsonl", "-o", "o.jsonl", "--judge", "none")
    (tmp_path / "s.yaml").write_text("canddates: 3\n")
    with pytest.raises(ConfigError, match="canddates"):
        run("remix", "c.jsonl", "-o", "o.jsonl", "--settings", "s.yaml", "--dry-run")


@pytest.mark.parametrize("name", sorted(data.commands))
def test_every_option_is_explained(name: str) -> None:
    command = data.commands[name]
    assert isinstance(command, click.Command)
    assert "lrem-os train data" in (command.help or "")
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert unexplained == []
