"""The transformers backend on tiny random models: batching must not show in the vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.errors import EmbeddingError, ModelError

torch = pytest.importorskip("torch")

TEXTS = [
    "red leather handbag",
    "",
    "usb cable 2m " * 40,
    "a",
    "NOTEBOOK printer",
    "مرحبا 🙂",
    "\x00 \u2028",
    *(f"toner {number} " * (number % 7) for number in range(40)),
]
FAMILIES = pytest.mark.parametrize("family", ["encoder_folder", "decoder_folder"])


@pytest.fixture
def embedder(encoder_folder: Path, load: Callable[..., Any]) -> Any:
    return load(encoder_folder)


def plain_vectors(folder: Path, texts: list[str], pooling: str, max_tokens: int) -> Any:
    """Return the vectors of transformers as its manual shows it: one text at a time, no batch, no padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(str(folder)), AutoModel.from_pretrained(str(folder)).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            states = model(input_ids=inputs["input_ids"]).last_hidden_state[0]
        rows.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling])
    vectors = torch.stack(rows)
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


@FAMILIES
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_tokens", [64, 100_000])
def test_batches_equal_plain_transformers(
    family: str, pooling: str, batch_tokens: int, load: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    embedder = load(folder, pooling=pooling, batch_tokens=batch_tokens)
    texts = [text for text in TEXTS if embedder._tokenizer(text)["input_ids"]]  # transformers needs a token
    expected = plain_vectors(folder, texts, pooling, embedder.contract.max_tokens)
    np.testing.assert_allclose(embedder.embed_items(texts), expected, atol=1e-5)
    assert len({vector.round(3).tobytes() for vector in expected}) > 5  # else any answer would do


@FAMILIES
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_the_tokenizers_padding_side_does_not_matter(
    family: str, padding_side: str, load: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    before = load(folder).embed_items(TEXTS)
    embedder = load(folder)
    embedder._tokenizer.padding_side = padding_side
    np.testing.assert_allclose(embedder.embed_items(TEXTS), before, atol=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(order=st.permutations(range(len(TEXTS))))
def test_order_is_kept_whatever_it_is(embedder: Any, order: list[int]) -> None:
    vectors = embedder.embed_items(TEXTS)
    np.testing.assert_allclose(embedder.embed_items([TEXTS[row] for row in order]), vectors[order], atol=1e-5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(texts=st.lists(st.text(max_size=60), max_size=6))
def test_any_text_gives_a_unit_vector(embedder: Any, texts: list[str]) -> None:
    vectors = embedder.embed_queries(texts)
    assert vectors.shape == (len(texts), 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@FAMILIES
def test_an_empty_text_has_a_vector(family: str, load: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    vectors = load(request.getfixturevalue(family)).embed_items(["", "red"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert abs(vectors[0] @ vectors[1]) < 0.999


def test_nothing_in_nothing_out(embedder: Any) -> None:
    assert embedder.embed_items([]).shape == (0, 32)


def test_a_text_is_cut_at_the_limit_and_not_before(encoder_folder: Path, load: Callable[..., Any]) -> None:
    embedder = load(encoder_folder, max_tokens=8)  # [CLS], six words, [SEP]
    six, seven, five = embedder.embed_items(["red " * 6, "red " * 6 + "blue", "red " * 5])
    np.testing.assert_allclose(six, seven, atol=1e-6)
    assert abs(five @ six) < 0.9999


def test_prefixes_tell_queries_from_items(encoder_folder: Path, load: Callable[..., Any]) -> None:
    plain = load(encoder_folder)
    prefixed = load(encoder_folder, query_prefix="blue ", item_prefix="usb ")
    np.testing.assert_allclose(prefixed.embed_queries(["red"]), plain.embed_items(["blue red"]), atol=1e-6)
    np.testing.assert_allclose(prefixed.embed_items(["red"]), plain.embed_items(["usb red"]), atol=1e-6)
    assert prefixed.identity != plain.identity


def test_an_infinite_weight_is_noticed_and_the_rows_are_named(embedder: Any) -> None:
    token = embedder._tokenizer("handbag", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        embedder._model.embeddings.word_embeddings.weight[token] = float("nan")
    with pytest.raises(EmbeddingError, match=r"rows 1, 3 of 4"):
        embedder.embed_items(["red", "red handbag", "blue", "handbag"])
    assert np.isfinite(embedder.embed_items(["red", "blue"])).all()


def test_a_lone_surrogate_is_refused_by_row(embedder: Any) -> None:
    with pytest.raises(ModelError, match="rows 1 cannot be tokenised"):
        embedder.embed_items(["red", "\ud800"])


class Limited(torch.nn.Module):
    """A model whose memory ends at so many tokens, as a GPU's does."""

    def __init__(self, model: Any, max_tokens: int, error: type[Exception]) -> None:
        super().__init__()
        self.model, self.max_tokens, self.error = model, max_tokens, error
        self.sizes: list[int] = []

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        if input_ids.numel() > self.max_tokens:
            raise self.error("out of memory")
        self.sizes.append(input_ids.numel())
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def test_too_little_memory_halves_the_batch_and_goes_on(embedder: Any) -> None:
    expected = embedder.embed_items(TEXTS)
    embedder._model = limited = Limited(embedder._model, 100, torch.cuda.OutOfMemoryError)
    np.testing.assert_allclose(embedder.embed_items(TEXTS), expected, atol=1e-5)
    assert sum(limited.sizes) >= 100
    limited.max_tokens = 4
    with pytest.raises(ModelError, match="one text of 32 tokens"):
        embedder.embed_items(TEXTS)


def test_what_torch_raises_is_translated(embedder: Any) -> None:
    embedder._model = Limited(embedder._model, 0, RuntimeError)
    with pytest.raises(ModelError, match="out of memory"):
        embedder.embed_items(TEXTS)


def test_workers_use_one_core_each_and_leave_other_threads_alone(
    encoder_folder: Path, load: Callable[..., Any]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        embedder = load(encoder_folder, batch_tokens=64)
        seen = set(embedder._pool.map(lambda _: torch.get_num_threads(), range(30)))
        other: list[int] = []
        thread = threading.Thread(target=lambda: other.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (seen, other, torch.get_num_threads()) == ({1}, [3], 3)
    finally:
        torch.set_num_threads(before)


def test_many_callers_at_once(embedder: Any) -> None:
    expected = embedder.embed_items(TEXTS)
    results: list[Any] = []
    callers = [threading.Thread(target=lambda: results.append(embedder.embed_items(TEXTS))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    for vectors in results:
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
