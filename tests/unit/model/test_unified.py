"""The unified model: its three tokens, its refusals, and bad input."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from lrem_os.errors import CheckpointError, EmbeddingError, GenerationError
from lrem_os.model import prompts
from lrem_os.model.prompts import UNIFIED_TOKENS, unified_item, unified_query
from lrem_os.types import Reasoning
from tests.fakes.tiny_llama import QUERIES, tiny_llama, tiny_tokenizer

torch = pytest.importorskip("torch")

from lrem_os.model.generate import Written  # noqa: E402
from lrem_os.model.unified import UnifiedEmbedder, add_special_tokens  # noqa: E402


def unified(*, seed: int = 0, tied: bool = True, **values: Any) -> UnifiedEmbedder:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer), seed=seed, tied=tied)
    add_special_tokens(model, tokenizer)
    return over(model, tokenizer, **values)


def over(model: Any, tokenizer: Any, **values: Any) -> UnifiedEmbedder:
    defaults: dict[str, Any] = {
        "name": "tiny",
        "revision": "1",
        "max_tokens": 24,
        "samples": 3,
        "temperature": 0.9,
        "max_reasoning_tokens": 8,
    }
    return UnifiedEmbedder(model, tokenizer, **{**defaults, **values})


def plain(embedder: UnifiedEmbedder, text: str) -> Any:
    """Return the last state of a text, one at a time, as transformers' manual shows it."""
    tokenizer, model = embedder._reasoner._tokenizer, embedder._reasoner._model
    with torch.no_grad():
        state = model.model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0, -1]
    return (state / state.norm()).numpy()


def test_direct_vectors_are_read_off_emb() -> None:
    embedder = unified(max_tokens=200)
    for query, vector in zip(QUERIES, embedder.embed_queries(QUERIES), strict=True):
        np.testing.assert_allclose(vector, plain(embedder, unified_query(query)), atol=1e-5)
    items = ["Red bag\nleather", "", "usb"]
    for item, vector in zip(items, embedder.embed_items(items), strict=True):
        np.testing.assert_allclose(vector, plain(embedder, unified_item(item)), atol=1e-5)
    assert not np.allclose(embedder.embed_items(["usb"]), embedder.embed_queries(["usb"]), atol=1e-2)


def test_vectors_are_of_length_one_and_float32() -> None:
    embedder = unified()
    reasoned = embedder.embed_reasoned(QUERIES)
    for vectors in (embedder.embed_items(QUERIES), embedder.embed_queries(QUERIES), reasoned.vectors):
        assert (vectors.shape, vectors.dtype) == ((len(QUERIES), embedder.dimension), np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert [len(samples) for samples in reasoned.reasonings] == [3] * len(QUERIES)
    assert min(reasoned.reason_ms, reasoned.embed_ms) > 0
    assert list(reasoned.reasonings) == embedder.reason(QUERIES)


def test_a_long_item_loses_its_end_and_keeps_emb() -> None:
    embedder = unified(max_tokens=12)
    one, other, short = embedder.embed_items(["red " * 30 + "usb", "red " * 30 + "blue", "red"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert abs(one @ short) < 0.9999


def test_a_long_query_is_cut_alike_in_both_modes() -> None:
    embedder = unified(max_tokens=200)
    long, longer = "red leather handbag " * 60, "red leather handbag " * 5_000
    np.testing.assert_allclose(embedder.embed_queries([long]), embedder.embed_queries([longer]), atol=1e-6)
    np.testing.assert_allclose(
        embedder.embed_reasoned([long]).vectors, embedder.embed_reasoned([longer]).vectors, atol=1e-6
    )


def test_a_typed_special_token_is_only_a_blank() -> None:
    embedder = unified()
    for embed in (embedder.embed_items, embedder.embed_queries, lambda texts: embedder.embed_reasoned(texts).vectors):
        one, other = (
            embed(["red <emb> bag", "red   bag"])
            if embed == embedder.embed_items
            else embed(["red<emb>bag", "red bag"])
        )
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_nothing_in_nothing_out() -> None:
    embedder = unified()
    assert embedder.embed_items([]).shape == embedder.embed_queries([]).shape == (0, embedder.dimension)
    reasoned = embedder.embed_reasoned([])
    assert (reasoned.vectors.shape, reasoned.reasonings) == ((0, embedder.dimension), ())
    assert embedder.reason([]) == []


def test_identity_names_tokens_and_template() -> None:
    embedder = unified()
    assert embedder.identity["template"] == "unified-1"
    assert embedder.identity["special_tokens"] == list(UNIFIED_TOKENS)
    assert embedder.identity == unified(samples=1, max_reasoning_tokens=4).identity  # the same space
    assert embedder.identity != unified(max_tokens=30).identity
    assert embedder.reasoner.identity != unified(samples=1).reasoner.identity


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_begin_at_the_mean(tied: bool) -> None:
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    model = tiny_llama(size, tied=tied)
    before = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    add_special_tokens(model, tokenizer)
    after = [layer.weight.detach() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[:size], old)
        torch.testing.assert_close(new[size:], old.mean(0).expand(3, -1))
    assert tied == torch.equal(*after)
    again = [layer.clone() for layer in after]
    add_special_tokens(model, tokenizer)
    assert torch.equal(model.get_input_embeddings().weight, again[0])
    assert len(tokenizer) == size + 3
    assert tokenizer("red<think> usb</think><emb>")["input_ids"][-1] == size + 2


def test_a_matrix_with_room_is_not_resized() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer) + 20)
    expected = model.get_input_embeddings().weight[: len(tokenizer)].mean(0)
    add_special_tokens(model, tokenizer)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 17
    torch.testing.assert_close(model.get_input_embeddings().weight[len(tokenizer) - 1], expected)


def test_a_tokenizer_without_the_tokens_is_refused_by_name() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer) + 3)
    with pytest.raises(CheckpointError, match="tiny: its tokenizer lacks the special tokens <think>, </think>, <emb>"):
        over(model, tokenizer)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    tokenizer.add_tokens(["<emb>"])  # an ordinary token: a query could type it
    with pytest.raises(CheckpointError, match="lacks the special tokens <emb>"):
        over(model, tokenizer)


