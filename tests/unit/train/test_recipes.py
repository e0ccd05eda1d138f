"""Recipes are checked before anything is loaded, and a complaint says where the fault is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.errors import ConfigError
from lrem_os.train.recipes import STAGES, load_recipe, recipe_text

GOOD = """\
stage: reasoner
base: {name: some/model}
data:
  queries: {retail: a.jsonl}
optimisation:
  learning_rate: 5e-4
"""
ROOT = Path(__file__).parents[3]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return f"{caught.value} {caught.value.hint or ''}"


def test_a_recipe_is_read_with_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert load_recipe(path).optimisation.learning_rate == 5e-4
    recipe = load_recipe(path, ["optimisation.learning_rate=1e-3", "lora.rank=4", "data.root=/data"])
    assert recipe.optimisation.learning_rate == 1e-3
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha) == (4, 64)
    assert recipe.data.root == Path("/data")
    assert load_recipe(path, ["lora=null"]).lora is None


@pytest.mark.parametrize("stage", STAGES)
def test_a_written_recipe_is_read_back_as_the_same(tmp_path: Path, stage: str) -> None:
    extra = ["embedders=[{name: some/encoder}]"] if stage == "rl" else []
    recipe = load_recipe(write(tmp_path, GOOD), [f"stage={stage}", "lora.alpha=7", *extra])
    assert load_recipe(write(tmp_path, recipe_text(recipe))) == recipe


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("5e-4", "fast", ["recipe.yaml:6", "optimisation.learning_rate", "'fast'", "a number > 0"]),
        ("learning_rate: 5e-4", "epochs: 0", ["recipe.yaml:6", "optimisation.epochs", "0", ">= 1"]),
        ("learning_rate: 5e-4", "epochs: yes", ["optimisation.epochs", "True"]),
        ("learning_rate", "learning_rat", ["recipe.yaml:6", "optimisation.learning_rat", "learning_rate"]),
        ("optimisation:", "optimization:", ["optimization", "did you mean optimisation?"]),
        ("stage: reasoner", "stage: reason", ["recipe.yaml:1", "'reason'", "reasoner, embedder, lrem, rl"]),
        ("stage: reasoner\n", "", ["stage is None"]),
        ("base: {name: some/model}\n", "", ["base is missing"]),
        ("{retail: a.jsonl}", "{}", ["data.queries"]),
        ("{retail: a.jsonl}", "{retail: a.jsonl}\n  catalogs: {shop: b}", ["'shop'", "data.queries"]),
        ("{name: some/model}", "{name: a, name: b}", ["recipe.yaml:2", "'name' stands twice"]),
        ("{retail: a.jsonl}", "{retail: [}", ["recipe.yaml:4", "not valid YAML"]),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_key_and_value(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    said = complaint(write(tmp_path, GOOD.replace(old, new)))
    for word in words:
        assert word in said


def test_wrong_overrides_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert "no '='" in complaint(path, "optimisation.epochs")
    assert "--set optimisation.epochs" in complaint(path, "optimisation.epochs=-1")
    assert "did you mean epochs?" in complaint(path, "optimisation.epoch=3")
    assert "there are folds 0 to 1" in complaint(path, "data.without_fold=2")


def test_a_missing_file_and_another_stage_are_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in complaint(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="stage is reasoner, not embedder") as caught:
        load_recipe(write(tmp_path, GOOD), stage="embedder")
    assert "lrem-os train reasoner" in str(caught.value.hint)
    assert "a mapping" in complaint(write(tmp_path, "- a list"))


def test_trained_items_need_one_embedder(tmp_path: Path) -> None:
    two = ["stage=rl", "embedders=[{name: a}, {name: b}]", "options.items=trained"]
    assert "name one embedder" in complaint(write(tmp_path, GOOD), *two)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_right(path: Path) -> None:
    kind, _, stage = path.stem.partition("-")
    assert kind in ("small", "gpu", "judge")
    assert load_recipe(path).model_dump()["stage"] == stage.split("-")[0]


def test_the_shipped_reasoner_is_described_by_its_recipe() -> None:
    recipe = load_recipe(ROOT / "recipes/small-reasoner.yaml")
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets, recipe.lora.dropout) == (32, 64, None, 0)
    optimisation = recipe.optimisation
    assert (optimisation.epochs, optimisation.batch_size, optimisation.seed) == (1, 16, 0)
    assert (optimisation.learning_rate, optimisation.warmup, optimisation.weight_decay) == (5e-4, 0.03, 0.01)
    assert list(recipe.data.queries) == ["retail", "icecat", "toys-music", "general"]
    assert list(recipe.data.catalogs) == ["retail", "icecat", "toys-music"]
    assert recipe.data.validation_share == 0.1
    assert recipe.model_dump()["options"] == {"head_queries": 250, "max_reasoning_tokens": 24}
