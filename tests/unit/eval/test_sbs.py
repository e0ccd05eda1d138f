from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings
from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.sbs import (
    VOTES_SCHEMA,
    Item,
    build_item,
    build_key,
    draw_pairs,
    page_data,
    sample_queries,
    sheet_id,
)
from lrem_os.eval.sbs_score import krippendorff_alpha, score_votes, to_dict
from lrem_os.eval.sbs_votes import Key, find_key, read_key, read_votes
from lrem_os.types import Hit, Query, Ranking

QUERIES = [Query(f"q{idx}", f"query {idx}", "even" if idx % 2 == 0 else "odd") for idx in range(40)]


def run(*ids: str, of: list[Query] = QUERIES) -> dict[str, Ranking]:
    return {q.query_id: Ranking(tuple(Hit(doc_id, -float(rank)) for rank, doc_id in enumerate(ids))) for q in of}


def test_every_query_is_shown_not_shown_or_left_out() -> None:
    a = run("x", "y", of=QUERIES[:30])
    b = run("y", "x", of=QUERIES[:20]) | run("x", "y", "z", of=QUERIES[20:25])
    draw = draw_pairs(QUERIES, a, b, top_k=2, seed=0)
    assert [pair.query for pair in draw.pairs] == [*QUERIES[:20], *QUERIES[25:30]]
    assert draw.same == tuple(QUERIES[20:25])  # alike in what is shown
    assert draw.unanswered == tuple(QUERIES[30:])
    assert draw_pairs(QUERIES, a, b, top_k=3, seed=0).same == ()


def test_both_runs_stand_left_and_the_seed_decides_where() -> None:
    a, b = run("x"), run("y")
    sides = [[pair.a_is_left for pair in draw_pairs(QUERIES, a, b, top_k=1, seed=seed).pairs] for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]
    assert 5 < sum(sides[0]) < 35
    draws = [draw_pairs(QUERIES, a, b, top_k=1, seed=seed) for seed in (0, 1)]
    assert len({sheet_id(draw, ("a", "b"), top_k=1, seed=0) for draw in draws}) == 2


def test_a_sample_is_drawn_without_replacement() -> None:
    drawn = sample_queries(QUERIES, 10, seed=3)
    assert len({query.query_id for query in drawn}) == 10
    assert drawn == sample_queries(QUERIES, 10, seed=3) != sample_queries(QUERIES, 10, seed=4)
    assert sorted(sample_queries(QUERIES, None, seed=0), key=QUERIES.index) == QUERIES
    assert len(sample_queries(QUERIES, 1000, seed=0)) == 40


def test_nothing_to_judge_is_said_with_numbers() -> None:
    with pytest.raises(InputError, match="of 40 queries both runs answer 30 alike, and 10 not at all"):
        draw_pairs(QUERIES, run("x", of=QUERIES[:30]), run("x", of=QUERIES[:30]), top_k=5, seed=0)


def test_the_page_holds_no_run_and_no_id_of_a_product() -> None:
    draw = draw_pairs(QUERIES, run("doc-of-a"), run("doc-of-b"), top_k=1, seed=0)
    items = {"doc-of-a": Item("Kettle", ("Acme",)), "doc-of-b": Item("Pot")}
    text = json.dumps(page_data(draw, items, "0" * 16))
    assert "doc-of" not in text
    assert '"a_is_left"' not in text
    first = page_data(draw, items, "0" * 16)["pairs"][0]
    assert {first["left"][0]["title"], first["right"][0]["title"]} == {"Kettle", "Pot"}


@pytest.mark.parametrize(
    ("fields", "item"),
    [
        (None, Item("d1")),
        ({"brand": "Acme"}, Item("d1")),
        (
            {"title": "Pot", "brand": "Acme", "price": 9.5, "description": "a\n b "},
            Item("Pot", ("Acme", "price 9.5"), "a b"),
        ),
        ({"title": "Pot", "brand": None, "attributes": {"a": 1}}, Item("Pot")),
    ],
)
def test_an_item_is_what_is_known(fields: dict[str, Any] | None, item: Item) -> None:
    assert build_item("d1", fields, CatalogSettings()) == item


