from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import LoadedSettings, Settings
from lrem_os.errors import RunError
from lrem_os.eval.datasets import text_id
from lrem_os.lines import claimed_folder
from lrem_os.robustness import study
from lrem_os.robustness.paraphraser import Paraphraser
from lrem_os.robustness.study import TO_ASK, StudyOptions, preview_study, study_robustness
from lrem_os.types import Hit, Query, Ranking
from tests.fakes.openai_server import FakeOpenAI

SETTINGS = Settings.model_validate({"eval": {"bootstrap": 100}})


class Served:
    """Answers every query with the relevant product."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def check(self, _spec: object) -> None: ...

    def key(self, *_: object) -> dict[str, Any]:
        return {}

    def system(self, _specs: object) -> dict[str, Any]:
        return {}

    def open(self, *_: object) -> Served:
        return self

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        return [Ranking((Hit("a", 1.0),)) for _ in queries]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "q.tsv").write_text("q1\tred sofa\nq2\tblue bag\n")
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\nq2 0 a 1\n")
    return {"runs": ["bm25"], "queries": tmp_path / "q.tsv", "qrels": tmp_path / "qrels.txt"}


def test_a_preview_asks_for_no_paraphrase_and_counts_those_that_are_not_kept(
    files: dict[str, Any], tmp_path: Path
) -> None:
    with FakeOpenAI() as server:
        asked = Paraphraser(server.url, "m")
        options = StudyOptions(families=("paraphrase",), seeds=(5, 27), paraphraser=asked, work=tmp_path / "work")
        first = preview_study(SETTINGS, **files, options=options)
        assert not server.calls
        assert not (tmp_path / "work").exists()
        assert first["paraphrases_to_ask"] == 4
        assert {row["way"] for row in first["queries"]} == {TO_ASK}
        one = replace(options, seeds=(5,), limit=1)
        study._families(one, None)["paraphrase"]([Query("q1", "red sofa")], 5)  # asks, and keeps the answer
        assert len(server.calls) == 1
        second = preview_study(SETTINGS, **files, options=options)
        assert len(server.calls) == 1
    assert second["paraphrases_to_ask"] == 3
    assert [row["way"] == TO_ASK for row in second["queries"]] == [False, True, True, True]


def test_queries_may_come_from_a_log(files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pages(*_: object) -> Iterator[list[dict[str, Any]]]:
        yield [{"user_query": "red sofa"}]

    monkeypatch.setattr(study, "ubi_pages", lambda _settings: pages)
    (tmp_path / "qrels.txt").write_text(f"{text_id('red sofa')} 0 a 1\n")
    found = preview_study(SETTINGS, **files | {"queries": "ubi:7d"})
    assert {row["query"] for row in found["queries"]} == {"red sofa"}


def test_the_card_holds_the_hash_of_the_settings_that_were_given(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "ServedRuns", Served)
    result = study_robustness(SETTINGS, **files, options=StudyOptions(work=None))
    assert result.card.config_hash == LoadedSettings(SETTINGS, {}, None).settings_hash


def test_two_studies_do_not_write_into_one_folder(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "ServedRuns", Served)
    folder = tmp_path / "work"
    with claimed_folder(folder, hint="wait"), pytest.raises(RunError, match="another run is writing into the folder"):
        study_robustness(SETTINGS, **files, options=StudyOptions(work=folder))
    study_robustness(SETTINGS, **files, options=StudyOptions(work=folder))
    assert (folder / "bm25.clean.jsonl").exists()
