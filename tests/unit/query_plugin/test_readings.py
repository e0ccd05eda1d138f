from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import ReasoningSettings, Settings
from lrem_os.errors import DatasetError, EmbeddingError, GenerationError
from lrem_os.model.load import Models
from lrem_os.query_plugin.readings import Readings
from lrem_os.query_plugin.routing.signals import Signals
from lrem_os.types import Vectors
from tests.fakes.mind import Mind, raises

TEXTS = [f"text {at}" for at in range(20)]


def no_probe(_texts: Sequence[str], _vectors: Vectors) -> list[Signals]:
    raise AssertionError("was probed")


def readings(mind: Mind, kept: Path | None = None, **reasoning: Any) -> Readings:
    settings = ReasoningSettings(**reasoning)
    return Readings(Models(Settings().model, settings, embedder=mind), settings, no_probe, kept=kept)


def test_a_query_without_keywords_has_its_direct_vector() -> None:
    shared = readings(Mind())
    [found] = shared.reasonings(["nothing"])
    [(direct, _)] = shared.vectors(["nothing"])
    assert found.vector == tuple(direct.decimals.tolist())
    assert found.keywords == ()


def test_reasonings_are_kept_and_read_again_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "reasonings.jsonl"
    first = readings(Mind(), path).reasonings(TEXTS)
    mind = Mind()
    again = readings(mind, path).reasonings(TEXTS)
    assert mind.reasoned == []
    assert [one.vector for one in again] == [one.vector for one in first]
    assert [one.keywords for one in again] == [one.keywords for one in first]
    assert [one.reason_ms for one in again] == pytest.approx([one.reason_ms for one in first], abs=1e-3)


def test_a_kill_loses_the_torn_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "reasonings.jsonl"
    readings(Mind(), path).reasonings(TEXTS)
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"\n", 0, len(data) - 1) + 40])
    mind = Mind()
    readings(mind, path).reasonings(TEXTS)
    assert mind.reasoned == [TEXTS[-1]]
    assert len(path.read_bytes().splitlines()) == len(TEXTS)


def test_reasonings_of_other_settings_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "reasonings.jsonl"
    readings(Mind(), path).reasonings(TEXTS[:3])
    mind = Mind()
    readings(mind, path, query_weight=0.9).reasonings(TEXTS[:3])
    assert mind.reasoned == TEXTS[:3]
    third = Mind()
    readings(third, path, weights=(0.1, 0.9), text_boost=0.7).reasonings(TEXTS[:3])
    assert third.reasoned == []  # how a reading is asked with is no part of it


@pytest.mark.parametrize("error", [GenerationError("gone"), EmbeddingError("NaN")])
def test_a_model_that_fails_ends_the_evaluation_and_keeps_what_was_done(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "reasonings.jsonl"
    readings(Mind(), path).reasonings(TEXTS[:8])
    with pytest.raises(type(error), match=str(error)):
        readings(Mind(reasoning=raises(error)), path).reasonings(TEXTS)
    assert len(path.read_bytes().splitlines()) == 8


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        readings(Mind(), tmp_path / "file" / "reasonings.jsonl").reasonings(["a b"])
