"""The stages of ours step by step: what the model reads, and that parts of a batch add up to the batch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.training import TOPICS

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from lrem_os.errors import TrainingError  # noqa: E402
from lrem_os.model.unified import add_special_tokens  # noqa: E402
from lrem_os.train.data import TrainingQuery  # noqa: E402
from lrem_os.train.loop import ALONE, Share, Stage  # noqa: E402
from lrem_os.train.reasoner import Line, ReasonerStage  # noqa: E402
from lrem_os.train.unified import UnifiedStage  # noqa: E402

QUERIES = [
    TrainingQuery(f"q{row}", query, "qa", keywords, {f"p{row}": 2, "both": 1}, ("bad",) if row == 0 else ())
    for row, (query, keywords, _) in enumerate(TOPICS)
]
ITEMS = {**{f"p{row}": title for row, (_, _, title) in enumerate(TOPICS)}, "both": "Brass socks", "bad": "Hot ice"}
LINES = [Line("quiet evening", "tea, novel"), Line("first camp", "")]


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(str(folder)), AutoTokenizer.from_pretrained(str(folder))


def unified(folder: Path, **options: Any) -> UnifiedStage:
    torch.manual_seed(0)
    model, tokenizer = load(folder)
    add_special_tokens(model, tokenizer)
    return UnifiedStage(model, tokenizer, {"shop": QUERIES}, {"shop": ITEMS}, LINES, batch_size=6, **options)


def reasoner(folder: Path, **options: Any) -> ReasonerStage:
    model, tokenizer = load(folder)
    lines = [Line(query.query, query.reasoning) for query in QUERIES]
    return ReasonerStage(model, tokenizer, [*lines, *LINES], batch_size=8, **options)


def gradients(stage: Stage) -> tuple[dict[str, Any], dict[str, float]]:
    batch = stage.plan(0, random.Random(0))[0]
    metrics = stage.step(batch, 0, lambda loss: loss.backward())
    return {name: value.grad for name, value in stage.module.named_parameters() if value.grad is not None}, dict(
        metrics
    )


def assert_close(one: Any, two: Any) -> None:
    assert (one - two).abs().max().item() < 1e-4 * max(1.0, one.abs().max().item())


@pytest.mark.parametrize("build", [unified, reasoner])
def test_parts_of_a_batch_have_the_gradient_of_the_batch(build: Any, causal: Path) -> None:
    whole, metrics = gradients(build(causal))
    parts, part_metrics = gradients(build(causal, micro_batch_size=3))
    assert part_metrics == pytest.approx(metrics, abs=1e-5)
    assert whole.keys() == parts.keys()
    for name in whole:
        assert_close(whole[name], parts[name])


@pytest.mark.parametrize("build", [unified, reasoner])
def test_the_mean_over_processes_is_the_gradient_of_the_batch(build: Any, causal: Path) -> None:
    whole, _ = gradients(build(causal, share=ALONE))
    shared = [gradients(build(causal, share=Share(index, 2), micro_batch_size=3))[0] for index in range(2)]
    for name in whole:
        mean = sum(part.get(name, torch.zeros_like(whole[name])) for part in shared) / 2
        assert_close(whole[name], mean)


def test_what_a_unified_model_reads(causal: Path) -> None:
    stage = unified(causal, max_reasoning_tokens=3, max_item_tokens=4)
    _, tokenizer = load(causal)
    add_special_tokens(stage.module, tokenizer)
    end, emb = tokenizer.convert_tokens_to_ids(["</think>", "<emb>"])
    keywords = tokenizer(" wool socks, slippers", add_special_tokens=False)["input_ids"]
    assert len(keywords) > 3
    ids, labels = stage._reasoned[0]
    assert ids[-5:] == [*keywords[:3], end, emb]
    assert labels[-5:] == [*keywords[:3], -100, -100]  # cut: the end is not learnt
    assert set(labels[:-5]) == {-100}
    ids, labels = stage._lines[1]  # nothing to add: the end at once
    assert tokenizer.decode(ids) == "Shopping query: first camp<think></think><emb>"
    assert labels[-3:] == [-100, end, -100]
    assert tokenizer.decode(stage._direct[1][0]) == "Shopping query: dark room<emb>"
    assert {len(ids) for ids, _ in stage._items} == {4}
    assert all(ids[-1] == emb and set(labels) == {-100} for ids, labels in stage._items)


def test_every_query_brings_a_positive_and_what_it_rules_out(causal: Path) -> None:
    stage = unified(causal)
    (batch,) = stage.plan(0, random.Random(3))
    keys = {row: key for (_, key), row in stage._item_rows.items()}
    found = [keys[row] for row in batch.items]
    assert len(found) == len(set(found))
    assert "bad" in found
    for row in batch.rows:
        assert set(stage._queries[row][1].positives) & set(found)
    assert sorted(batch.lines) == [0, 1]
    assert stage.plan(1, random.Random(3)) == [batch]
    assert stage.plan(1, random.Random(4)) != [batch]


def test_a_shared_positive_is_no_negative(causal: Path) -> None:
    """All queries answer to one item, which is the only one: nothing is left to push away."""
    model, tokenizer = load(causal)
    add_special_tokens(model, tokenizer)
    queries = [TrainingQuery(f"q{row}", query, positives={"both": 1}) for row, (query, _, _) in enumerate(TOPICS)]
    stage = UnifiedStage(model, tokenizer, {"shop": queries}, {"shop": ITEMS}, [], batch_size=6)
    _, metrics = gradients(stage)
    assert metrics["direct"] == metrics["reasoned"] == 0.0


def test_queries_without_a_product_are_refused(causal: Path) -> None:
    model, tokenizer = load(causal)
    add_special_tokens(model, tokenizer)
    with pytest.raises(TrainingError, match="no query has a positive"):
        UnifiedStage(model, tokenizer, {"shop": QUERIES}, {"shop": {"other": "x"}}, LINES, batch_size=2)


def test_long_reasoning_is_cut_and_not_ended(causal: Path) -> None:
    _, tokenizer = load(causal)
    eos = tokenizer.eos_token_id
    assert reasoner(causal)._rows[0][1][-1] == eos
    ids, labels = reasoner(causal, max_reasoning_tokens=2)._rows[0]
    assert eos not in ids
    assert sum(label != -100 for label in labels) == 2