def test_a_long_description_is_cut() -> None:
    text = build_item("d1", {"title": "Pot", "description": "x" * 999}, CatalogSettings()).text
    assert (len(text), text[-1]) == (220, "…")


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """Four shown queries and one that both runs answer alike."""
    shown, alike = QUERIES[:4], QUERIES[4:5]
    draw = draw_pairs(
        QUERIES[:5], run("x", of=shown) | run("z", of=alike), run("y", of=shown) | run("z", of=alike), top_k=1, seed=0
    )
    content = build_key(draw, ("old", "new"), sheet="s1", top_k=1, seed=0)
    (tmp_path / "sheet.key.json").write_text(json.dumps(content))
    return read_key(tmp_path / "sheet.key.json")


def votes(folder: Path, name: str, choices: dict[str, str], **parts: Any) -> Path:
    path = folder / f"votes-{name}.json"
    rows = [{"query_id": query_id, "choice": choice} for query_id, choice in choices.items()]
    path.write_text(json.dumps({"schema": VOTES_SCHEMA, "sheet": "s1", "judge": name, "votes": rows} | parts))
    return path


def side(key: Key, query_id: str, run_name: str) -> str:
    return "left" if key.left[query_id] == run_name else "right"


def test_votes_become_gsb_by_hand(tmp_path: Path, key: Key) -> None:
    ann = votes(tmp_path, "ann", {"q0": side(key, "q0", "new"), "q1": side(key, "q1", "new"), "q2": "same"})
    ben = votes(tmp_path, "ben", {"q0": side(key, "q0", "new"), "q1": side(key, "q1", "old"), "q2": "skip"})
    score = score_votes(key, read_votes([ann, ben], key), resamples=200, seed=0)
    overall = score.overall
    assert (overall.good, overall.same, overall.bad, overall.num_queries) == (3, 1, 1, 4)
    assert overall.gsb == pytest.approx(2 / (5 + 5 / 4))  # q4, alike, weighs what the four shown do on average
    assert -1 <= overall.low < overall.gsb < overall.high <= 1
    assert {kind: (part.good, part.same, part.bad) for kind, part in score.by_type.items()} == {
        "even": (2, 1, 0),
        "odd": (1, 0, 1),
    }
    assert (score.judges, score.skipped, score.unjudged, score.num_alike) == ({"ann": 3, "ben": 2}, 1, 1, 1)
    assert score.num_shared == 2
    assert to_dict(score)["overall"]["gsb"] == overall.gsb


def test_the_interval_is_the_same_every_time_and_narrow_where_all_agree(tmp_path: Path, key: Key) -> None:
    file = votes(tmp_path, "ann", {query_id: side(key, query_id, "new") for query_id in key.left})
    scores = [score_votes(key, read_votes([file], key), resamples=300, seed=7) for _ in range(2)]
    assert scores[0] == scores[1]
    assert scores[0].overall.gsb == pytest.approx(4 / 5)
    assert scores[0].agreement is None


def test_queries_answered_alike_weigh_the_same_however_the_sheet_is_split(tmp_path: Path) -> None:
    queries = [Query(f"q{idx}", "text") for idx in range(120)]
    shown, alike = queries[:60], queries[60:]
    a, b = (run(first, of=shown) | run("z", of=alike) for first in ("x", "y"))
    (tmp_path / "sheet.key.json").write_text(
        json.dumps(build_key(draw_pairs(queries, a, b, top_k=1, seed=0), ("old", "new"), sheet="s1", top_k=1, seed=0))
    )
    key = read_key(tmp_path / "sheet.key.json")
    ids = list(key.left)
    parts = {"all": [ids], "thirds": [ids[:20], ids[20:40], ids[40:]], "half": [ids[:30]], "twice": [ids, ids]}
    for name, judges in parts.items():
        files = [
            votes(tmp_path, f"{name}{at}", {query_id: side(key, query_id, "new") for query_id in part})
            for at, part in enumerate(judges)
        ]
        overall = score_votes(key, read_votes(files, key), resamples=300, seed=0).overall
        assert overall.gsb == pytest.approx(0.5)
        assert 0.3 < overall.low < 0.5 < overall.high < 0.7


