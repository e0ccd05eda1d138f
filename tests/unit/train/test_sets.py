"""The data of a recipe: what is held out, what a reasoner is told, what is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lrem_os.errors import DatasetError
from tests.fakes.training import TOPICS

pytest.importorskip("torch")

from lrem_os.train import sets
from lrem_os.train.settings import Data


def data(root: Path, **changes: object) -> Data:
    values = {
        "root": root,
        "queries": {"retail": "teacher/retail.jsonl", "general": "teacher/general.jsonl"},
        "catalogs": {"retail": "retail/catalog.jsonl.gz"},
        "validation_share": 0.0,
    }
    return Data.model_validate({**values, **changes})


def test_sets_hold_queries_and_item_texts(shop: Path) -> None:
    retail, general = sets.read_sets(data(shop))
    assert len(retail.train) == len(TOPICS) + 1
    assert retail.held_out == general.held_out == ()
    assert retail.texts["p0"] == "Grey wool socks\nAcme"
    assert general.rows == {}
    card = sets.data_card([retail, general])
    assert card["retail"] | {"files": {}} == {
        "files": {}, "queries": 7, "held_out": 0, "easy": 1, "with_reasoning": 6, "items": 12, "pairs": 7,
        "pairs_not_in_catalog": 0,
    }  # fmt: skip
    assert list(card["retail"]["files"]) == ["teacher/retail.jsonl", "retail/catalog.jsonl.gz"]


def test_only_queries_with_a_catalog_are_held_out(shop: Path) -> None:
    retail, general = sets.read_sets(data(shop, validation_share=0.5))
    assert 0 < len(retail.held_out) < 7
    assert len(retail.train) + len(retail.held_out) == 7
    assert len(general.train) == 2


def test_folds_part_the_queries(shop: Path) -> None:
    parts = [sets.read_sets(data(shop, without_fold=fold))[0] for fold in (0, 1)]
    ids = [{query.query_id for query in part.train} for part in parts]
    assert ids[0] & ids[1] == set()
    assert len(ids[0] | ids[1]) == 7
    assert all(sets.fold_of(query, 2) == 1 for query in ids[0])


def test_a_reasoner_is_told_nothing_about_easy_and_head_queries(shop: Path) -> None:
    lines = sets.teacher_lines(sets.read_sets(data(shop)), 3)
    told = {line.query: line.reasoning for line in lines}
    assert told["cold feet"] == "wool socks, slippers"
    assert told["yellow umbrella"] == ""
    assert told["quiet evening"] == "tea, novel"
    assert told["acme"] == ""  # the brand of all products
    assert lines == sets.teacher_lines(sets.read_sets(data(shop)), 3)


def test_named_items_are_kept_and_others_drawn(shop: Path) -> None:
    retail = sets.read_sets(data(shop))[0]
    named = {f"p{row}" for row in range(6)} | {"x0"}
    assert set(sets.with_distractors(retail, 0)) == named
    assert len(sets.with_distractors(retail, 2)) == 9
    assert sets.with_distractors(retail, None) == retail.texts


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl.gz"
    for content, words in ((b'{"id": "a"}\n{', ":2: is not JSON"), (b'{"id": "a"}\n[]', ":2: is not a JSON object")):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(DatasetError, match=words):
            list(sets.read_rows(path))
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' * 100)[:20])
    with pytest.raises(DatasetError, match="cannot be read"):
        list(sets.read_rows(path))
    with pytest.raises(DatasetError, match="cannot be read"):
        list(sets.read_rows(tmp_path / "none.jsonl"))
