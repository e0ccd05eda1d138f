from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.text import content_hash, embedded_text, render_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (2.0, "2"),
        (0.1 + 0.2, "0.3"),
        (math.nan, ""),
        (math.inf, ""),
        ("  a b\u2028 ", "a b"),
        ([], ""),
        ({}, ""),
        ([None, "", "a", ["b", []]], "a, b"),
        ({"screen_size": 15.6, "empty": None, "none": [], "_x_": "y"}, "screen size 15.6, x y"),
        ({"a": {"b": {"c": 1}}}, "a b c 1"),
    ],
)
def test_values_as_words(value: object, text: str) -> None:
    assert render_value(value) == text


def test_the_deepest_json_does_not_exhaust_the_stack() -> None:
    value: Any = "end"
    for depth in range(254):  # orjson writes no deeper
        value = {"k": value} if depth % 2 else [value]
    assert render_value(value) == "k " * 127 + "end"


def test_one_line_a_field_in_the_order_of_the_configuration() -> None:
    row = {"description": "long\ntext", "title": "Bag", "brand": "", "color": ["red", "blue"]}
    assert embedded_text(row, ("title", "brand", "missing", "color", "description")) == "Bag\nred, blue\nlong\ntext"
    assert embedded_text(row, ()) == ""


def test_nul_is_left_out_and_nothing_else() -> None:
    assert embedded_text({"title": "a\x00b\u2028c\ufeffé🎒"}, ("title",)) == "a b\u2028c\ufeffé🎒"


@settings(deadline=None)
@given(JSON)
def test_any_json_can_be_rendered(value: object) -> None:
    assert "\x00" not in embedded_text({"x": value}, ("x",))


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5), st.text())
def test_the_hash_knows_content_not_order(source: dict[str, Any], text: str) -> None:
    other = dict(reversed(source.items()))
    assert content_hash(text, source) == content_hash(text, other)
    assert content_hash(text, source) == content_hash(text, orjson.loads(orjson.dumps(source)))


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3), st.text(), st.text())
def test_the_hash_tells_apart(one: dict[str, Any], two: dict[str, Any], text: str, other: str) -> None:
    def written(source: dict[str, Any]) -> bytes:
        return orjson.dumps(source, option=orjson.OPT_SORT_KEYS)

    is_same = written(one) == written(two) and text == other
    assert (content_hash(text, one) == content_hash(other, two)) == is_same


def test_the_hash_is_the_same_in_every_release() -> None:
    """It stands in indices: another value would embed every catalog anew."""
    assert content_hash("Red bag", {"id": "1", "price": 2.5}) == "ac2fb0655d2e48688c8a5225c43047bd"