def test_nobody_decided_anything(tmp_path: Path, key: Key) -> None:
    with pytest.raises(InputError, match="no query is decided in any sheet"):
        score_votes(key, read_votes([votes(tmp_path, "ann", {"q0": "skip"})], key), resamples=10, seed=0)


@pytest.mark.parametrize(
    ("choices", "parts", "message"),
    [
        ({}, {"schema": "other"}, "schema is 'other', want 'lrem-os/sbs-votes/1'"),
        ({}, {"sheet": "s2"}, "votes on the sheet 's2', but the key is of 's1'"),
        ({}, {"judge": " "}, "judge is ' ': want a name"),
        ({}, {"votes": {}}, r"votes is \{\}: want a list"),
        ({}, {"votes": ["left"]}, "vote 1: query None is not in the sheet"),
        ({"q9": "left"}, {}, "vote 1: query 'q9' is not in the sheet"),
        ({"q4": "left"}, {}, "vote 1: query 'q4' is not in the sheet"),
        ({"q0": "both"}, {}, "vote 1, query 'q0': choice 'both'; want left, same, right, skip"),
        ({}, {"votes": [{"query_id": "q0", "choice": "left"}] * 2}, "vote 2: query 'q0' is voted on twice"),
    ],
)
def test_votes_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, key: Key, choices: dict[str, str], parts: dict[str, Any], message: str
) -> None:
    path = votes(tmp_path, "ann", choices, **parts)
    with pytest.raises(DatasetError, match=message) as caught:
        read_votes([path], key)
    assert caught.value.path == str(path)


def test_a_judge_votes_once(tmp_path: Path, key: Key) -> None:
    first, second = votes(tmp_path, "ann", {"q0": "left"}), votes(tmp_path, "ANN ", {"q0": "right"})
    with pytest.raises(DatasetError, match=r"judge 'ANN' has already voted in .*votes-ann\.json"):
        read_votes([first, second], key)


def test_files_that_are_none(tmp_path: Path, key: Key) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DatasetError, match="broken JSON"):
        read_votes([tmp_path / "broken.json"], key)
    with pytest.raises(DatasetError, match="cannot read it"):
        read_key(tmp_path / "absent.key.json")
    value = json.loads((tmp_path / "sheet.key.json").read_text())
    value["pairs"]["q0"]["left"] = "third"
    (tmp_path / "other.key.json").write_text(json.dumps(value))
    with pytest.raises(DatasetError, match="a damaged key: 'third' is none of its runs"):
        read_key(tmp_path / "other.key.json")
    (tmp_path / "other.key.json").write_text(json.dumps(value | {"runs": ["one"]}))
    with pytest.raises(DatasetError, match="a damaged key"):
        read_key(tmp_path / "other.key.json")


def test_the_key_beside_the_votes_is_found_if_it_is_the_only_one(
    tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_key([tmp_path / "votes.json"]) == tmp_path / "sheet.key.json"
    (tmp_path / "other.key.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"2 keys lie there: other\.key\.json, sheet\.key\.json"):
        find_key([tmp_path / "votes.json"])


def test_alpha_of_the_published_example() -> None:
    """Krippendorff (2011), section D: 12 units, 4 observers, missing values; interval metric: 0.849."""
    rows = (
        (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
        (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
    )
    units = [[value for value in unit if value is not None] for unit in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.849, abs=5e-4)


@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), max_size=4), max_size=15))
def test_alpha_is_at_most_one_and_one_where_all_agree(units: list[list[int]]) -> None:
    alpha = krippendorff_alpha(units)
    assert alpha is None or alpha <= 1 + 1e-12
    agreed = krippendorff_alpha([[unit[0]] * len(unit) for unit in units if unit])
    assert agreed is None or agreed == pytest.approx(1.0)


def test_alpha_of_chance_is_about_zero() -> None:
    rng = np.random.default_rng(0)
    alpha = krippendorff_alpha(rng.integers(-1, 2, size=(4000, 2)).tolist())
    assert alpha == pytest.approx(0.0, abs=0.06)
