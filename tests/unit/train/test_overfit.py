"""Every stage learns a tiny set by heart, and what it wrote can be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.training import TOPICS, metric

pytest.importorskip("accelerate")


def generate(model: Any, tokenizer: Any, prompts: list[str], stop: str) -> list[str]:
    from lrem_os.model.decoding import generate as decode

    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    stop_id = tokenizer.convert_tokens_to_ids(stop)
    rows = decode(model.eval(), ids, max_tokens=24, stop_ids={stop_id}).token_ids
    return [tokenizer.decode([token for token in row if token != stop_id]).strip() for row in rows]


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(str(folder)), AutoTokenizer.from_pretrained(str(folder))


def test_a_reasoner_writes_the_taught_keywords(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    from lrem_os.model.prompts import reason_prompt
    from lrem_os.train.run import train

    recipe = make_recipe(
        "reasoner",
        "optimisation.epochs=60",
        "optimisation.batch_size=9",
        "optimisation.learning_rate=1e-2",
        "options.head_queries=0",
    )
    report = train(recipe, tmp_path / "out")
    assert report is not None
    assert report.steps == 60
    losses = metric(tmp_path / "out/metrics.csv", "loss")
    assert len(losses) == 60
    assert losses[0] > 3
    assert losses[-1] < 0.05
    model, tokenizer = load(tmp_path / "out/model")
    prompts = [reason_prompt(query) for query, _, _ in TOPICS]
    assert generate(model, tokenizer, prompts, "<|end|>") == [keywords for _, keywords, _ in TOPICS]
    assert generate(model, tokenizer, [reason_prompt("yellow umbrella")], "<|end|>") == [""]  # easy: nothing to add


def test_an_embedder_ranks_the_positive_first(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    from lrem_os.config import ModelSettings
    from lrem_os.model.load import load_embedder
    from lrem_os.train.run import train

    recipe = make_recipe(
        "embedder", "optimisation.epochs=40", "optimisation.batch_size=7", "options.items=trained",
        "options.twin_cosine=1.0",
    )  # fmt: skip
    train(recipe, tmp_path / "out")
    losses = metric(tmp_path / "out/metrics.csv", "direct")
    assert losses[-1] < 0.05 < losses[0]
    embedder = load_embedder(ModelSettings(name=str(tmp_path / "out/model"), device="cpu", dtype="float32"))
    items = embedder.embed_items([f"{title}\nAcme" for _, _, title in TOPICS])
    direct, keywords = (embedder.embed_queries([topic[part] for topic in TOPICS]) for part in (0, 1))
    for vectors in (direct, (direct + keywords) / 2):  # what is searched with: keywords alone are not trained to rank
        assert (vectors @ items.T).argmax(1).tolist() == list(range(len(TOPICS)))


def test_a_unified_model_reasons_and_embeds(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    from lrem_os.model.prompts import unified_prompt
    from lrem_os.model.unified import UnifiedEmbedder
    from lrem_os.train.run import train

    recipe = make_recipe(
        "lrem", "optimisation.epochs=60", "optimisation.batch_size=7", "optimisation.learning_rate=1e-2",
        "options.sft_weight=1.0",
    )  # fmt: skip
    train(recipe, tmp_path / "out")
    for name, limit in (("direct", 0.05), ("reasoned", 0.05), ("sft", 1.0)):
        values = metric(tmp_path / "out/metrics.csv", name)
        assert values[-1] < limit < values[0]
    model, tokenizer = load(tmp_path / "out/model")
    prompts = [unified_prompt(query) for query, _, _ in TOPICS]
    assert generate(model, tokenizer, prompts, "</think>") == [keywords for _, keywords, _ in TOPICS]
    embedder = UnifiedEmbedder(
        model.eval(), tokenizer, name="tiny", revision="", max_tokens=64, samples=1, temperature=0,
        max_reasoning_tokens=24,
    )  # fmt: skip
    items = embedder.embed_items([f"{title}\nAcme" for _, _, title in TOPICS])
    queries = [query for query, _, _ in TOPICS]
    for vectors in (embedder.embed_queries(queries), embedder.embed_reasoned(queries).vectors):
        assert (vectors @ items.T).argmax(1).tolist() == list(range(len(TOPICS)))


def test_rl_raises_the_reward(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    from lrem_os.train.run import train

    train(make_recipe("reasoner", "optimisation.epochs=8", "options.head_queries=0"), tmp_path / "first")
    recipe = make_recipe(
        "rl", "optimisation.epochs=20", "optimisation.batch_size=7", "options.group=8", "options.keep=8",
        "options.max_tokens=16", f"base.name={tmp_path / 'first/model'}",
    )  # fmt: skip
    train(recipe, tmp_path / "out")
    for name in ("reward", "ended"):
        values = metric(tmp_path / "out/metrics.csv", name)
        assert len(values) == 20
        assert sum(values[-5:]) / 5 > sum(values[:5]) / 5 + 0.1
