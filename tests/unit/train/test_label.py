"""Gain labels in a file: who is helped, and that a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrem_os.config import ReasoningSettings
from lrem_os.errors import CheckpointError
from lrem_os.model.composed import ComposedEmbedder
from lrem_os.model.fake import FakeEmbedder
from lrem_os.types import Reasoning
from tests.fakes.training import TOPICS, recipe_values, write_recipe

pytest.importorskip("accelerate")

from lrem_os.train.label import write_gains
from lrem_os.train.recipes import load_recipe
from lrem_os.train.sets import TrainingSet, read_sets


class Knowing:
    """Knows the product of every query but the last two."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        self.asked += queries
        known = {query: title for query, _, title in TOPICS[:-2]}
        return [(Reasoning((known[query],) if query in known else ()),) for query in queries]


def label(sets: list[TrainingSet], out: Path, reasoner: Knowing, **options: Any) -> dict[str, int]:
    settings = ReasoningSettings(name="fake:")
    model = ComposedEmbedder(FakeEmbedder(128), reasoner, settings)
    return write_gains(model, sets, out, reasoning=settings.model_dump(), **options)


def test_gains_are_written_and_a_cut_file_is_completed(shop: Path, causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", recipe_values("reasoner", shop, causal)))
    sets, out = read_sets(recipe.data), tmp_path / "deep/gains.jsonl"
    counts = label(sets, out, Knowing())
    rows = {row["query_id"]: row for row in map(json.loads, out.read_text("utf-8").splitlines())}
    assert counts["queries"] == len(rows) == 7
    assert counts["helped"] >= 2
    for row in range(4):
        assert rows[f"q{row}"]["rank_reasoned"] == 1
        assert rows[f"q{row}"]["gain"] >= 0
    assert rows["q5"]["gain"] == 0  # nothing was reasoned
    assert rows["q0"]["keywords"] == ["Grey wool socks"]
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    again = Knowing()
    assert label(sets, out, again) == counts
    assert out.read_bytes() == whole
    assert 0 < len(set(again.asked)) < 7
    with pytest.raises(CheckpointError, match="another model or other data"):
        label(sets, out, Knowing(), distractors=0)


def test_the_command_labels_with_the_configured_model(shop: Path, causal: Path, tmp_path: Path) -> None:
    from lrem_os.cli.train import train

    recipe = write_recipe(tmp_path / "r.yaml", recipe_values("reasoner", shop, causal))
    fakes = ["--set", "model.name=fake:64", "--set", "reasoning.name=fake:"]
    command = ["gains", str(recipe), "--out", str(tmp_path / "gains.jsonl"), "--json", *fakes]
    done = CliRunner().invoke(train, command, catch_exceptions=False)
    assert json.loads(done.stdout)["queries"] == 7
