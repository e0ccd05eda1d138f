from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrem_os.cli import cli
from lrem_os.config import SearchSettings, Settings
from lrem_os.errors import DatasetError, InputError, QueryError, RunError
from lrem_os.eval.datasets import text_id
from lrem_os.eval.sbs_votes import read_key
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.side_by_side import make_sheet, score_sheets
from lrem_os.types import Hit, Query, Ranking
from tests.fakes.opensearch import FakeOpenSearch, Index

PRODUCTS = [
    {"id": "d1", "title": "Kettle", "brand": "Acme", "price": 25},
    {"id": "d2", "title": "Pot", "brand": "Acme", "price": 30},
    {"id": "d3", "title": "Pan"},
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    queries = [{"qid": f"q{idx}", "query": f"query {idx}", "type": "easy"} for idx in range(4)]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    Path("catalog.jsonl").write_text("not json\n{}\n" + "".join(json.dumps(row) + "\n" for row in PRODUCTS))
    Path("a.trec").write_text("".join(f"q{idx} Q0 d1 1 9 a\n" for idx in range(3)))
    Path("b.trec").write_text("".join(f"q{idx} Q0 d{min(idx + 1, 3)} 1 9 b\n" for idx in range(3)))
    return tmp_path


def page_of(path: Path) -> dict[str, Any]:
    (found,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    value: dict[str, Any] = json.loads(found)
    return value


def test_a_sheet_from_run_files_and_a_catalog(data: Path) -> None:
    sheet = make_sheet(
        Settings(), runs=["a.trec", "b.trec"], queries="q.jsonl", catalog="catalog.jsonl", out="out/sheet.html"
    )
    assert (sheet.num_pairs, sheet.num_same, sheet.num_unanswered, sheet.num_unknown) == (2, 1, 1, 0)
    key = read_key(sheet.key)
    assert (key.runs, key.alike) == (("a", "b"), ("q0",))
    page = page_of(sheet.page)
    assert page["sheet"] == key.sheet
    for pair in page["pairs"]:
        left_title = pair["left"][0]["title"]
        assert (left_title == "Kettle") == (key.left[pair["query_id"]] == "a")
    assert {tuple(pair[side][0]["facts"]) for pair in page["pairs"] for side in ("left", "right")} == {
        ("Acme", "price 25"),
        ("Acme", "price 30"),
        (),
    }


@pytest.fixture
def cluster() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as fake:
        fake.indices["products"] = Index({}, {}, set(), visible={row["id"]: row for row in PRODUCTS[:2]})
        yield fake


def test_without_a_catalog_the_index_knows_the_products(data: Path, cluster: FakeOpenSearch) -> None:
    settings = Settings(search=SearchSettings(hosts=(cluster.url,)))
    sheet = make_sheet(settings, runs=["a.trec", "b.trec"], queries="q.jsonl", out="sheet.html")
    assert sheet.num_unknown == 1  # d3 is not in the index: its id is shown
    titles = {
        item["title"] for pair in page_of(sheet.page)["pairs"] for side in ("left", "right") for item in pair[side]
    }
    assert titles == {"Kettle", "Pot", "d3"}
    (asked,) = [request for request in cluster.requests if request.action == "_mget"]
    assert json.loads(asked.body) == {"ids": ["d1", "d2", "d3"]}


def test_queries_of_an_index(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pages(index: str, *_: object) -> Iterator[list[dict[str, Any]]]:
        asked.append(index)
        yield [{"user_query": "Pot"}, {"user_query": "pot"}, {"user_query": "pan"}]

    monkeypatch.setattr("lrem_os.side_by_side.ubi_pages", lambda _settings: pages)
    for name, found in (("a", "d1"), ("b", "d2")):
        Path(f"{name}.trec").write_text(f"{text_id('pot')} Q0 {found} 1 9 x\n{text_id('pan')} Q0 d3 1 9 x\n")
    sheet = make_sheet(
        Settings(), runs=["a.trec", "b.trec"], queries="ubi:7d", catalog="catalog.jsonl", out="sheet.html"
    )
    assert asked == ["ubi_queries"]
    assert (sheet.num_pairs, sheet.num_same) == (1, 1)
    assert [pair["query"] for pair in page_of(sheet.page)["pairs"]] == ["Pot"]


class Always:
    """Finds the same for every query."""

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        assert top_k == 10
        return [Ranking((Hit("d2", 1.0),)) for _ in queries]


def test_only_as_many_candidates_are_needed_as_are_shown(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServedRuns, "open", lambda *_: Always())
    settings = Settings(search=SearchSettings(candidates=50))
    options: Any = {"runs": ["hybrid", "a.trec"], "queries": "q.jsonl", "catalog": "catalog.jsonl", "out": "sheet.html"}
    assert settings.eval.top_k > 50
    assert make_sheet(settings, top_k=10, **options).num_pairs == 4
    with pytest.raises(QueryError, match="run 'hybrid': 60 hits are asked for"):
        make_sheet(settings, top_k=60, **options)


@pytest.mark.parametrize(
    ("runs", "error", "message"),
    [
        (["a.trec"], InputError, "1 runs were given: side by side are two"),
        (["a.trec", "b.trec", "c.trec"], InputError, "3 runs were given"),
        (["a.trec", "a.trec"], RunError, "two runs are called 'a'"),
        (["a.trec", "absent.trec"], DatasetError, "cannot read it"),
        (
            ["a.trec", "c=a.trec"],
            InputError,
            "nothing to judge: of 4 queries both runs answer 3 alike, and 1 not at all",
        ),
    ],
)
def test_runs_that_make_no_sheet(data: Path, runs: list[str], error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        make_sheet(Settings(), runs=runs, queries="q.jsonl", catalog="catalog.jsonl", out="sheet.html")
    assert not Path("sheet.html").exists()


def test_a_catalog_of_something_else_is_refused(data: Path) -> None:
    Path("other.jsonl").write_text('{"id": "z", "title": "Z"}\n')
    with pytest.raises(DatasetError, match=r"other\.jsonl: none of the products that the runs found"):
        make_sheet(Settings(), runs=["a.trec", "b.trec"], queries="q.jsonl", catalog="other.jsonl", out="s.html")


def test_the_commands_from_sheet_to_score(data: Path) -> None:
    made = CliRunner().invoke(
        cli,
        [
            "eval",
            "sbs",
            "--runs",
            "a.trec,b.trec",
            "--queries",
            "q.jsonl",
            "--catalog",
            "catalog.jsonl",
            "--out",
            "s.html",
        ],
    )
    assert made.exit_code == 0, made.output
    assert "s.html: 2 queries to judge" in made.stdout
    assert "1 queries are answered alike" in made.stdout
    key = read_key("s.key.json")
    choice = {query_id: "left" if run == "b" else "right" for query_id, run in key.left.items()}
    votes = [{"query_id": query_id, "choice": side} for query_id, side in choice.items()]
    Path("ann.json").write_text(
        json.dumps({"schema": "lrem-os/sbs-votes/1", "sheet": key.sheet, "judge": "Ann", "votes": votes})
    )
    scored = CliRunner().invoke(cli, ["eval", "sbs", "score", "ann.json", "--json"])
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["overall"]["gsb"] == pytest.approx(2 / 3)
    table = CliRunner().invoke(cli, ["eval", "sbs", "score", "ann.json"])
    assert "GSB of b over a" in table.stdout
    assert "+0.667" in table.stdout
    assert "agreement: unknown" in table.stdout


def test_no_votes_are_an_error() -> None:
    with pytest.raises(InputError, match="no votes were given"):
        score_sheets([])
    with pytest.raises(DatasetError, match=r"absent\.json: no such file"):
        score_sheets(["absent.json"])
