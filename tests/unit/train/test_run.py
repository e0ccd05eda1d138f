"""A run from recipe to output: what is written, what is refused, and that every recipe runs dry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.training import metric, weights

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from lrem_os.errors import CheckpointError, ConfigError, DatasetError  # noqa: E402
from lrem_os.train.recipes import load_recipe  # noqa: E402
from lrem_os.train.run import train  # noqa: E402

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
ADAPTER = ("lora={rank: 4, alpha: 8}", "optimisation.epochs=2")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_dry(path: Path, shop: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    named = {"retail", "general"} & set(recipe.data.queries)
    overrides = [
        f"data.root={shop}",
        f"data.queries={json.dumps({name: recipe.data.queries[name] for name in named})}",
        f"data.catalogs={json.dumps({'retail': recipe.data.catalogs['retail']})}",
        "device=cpu",
    ]
    report = train(load_recipe(path, overrides), tmp_path / "out", dry_run=True)
    assert report is not None
    assert report.steps == 2
    assert report.output is None
    assert report.trained_parameters > 0
    assert not (tmp_path / "out").exists()


def test_a_run_writes_adapter_cards_and_recipe(make_recipe: Callable[..., Any], causal: Path, tmp_path: Path) -> None:
    recipe = make_recipe("reasoner", *ADAPTER)
    out = tmp_path / "out"
    report = train(recipe, out)
    assert report is not None
    assert report.weights == out / "adapter"
    assert load_recipe(out / "recipe.yaml", [f"data.root={recipe.data.root}"]) == recipe
    assert str(recipe.data.root) not in (out / "README.md").read_text(encoding="utf-8")
    card = json.loads((out / "data-card.json").read_text(encoding="utf-8"))
    assert card["sets"]["retail"]["queries"] == 7
    assert card["stage"] == {"lines": 12, "lines_without_reasoning": 4}  # one easy, three head queries
    config = json.loads((out / "adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == causal.name
    assert len(config["revision"]) == 40
    assert str(causal.parent) not in (out / "README.md").read_text(encoding="utf-8").split("## Recipe")[0]
    assert sorted(path.name for path in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert len(metric(out / "metrics.csv", "loss")) == report.steps


def test_an_adapter_is_what_inference_loads(make_recipe: Callable[..., Any], causal: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from lrem_os.model.adapters import load_adapter

    train(make_recipe("lrem", *ADAPTER, "optimisation.learning_rate=1e-2"), tmp_path / "out")
    trained = weights(tmp_path / "out/checkpoint")
    saved = weights(tmp_path / "out/adapter")
    assert any("trainable_tokens" in name for name in saved)
    for name, value in trained.items():
        if name.startswith("weight.") and "lora" in name:
            stored = name.removeprefix("weight.").replace(".default", "")
            assert torch.equal(saved[stored], value)
    from transformers import AutoTokenizer

    from lrem_os.model.unified import add_special_tokens, check_special_tokens

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(str(causal)),
        AutoTokenizer.from_pretrained(str(tmp_path / "out/adapter")),
    )
    add_special_tokens(model, AutoTokenizer.from_pretrained(str(causal)))
    before = model.get_input_embeddings().weight.detach().clone()
    merged = load_adapter(model, tmp_path / "out/adapter", base=causal.name)
    ids = list(check_special_tokens(merged, tokenizer, "tiny").values())
    after = merged.get_input_embeddings().weight
    assert (after[ids] != before[ids]).any(1).all()
    assert torch.equal(after[: min(ids)], before[: min(ids)])
    assert torch.equal(merged.get_output_embeddings().weight, after)


def test_a_later_stage_goes_on_with_an_adapter(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("reasoner", *ADAPTER), tmp_path / "first")
    first = weights(tmp_path / "first/adapter")
    adapter = f"base.adapter={tmp_path / 'first/adapter'}"
    slow = ("optimisation.learning_rate=1e-9", "optimisation.max_steps=1")
    train(make_recipe("rl", *ADAPTER, adapter, *slow), tmp_path / "second")
    second = weights(tmp_path / "second/adapter")
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-6)
    with pytest.raises(ConfigError, match=r"lora\.rank is 8, but the adapter in .* has 4"):
        train(make_recipe("rl", adapter, "lora={rank: 8}"), tmp_path / "third")
    with pytest.raises(CheckpointError, match="nowhere"):
        train(make_recipe("rl", f"base.adapter={tmp_path / 'nowhere'}"), tmp_path / "third")


def test_another_recipe_does_not_go_on_unless_told_to(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(make_recipe("reasoner", *ADAPTER), out)
    other = make_recipe("reasoner", *ADAPTER, "optimisation.seed=1")
    with pytest.raises(CheckpointError, match="another recipe") as caught:
        train(other, out)
    assert "--restart" in str(caught.value.hint)
    assert load_recipe(out / "recipe.yaml").optimisation.seed == 0  # not replaced
    again = train(make_recipe("reasoner", *ADAPTER, "optimisation.save_every=7"), out)  # decides no weights
    assert again is not None
    assert again.metrics == {}  # nothing was left to do
    report = train(other, out, restart=True)
    assert report is not None
    assert load_recipe(out / "recipe.yaml").optimisation.seed == 1
    assert len(metric(out / "metrics.csv", "loss")) == report.steps


def test_seeds_decide_the_weights(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(make_recipe("reasoner", *ADAPTER, f"optimisation.seed={seed}"), tmp_path / name)
    a, b, c = (weights(tmp_path / name / "adapter") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_bfloat16_keeps_trained_weights_in_float32(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    full, mixed = (
        train(make_recipe("reasoner", *ADAPTER, f"dtype={dtype}"), tmp_path / dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert full is not None
    assert mixed is not None
    assert {value.dtype for value in weights(tmp_path / "bfloat16/adapter").values()} == {torch.float32}
    assert mixed.metrics["loss"] == pytest.approx(full.metrics["loss"], rel=0.05)
    assert mixed.metrics["loss"] != full.metrics["loss"]


def test_what_cannot_work_is_refused_by_name(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"retail\.jsonl: cannot be read"):
        train(make_recipe("reasoner", f"data.root={tmp_path}"), tmp_path / "out")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device is cuda"):
            train(make_recipe("reasoner", "device=cuda"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"base\.model_type is 'nonsense'"):
        train(make_recipe("reasoner", "base.model_type=nonsense"), tmp_path / "out", dry_run=True)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be written"):
        train(make_recipe("reasoner"), tmp_path / "file")


def test_the_trained_reasoner_is_merged_for_full_training(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("reasoner", *ADAPTER), tmp_path / "first")
    recipe = make_recipe(
        "reasoner", f"base.adapter={tmp_path / 'first/adapter'}", "lora=null", "optimisation.max_steps=1"
    )
    report = train(recipe, tmp_path / "second")
    assert report is not None
    assert report.weights == tmp_path / "second/model"
    first = metric(tmp_path / "first/metrics.csv", "loss")
    assert report.metrics["loss"] < first[0]
