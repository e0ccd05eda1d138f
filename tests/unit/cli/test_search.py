from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli.search import _print_body, search
from lrem_os.types import Hit, LegScore, Ranking, Reasoning

SOURCE = {"title": "Red\tleather\nbag \x1b[31m", "brand": "Sony", "price": 49.95, "attributes": {"colour": "red"}}
FOUND = Ranking(
    hits=(
        Hit("a1", 0.0325, SOURCE, {"bm25": LegScore(1, 7.5), "vector": LegScore(2, 1.8)}),
        Hit("b2", 0.0164, {"title": "Bag [bold]", "brand": ["X", "Y"]}, {"vector": LegScore(1, 1.9)}),
    ),
    total=41,
    took_ms=12.0,
)
THOUGHT = (
    Reasoning(("trivet", "pot\tstand"), "trivet, pot stand", num_tokens=6, confidence=0.5),
    Reasoning(num_tokens=1, truncated=True),
)


class Api(ModuleType):
    """Stands in for ``lrem_os.api``: remembers how it was called."""

    def __init__(self) -> None:
        super().__init__("lrem_os.api")
        self.calls: list[dict[str, Any]] = []
        self.ranking = FOUND

    def search(self, settings: Any, text: str, **options: Any) -> Ranking:
        self.calls.append({"settings": settings, "text": text} | options)
        return self.ranking

    def search_body(self, settings: Any, text: str, **options: Any) -> tuple[str, dict[str, Any]]:
        self.calls.append({"settings": settings, "text": text} | options)
        return settings.index.name, {"size": 10, "query": {"knn": {"v": {"vector": [0.1, -2e-7] * 50}}}, "text": text}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    import lrem_os

    fake = Api()
    monkeypatch.setitem(sys.modules, "lrem_os.api", fake)
    monkeypatch.setattr(lrem_os, "api", fake, raising=False)
    return fake


def run(*args: str) -> Result:
    return CliRunner().invoke(search, args, catch_exceptions=False)


def test_options_reach_the_library(api: Api) -> None:
    run(
        "red bag",
        "--filter",
        "brand=Sony",
        "--filter",
        "price<5",
        "-n",
        "3",
        "--from",
        "6",
        "--mode",
        "vector",
        "-i",
        "x",
    )
    [call] = api.calls
    assert call["settings"].index.name == "x"
    del call["settings"]
    assert call == {
        "text": "red bag",
        "filters": ("brand=Sony", "price<5"),
        "top_k": 3,
        "start": 6,
        "mode": "vector",
        "explain": False,
        "reason": False,
    }


def test_a_pipe_gets_one_line_a_hit(api: Api) -> None:
    lines = run("red bag").output.splitlines()
    assert lines[0].split("\t") == ["1", "0.0325", "Red leather bag  [31m", "Sony", "49.95", "a1"]
    assert lines[1].split("\t") == ["2", "0.0164", "Bag [bold]", "X, Y", "", "b2"]
    explained = run("red bag", "--explain").output.splitlines()
    assert explained[1].split("\t")[2:4] == ["-", "1 (1.9)"]


def test_a_terminal_gets_a_table(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrem_os.cli.search._is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    output = run("red bag", "--from", "10", "--explain").output
    assert "bm25 rank (score)" in output
    assert "\x1b[31m" not in output
    assert "Bag [bold]" in output
    assert "11 to 12 of 41 found, 12 ms" in output
    api.ranking = Ranking((), total=0, took_ms=2.0)
    assert run("nothing").output == "no products found, 2 ms\n"


def test_json_holds_everything(api: Api) -> None:
    report = json.loads(run("red bag", "--json", "--explain", "--from", "4").output)
    assert report["query"] == "red bag"
    assert report["mode"] == "hybrid"
    assert report["total"] == 41
    assert report["hits"][0]["rank"] == 5
    assert report["hits"][0]["legs"] == {"bm25": {"rank": 1, "score": 7.5}, "vector": {"rank": 2, "score": 1.8}}
    assert report["hits"][0]["source"] == SOURCE


def test_show_body_prints_what_dev_tools_takes(api: Api) -> None:
    text = "red [ 1, 2 ]\n[\n3\n] caf\u00e9"
    first, rest = run(text, "--show-body").output.split("\n", 1)
    assert first == "POST /products/_search"
    body = json.loads(rest)
    assert body["query"]["knn"]["v"]["vector"] == [0.1, -2e-7] * 50
    assert body["text"] == text
    assert len(rest.splitlines()) < 20  # the vector is on one line
    assert json.loads(run(text, "--show-body", "--json").output) == body


def test_show_body_prints_each_search_where_there_are_two(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = {"bm25": {"query": {"match_all": {}}}, "vector": {"query": {"knn": {"query_vector": [0.5]}}}}
    _print_body("products", bodies, as_json=False)
    parts = capsys.readouterr().out.split("POST /products/_search\n")
    assert [json.loads(part) for part in parts[1:]] == list(bodies.values())
    _print_body("products", bodies, as_json=True)
    assert json.loads(capsys.readouterr().out) == bodies


@pytest.mark.parametrize("args", [("-n", "0"), ("--from", "-1"), ("--mode", "fuzzy"), ("red", "bag")])
def test_wrong_options_are_refused(api: Api, args: tuple[str, ...]) -> None:
    assert run("bag", *args).exit_code == 2
    assert api.calls == []


def test_without_a_query_it_browses(api: Api) -> None:
    assert run("--filter", "brand=Sony").exit_code == 0
    assert api.calls[0]["text"] == ""


def test_a_reasoning_is_told_beside_the_hits(api: Api) -> None:
    api.ranking = replace(FOUND, reasoning=THOUGHT, reason_ms=41.6, embed_ms=3.2)
    result = run("hot pot", "--reason", "--explain")
    assert api.calls[0]["reason"] is True
    assert result.stderr.splitlines() == [
        "1\t0.500\t6\ttrivet, pot stand",
        "2\t-\t1…\t-",
        "reasoning 42 ms, embedding 3 ms",
    ]
    assert len(result.stdout.splitlines()) == 2
    report = json.loads(run("hot pot", "--reason", "--json").stdout)
    assert report["reasoning"][0]["keywords"] == ["trivet", "pot\tstand"]
    assert report["reasoning"][1]["confidence"] is None
    assert report["reason_ms"] == 41.6
    assert "reasoning" not in json.loads(replaced(api).stdout)
    run("hot pot", "--reason", "--show-body")
    assert api.calls[-1]["reason"] is True


def replaced(api: Api) -> Result:
    api.ranking = FOUND
    return run("hot pot", "--json")
