from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from lrem_os.config import ReasoningSettings
from lrem_os.errors import EmbeddingError, GenerationError
from lrem_os.model.composed import AGREEMENT_TEMPERATURE, ComposedEmbedder, mix, sample_weights
from lrem_os.model.fake import FakeEmbedder, FakeReasoner
from lrem_os.types import Reasoning, ReasoningEmbedder, Vectors

HOT_POT = "what do I put under a hot pot"


class Scripted:
    """Says what it is told to, and counts how often it was asked."""

    identity: Mapping[str, Any] = {"model": "scripted"}

    def __init__(self, answers: Mapping[str, Sequence[Any]]) -> None:
        self.answers, self.asked = answers, 0

    def reason(self, queries: Sequence[str]) -> list[tuple[Any, ...]]:
        self.asked += 1
        return [tuple(self.answers[query]) for query in queries if query in self.answers]


class Counting(FakeEmbedder):
    """Notes every call."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.calls: list[list[str]] = []

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return super().embed_queries(texts)


def says(*keywords: str, confidence: float = math.nan) -> Any:
    return Reasoning(keywords=keywords, confidence=confidence)


def compose(answers: Mapping[str, Sequence[Any]], **settings: Any) -> ComposedEmbedder:
    return ComposedEmbedder(
        FakeEmbedder(64), Scripted(answers), ReasoningSettings(**{"combine": "mean", "query_weight": 0.5} | settings)
    )


def e(text: str) -> Vectors:
    return FakeEmbedder(64).embed_queries([text])[0]


def test_the_mean_is_the_formula() -> None:
    samples = [says("trivet", "pot stand"), says(), says("silicone mat")]
    found = compose({HOT_POT: samples}, query_weight=0.3).embed_reasoned([HOT_POT])
    keywords = (e("trivet, pot stand") + e(HOT_POT) + e("silicone mat")) / 3
    expected = 0.3 * e(HOT_POT) + 0.7 * keywords
    assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert found.reasonings == (tuple(samples),)
    assert found.reason_ms >= 0
    assert found.embed_ms > 0


def test_nothing_to_add_is_exactly_the_direct_vector() -> None:
    made = compose({HOT_POT: [says(), says()], "usb": [says("cable")]})
    both = made.embed_reasoned([HOT_POT, "usb"]).vectors
    assert_array_equal(both[0], e(HOT_POT))
    assert np.abs(both[1] - e("usb")).max() > 0.01
    assert_array_equal(compose({"usb": ()}).embed_reasoned(["usb"]).vectors[0], e("usb"))


def test_weighting_by_confidence() -> None:
    samples = [says("trivet", confidence=0.9), says("guitar", confidence=0.1)]
    found = compose({HOT_POT: samples}, weighting="confidence", query_weight=0.0).embed_reasoned([HOT_POT])
    expected = 0.9 * e("trivet") + 0.1 * e("guitar")
    assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    unknown = [says("trivet", confidence=0.9), says("guitar")]
    assert_allclose(sample_weights(unknown, np.eye(2, dtype=np.float32), "confidence"), [0.5, 0.5])
    nothing = [says("trivet", confidence=0.0), says("guitar", confidence=0.0)]
    assert_allclose(sample_weights(nothing, np.eye(2, dtype=np.float32), "confidence"), [0.5, 0.5])


def test_weighting_by_agreement_trusts_the_crowd() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)  # mean cosines with the others: 0.5, 0.5, 0
    weights = sample_weights([says("x")] * 3, vectors, "agreement")
    ratio = math.exp(0.5 / AGREEMENT_TEMPERATURE)
    assert_allclose(weights, np.array([ratio, ratio, 1]) / (2 * ratio + 1), rtol=1e-6)
    assert_allclose(sample_weights([says("x")], vectors[:1], "agreement"), [1.0])


@given(
    st.lists(st.one_of(st.just(math.nan), st.floats(0, 1)), min_size=1, max_size=8),
    st.sampled_from(["uniform", "confidence", "agreement"]),
    st.integers(0, 99),
)
def test_weights_are_a_distribution(confidences: list[float], weighting: str, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((len(confidences), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = sample_weights([says("x", confidence=one) for one in confidences], vectors, weighting)
    assert weights.shape == (len(confidences),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


def test_opposite_vectors_leave_the_query() -> None:
    query = np.array([1, 0], np.float32)
    assert_array_equal(mix(query, -query.astype(np.float64), 0.5), query)


def test_text_embeds_query_and_keywords_as_one() -> None:
    samples = [says("trivet"), says("silicone mat", "trivet"), says()]
    found = compose({HOT_POT: samples, "usb": [says()]}, combine="text").embed_reasoned([HOT_POT, "usb"])
    read = e(f"{HOT_POT} (trivet)") + e(f"{HOT_POT} (silicone mat, trivet)") + e(HOT_POT)  # the last one is empty
    expected = 0.5 * e(HOT_POT) + 0.5 * read / 3
    assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert_array_equal(found.vectors[1], e("usb"))


def test_each_text_is_embedded_once_and_all_in_one_call() -> None:
    embedder = Counting(8)
    answers = {HOT_POT: [says("trivet"), says("trivet"), says("mat")], "tea": [says("mat")]}
    ComposedEmbedder(embedder, Scripted(answers), ReasoningSettings(combine="mean")).embed_reasoned([HOT_POT, "tea"])
    assert embedder.calls == [[HOT_POT, "tea", "mat", "trivet"]]


def test_the_direct_path_never_loads_the_reasoner() -> None:
    loaded: list[Scripted] = []

    def load() -> Scripted:
        loaded.append(Scripted({"usb": [says("cable")]}))
        return loaded[-1]

    made: ReasoningEmbedder = ComposedEmbedder(FakeEmbedder(8), load, ReasoningSettings())
    assert isinstance(made, ReasoningEmbedder)
    assert made.identity == FakeEmbedder(8).identity
    assert made.dimension == 8
    assert_array_equal(made.embed_items(["a bag"]), FakeEmbedder(8).embed_items(["a bag"]))
    assert_array_equal(made.embed_queries(["usb"]), FakeEmbedder(8).embed_queries(["usb"]))
    assert made.reason([]) == []
    assert loaded == []
    made.embed_reasoned(["usb"])
    made.reason(["usb"])
    assert [one.asked for one in loaded] == [2]


def test_what_goes_wrong_is_an_error() -> None:
    with pytest.raises(GenerationError, match="0 answers to 1 queries"):
        compose({}).embed_reasoned(["usb"])

    class Broken(FakeEmbedder):
        def embed_queries(self, texts: Sequence[str]) -> Vectors:
            return np.full((len(texts), 8), np.nan, np.float32)

    with pytest.raises(EmbeddingError, match=r"NaN or infinity for rows 0 of 1"):
        ComposedEmbedder(Broken(8), FakeReasoner(1), ReasoningSettings()).embed_reasoned(["usb"])


def test_no_queries() -> None:
    found = compose({}).embed_reasoned([])
    assert found.vectors.shape == (0, 64)
    assert found.reasonings == ()