def test_a_matrix_that_is_too_small_is_refused_by_name() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer) + 1)
    tokenizer.add_tokens(list(UNIFIED_TOKENS), special_tokens=True)
    with pytest.raises(CheckpointError, match=r"tiny: its embedding matrix has \d+ rows, too few for </think> \(\d+\)"):
        over(model, tokenizer)


def test_nan_costs_its_query_alone() -> None:
    embedder = unified(tied=False)
    queries = ["red", "usb cable leather", "blue"]  # the longest is decoded first, in row 0 to 2
    expected = embedder.embed_reasoned(queries)

    def poison(_: Any, args: Any, logits: Any) -> Any:
        logits = logits.clone()
        logits[0] = torch.nan
        return logits

    handle = embedder._reasoner._model.get_output_embeddings().register_forward_hook(poison)
    found = embedder.embed_reasoned(queries)
    handle.remove()
    np.testing.assert_allclose(found.vectors[[0, 2]], expected.vectors[[0, 2]], atol=1e-5)
    assert found.reasonings[1] == (Reasoning(confidence=0.0),) * 3
    np.testing.assert_allclose(found.vectors[1], embedder.embed_queries(queries)[1], atol=1e-5)  # without reasoning


def test_one_bad_sample_is_left_out_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = unified()
    states = torch.randn(2, 3, 32)
    expected = torch.nn.functional.normalize(states[1, :2], dim=-1).mean(0)
    states[1, 2, 5] = torch.inf
    written = Written([(Reasoning(("bag",)), Reasoning(), Reasoning())] * 2, states, 0.0)
    monkeypatch.setattr(embedder._reasoner, "write", lambda queries, closing: written)
    found = embedder.embed_reasoned(["red", "blue"]).vectors[1]
    np.testing.assert_allclose(found, expected / expected.norm(), atol=1e-6)


def test_a_query_without_a_keyword_gets_exactly_its_direct_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = unified()
    states = torch.nn.functional.normalize(torch.randn(3, 1, 32), dim=-1)
    written = Written([(Reasoning(),), (Reasoning(("bag",)),), (Reasoning(text="red"),)], states, 0.0)
    monkeypatch.setattr(embedder._reasoner, "write", lambda queries, closing: written)
    found = embedder.embed_reasoned(["red", "blue", "usb"]).vectors
    np.testing.assert_allclose(found[1], states[1, 0], atol=1e-6)
    np.testing.assert_array_equal(found[[0, 2]], embedder.embed_queries(["red", "usb"]))


def test_nan_everywhere_is_an_error() -> None:
    embedder = unified(tied=False)
    token = embedder._reasoner._tokenizer("handbag")["input_ids"][-1]
    with torch.no_grad():
        embedder._reasoner._model.get_input_embeddings().weight[token] = torch.nan
    with pytest.raises(GenerationError, match="NaN or infinity for all of 1 queries"):
        embedder.embed_reasoned(["handbag"])
    with pytest.raises(EmbeddingError, match="rows 1 of 2"):
        embedder.embed_items(["red", "handbag"])
    with pytest.raises(EmbeddingError, match="NaN"):
        embedder.embed_reasoned(["red", "handbag"])


def test_examples_of_the_templates() -> None:
    assert doctest.testmod(prompts).failed == 0
