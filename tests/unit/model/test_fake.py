from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.model.fake import FakeEmbedder, FakeReasoner
from lrem_os.types import Embedder, Reasoner

TEXTS = st.lists(st.text(max_size=40), max_size=20)
HARD = ["", " ", "\x00", "\ud800", "مرحبا", "🙂" * 50, "a\u2028b", "x" * 100_000]


@given(TEXTS, st.integers(1, 128))
def test_unit_vectors_that_depend_on_their_own_text_only(texts: list[str], dimension: int) -> None:
    fake = FakeEmbedder(dimension)
    vectors = fake.embed_items(texts)
    assert vectors.shape == (len(texts), dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(fake.embed_queries([text])[0], vector)


def test_the_same_in_another_process() -> None:
    """Python's own hash of a text differs between processes."""
    code = "from lrem_os.model.fake import FakeEmbedder as F;print(F(64).embed_items(['red bag', 'x']).tobytes().hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == FakeEmbedder(64).embed_items(["red bag", "x"]).tobytes().hex()


@pytest.mark.parametrize("text", HARD, ids=[ascii(text[:8]) for text in HARD])
def test_any_text_has_a_vector(text: str) -> None:
    assert np.linalg.norm(FakeEmbedder(16).embed_items([text])[0]) == pytest.approx(1.0)


def test_shared_words_and_shared_letters_are_close() -> None:
    query, same_words, same_letters, other = FakeEmbedder(256).embed_items(
        ["red leather handbag", "Handbag, leather red", "red leather handbags", "usb cable 2m"]
    )
    assert query @ same_words > 0.5
    assert query @ same_letters > 0.5
    assert abs(query @ other) < 0.2


def test_chunks_join_without_a_seam() -> None:
    fake, texts = FakeEmbedder(8), [f"text {number}" for number in range(5000)]
    np.testing.assert_array_equal(fake.embed_items(texts)[4990:], fake.embed_items(texts[4990:]))


def test_a_vector_is_the_same_tomorrow() -> None:
    """Indices hold them: when this changes, ``VERSION`` in ``fake.py`` must."""
    expected = [0.0, 0.733, -0.2443, -0.3665, 0.1222, -0.1222, 0.4887, 0.0]
    np.testing.assert_allclose(FakeEmbedder(8).embed_items(["red leather handbag"])[0], expected, atol=1e-4)


def test_it_is_an_embedder_and_says_its_dimension() -> None:
    fake: Embedder = FakeEmbedder(64)
    assert fake.identity["model"] == "fake:64"
    assert fake.dimension == fake.identity["dimension"] == 64
    assert FakeEmbedder(8).embed_items([]).shape == (0, 8)


@given(TEXTS)
def test_the_fake_reasoner_says_the_same_in_any_batch(queries: list[str]) -> None:
    fake: Reasoner = FakeReasoner(3)
    found = fake.reason(queries)
    assert [fake.reason([query])[0] for query in queries] == found
    for query, samples in zip(queries, found, strict=True):
        assert len(samples) == 3
        for sample in samples:
            assert len(set(sample.keywords)) == len(sample.keywords) <= 3
            assert not set(sample.keywords) & set(query.lower().split())
            assert sample.num_tokens == len(sample.keywords) + 1
            assert 0.5 <= sample.confidence <= 1


def test_the_fake_reasoner_tells_samples_apart_and_leaves_short_queries_alone() -> None:
    [long, short] = FakeReasoner(4).reason(["what do I put under a hot pot", "usb cable"])
    assert len({sample.keywords for sample in long}) > 1
    assert all(sample.keywords for sample in long)
    assert not any(sample.keywords for sample in short)
