"""LREM's rules on generated text: what goes, what stays, and that no text at all upsets them."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.model import reasoning
from lrem_os.model.reasoning import combine_keywords, parse_reasoning
from lrem_os.types import Reasoning


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("yoga mat, foam roller , strap", "back pain", ("yoga mat", "foam roller", "strap")),
        ("- yoga mat\n- roller\n\n1. strap.\n2) 3.5 mm jack", "pain", ("yoga mat", "roller", "strap", "3.5 mm jack")),
        ("mat, Mat, MATS, mats", "back pain", ("mat",)),
        ("batteries, battery, wine glasses, wine glass", "gift", ("batteries", "wine glasses")),
        ("red shoes, red canvas shoes", "Shoes in RED", ("red canvas shoes",)),
        ("shoe", "shoes", ()),
        ("usb_", "usb", ()),
        ("usb", "usb_", ()),
        ("mat*\x1f, \t*strap\u00a0*", "pain", ("mat", "strap")),
        ("red red red red, blue", "bag", ("red", "blue")),
        ("big cup big cup big cup big cup", "tea", ("big cup",)),
        ("yo yo, choo choo train", "toy", ("yo yo", "choo choo train")),
        ("", "bag", ()),
        (" , ,, \n ---, . ", "bag", ()),
        ("'backpack', “rucksack”, **daypack**", "bag", ("backpack", "rucksack", "daypack")),
        ("sac à dos，手提包、包", "bag", ("sac à dos", "手提包", "包")),
    ],
)  # fmt: skip
def test_rules(text: str, query: str, expected: tuple[str, ...]) -> None:
    assert parse_reasoning(text, query).keywords == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("converter clips, bandeau, multiway ling", ("converter clips", "bandeau")),
        ("converter clips, bandeau, ", ("converter clips", "bandeau")),
        ("converter clips, bandeau,", ("converter clips", "bandeau")),
        ("high waist shapew", ("high waist",)),
        (" shapew", ()),
        ("", ()),
    ],
)
def test_a_word_that_the_limit_may_have_cut_goes(text: str, expected: tuple[str, ...]) -> None:
    assert parse_reasoning(text, "dress", truncated=True).keywords == expected


def test_banned_phrases_go_as_whole_words() -> None:
    found = parse_reasoning(
        "Replica Watches, watch, replicate, fake watch strap", "gift", banned=["replica", "FAKE watches", ""]
    )
    assert found.keywords == ("watch", "replicate")


def test_what_is_known_of_the_generation_is_handed_on() -> None:
    found = parse_reasoning("mat, str", "yoga", num_tokens=4, truncated=True, confidence=0.5)
    assert found == Reasoning(keywords=("mat",), text="mat, str", num_tokens=4, truncated=True, confidence=0.5)
    assert math.isnan(parse_reasoning("mat", "yoga").confidence)


@given(text=st.text(max_size=200), query=st.text(max_size=60), truncated=st.booleans())
def test_any_text_gives_keywords_that_the_rules_leave_alone(text: str, query: str, truncated: bool) -> None:
    found = parse_reasoning(text, query, truncated=truncated)
    assert all(keyword == keyword.strip() and keyword and "," not in keyword for keyword in found.keywords)
    assert len({keyword.casefold() for keyword in found.keywords}) == len(found.keywords)
    assert parse_reasoning(", ".join(found.keywords), query).keywords == found.keywords
    assert parse_reasoning(query, query).keywords == ()


@given(words=st.lists(st.sampled_from(["red", "bag", "usb", "Cable", "of"]), min_size=1, max_size=300))
def test_a_model_that_goes_round_in_circles_is_cut_short(words: list[str]) -> None:
    [keyword] = parse_reasoning(" ".join(words), "gift").keywords
    left = keyword.split()
    assert set(left) <= set(words)
    assert not any(left[at] == left[at + 1] == left[at + 2] for at in range(len(left) - 2))


def test_a_long_text_takes_no_time() -> None:
    assert parse_reasoning("red blue " * 50_000, "bag").keywords == ("red blue",)


def sample(*keywords: str) -> Reasoning:
    return Reasoning(keywords=keywords)


def test_keywords_of_several_samples_are_ordered_by_agreement() -> None:
    samples = [sample("mat", "block"), sample("Blocks", "strap"), sample(), sample("strap", "block", "towel")]
    assert combine_keywords(samples) == {"block": 3, "strap": 2, "mat": 1, "towel": 1}
    assert list(combine_keywords(samples, max_keywords=2)) == ["block", "strap"]
    assert combine_keywords([]) == combine_keywords([sample(), sample()]) == {}


@given(
    samples=st.lists(st.lists(st.sampled_from(["mat", "Mats", "block", "strap", "towel"]), max_size=6), max_size=6),
    max_keywords=st.integers(0, 5),
)
def test_no_sample_votes_twice(samples: list[list[str]], max_keywords: int) -> None:
    combined = combine_keywords([sample(*keywords) for keywords in samples], max_keywords=max_keywords)
    counts = list(combined.values())
    assert counts == sorted(counts, reverse=True)
    assert len(combined) <= max_keywords
    for keyword, count in combined.items():
        same = {"mat": {"mat", "Mats"}, "Mats": {"mat", "Mats"}}.get(keyword, {keyword})
        assert count == sum(bool(same & set(keywords)) for keywords in samples)


def test_examples() -> None:
    assert doctest.testmod(reasoning).failed == 0
