from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.query_plugin.routing.features import (
    AFTER,
    BEFORE,
    NEEDS_CATALOG,
    Landmarks,
    Lexicon,
    build_lexicon,
    features_after,
    features_before,
    words_of,
)
from lrem_os.query_plugin.routing.signals import Leg, Signals

VECTOR = np.array([1.0, 0.0], np.float32)
ROWS = [
    {"title": "Red mugs", "brand": "Acme Home", "description": "A red mug, dishwasher-safe"},
    {"title": "Blue mug", "brand": "Zeta"},
    {"title": "Trivet", "attributes": {"material": "cork"}},
]
LEXICON = build_lexicon(ROWS, ("title", "brand", "description", "attributes"))


def before(text: str, landmarks: Landmarks | None = None) -> dict[str, float]:
    return features_before(text, VECTOR, landmarks or Landmarks())


def test_all_names_are_there_and_no_name_comes_twice() -> None:
    assert tuple(before("red mug")) == BEFORE
    assert tuple(features_after("red mug", Signals())) == AFTER
    assert len(set(BEFORE + AFTER)) == len(BEFORE + AFTER)
    assert set(BEFORE) >= NEEDS_CATALOG


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("what do I put under a hot pot", "question"),
        ("headlights blind me, what helps?", "question"),
        ("beach tote but no leather", "negation"),
        ("gluten-free bread", "negation"),
        ("a lamp that doesn't flicker", "negation"),
        ("la mer dupe", "comparison"),
        ("birkin look-alike", "comparison"),
    ],
)
def test_a_word_that_asks_for_reasoning_is_seen(text: str, name: str) -> None:
    assert before(text)[name] == 1.0
    assert before("red leather handbag")[name] == 0.0


@given(st.text(alphabet="abc d?'-é", max_size=40), st.integers(1, 5))
def test_repeating_a_query_changes_no_feature_of_its_text(text: str, times: int) -> None:
    landmarks = Landmarks(LEXICON)
    once, often = before(text, landmarks), before(" ".join([text] * times), landmarks)
    for name in BEFORE:
        assert often[name] == pytest.approx(once[name]), name


@given(st.text(max_size=60))
def test_every_feature_of_any_text_is_finite(text: str) -> None:
    found = before(text, Landmarks(LEXICON)) | features_after(text, Signals(Leg(("a",), (0.0,)), Leg(("a",), (0.0,))))
    assert all(math.isfinite(value) for value in found.values())


def test_the_catalog_tells_unknown_and_rare_words_and_brands() -> None:
    found = before("zeta mug for my spaceship", Landmarks(LEXICON))
    assert found["unknown_words"] == pytest.approx(1 / 3)  # zeta, mug, spaceship; for and my are function words
    assert found["rarest_word"] == 1.0
    assert found["brand"] == 1.0
    assert before("home mug", Landmarks(LEXICON))["brand"] == 0.0  # the brand is Acme Home, as a whole
    assert before("mug", Landmarks(LEXICON))["mean_rarity"] == pytest.approx(1 - math.log(2) / math.log(3))
    assert {before("zeta mug")[name] for name in NEEDS_CATALOG} == {0.0}


def test_a_plural_and_a_part_of_a_word_are_known() -> None:
    assert LEXICON.knows("mugs")
    assert LEXICON.knows("trivets")
    assert LEXICON.knows("dishwasher")
    assert not LEXICON.knows("mu")
    assert Lexicon().rarity("mug") == 0.0


def test_distance_is_to_the_nearest_landmark_and_zero_for_those_of_another_model() -> None:
    near = np.array([[0.0, 1.0], [0.6, 0.8]], np.float32)
    assert before("mug", Landmarks(vectors=near))["distance"] == pytest.approx(0.4)
    assert before("mug", Landmarks(vectors=np.ones((1, 3), np.float32)))["distance"] == 0.0


def test_signals_of_agreement() -> None:
    same = Leg(("a", "b"), (2.0, 1.0)), Leg(("a", "b"), (1.9, 1.5))
    other = Leg(("a", "b"), (2.0, 1.0)), Leg(("c", "d"), (1.9, 1.5))
    agree, differ = features_after("mug", Signals(*same)), features_after("mug", Signals(*other))
    assert (agree["overlap"], agree["cross_rank"]) == (1.0, 1.0)
    assert (differ["overlap"], differ["cross_rank"]) == (0.0, 0.0)
    assert agree["top_cosine"] == pytest.approx(0.9)
    assert agree["level_cosine"] == pytest.approx(0.7)
    assert agree["margin_cosine"] == pytest.approx(0.2)
    assert agree["clarity"] == pytest.approx(0.2)


def test_a_negative_cosine_is_read_from_its_score() -> None:
    found = features_after("mug", Signals(vector=Leg(("a",), (1 / 1.5,))))
    assert found["top_cosine"] == pytest.approx(-0.5)


def test_bm25_is_measured_per_word_that_means_something() -> None:
    signals = Signals(bm25=Leg(("a",), (6.0,)))
    assert features_after("red mug", signals)["bm25_per_word"] == 3.0
    assert features_after("do I need the red mug", signals)["bm25_per_word"] == 3.0


def test_nothing_found_is_zero() -> None:
    assert set(features_after("mug", Signals()).values()) == {0.0}


def test_words_are_cut_at_what_is_no_letter() -> None:
    assert words_of("What’s a non-stick PAN, 28cm?") == ["what's", "a", "non-stick", "pan", "28cm"]
    assert words_of("—…") == []
