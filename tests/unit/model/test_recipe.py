from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError, ModelError
from lrem_os.model.recipe import read_recipe

BERT = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def with_pooling(folder: Path, pooling: Any) -> Path:
    write(folder / "config.json", BERT)
    write(folder / "modules.json", [{"type": "a.Transformer", "path": ""}, {"type": "b.c.Pooling", "path": "1_P"}])
    write(folder / "1_P/config.json", pooling)
    return folder


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True, "word_embedding_dimension": 8}, "last"),
        ({"pooling_mode": "mean", "embedding_dimension": 8}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_pooling_as_the_makers_write_it(tmp_path: Path, config: Any, pooling: str) -> None:
    assert read_recipe(with_pooling(tmp_path, config)).pooling == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_pooling_that_is_not_implemented_is_refused_unless_overridden(tmp_path: Path, config: Any) -> None:
    folder = with_pooling(tmp_path, config)
    with pytest.raises(ModelError, match="pools by"):
        read_recipe(folder)
    assert read_recipe(folder, "cls").pooling == "cls"


def test_a_module_that_is_not_implemented_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "config.json", BERT)
    write(tmp_path / "modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}])
    with pytest.raises(ModelError, match="'Dense'"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(("architecture", "pooling"), [("BertModel", "mean"), ("Qwen3ForCausalLM", "last")])
def test_a_plain_transformer(tmp_path: Path, architecture: str, pooling: str) -> None:
    write(tmp_path / "config.json", {"architectures": [architecture]})
    assert read_recipe(tmp_path).pooling == pooling


@pytest.mark.parametrize(
    ("config", "sentence", "tokenizer", "expected"),
    [
        ({"max_position_embeddings": 512}, 256, 512, 256),
        ({"max_position_embeddings": 512}, None, 128, 128),
        ({"max_position_embeddings": 512}, None, 10**30, 512),
        ({"max_position_embeddings": 64}, 256, None, 64),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, None, None, 512),
        ({}, None, 10**30, 512),
    ],
)
def test_length(tmp_path: Path, config: Any, sentence: int | None, tokenizer: int | None, expected: int) -> None:
    write(tmp_path / "config.json", config)
    write(tmp_path / "sentence_roberta_config.json", {"max_seq_length": sentence})
    write(tmp_path / "tokenizer_config.json", {"model_max_length": tokenizer})
    assert read_recipe(tmp_path).max_tokens == expected


def test_prompts(tmp_path: Path) -> None:
    write(tmp_path / "config.json", BERT)
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "find: ", "passage": "it: "}})
    recipe = read_recipe(tmp_path)
    assert (recipe.query_prompt, recipe.item_prompt) == ("find: ", "it: ")


@pytest.mark.parametrize("content", ["{", "[]", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path / "config.json", content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_recipe(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_recipe(tmp_path)
