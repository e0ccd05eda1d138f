from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings
from lrem_os.ingest.documents import BadRow, build_document, check_row, row_id
from lrem_os.ingest.sources import Row
from lrem_os.text import content_hash
from lrem_os.types import Document

CATALOG = CatalogSettings()


def build(row: dict[str, Any], *, max_chars: int = 1000, catalog: CatalogSettings = CATALOG) -> Document:
    return build_document(Row(7, row), "c.jsonl", catalog, max_chars=max_chars)[0]


def notes(row: dict[str, Any], *, max_chars: int = 1000, catalog: CatalogSettings = CATALOG) -> list[str]:
    return build_document(Row(7, row), "c.jsonl", catalog, max_chars=max_chars)[1]


def nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = {"k": value}
    return value


def test_a_document_is_the_row_as_it_stands_with_rendered_objects() -> None:
    row = {
        "id": "sku 1",
        "title": "Red bag",
        "brand": "Acme",
        "price": "12.50",
        "attributes": {"color": "red", "straps": 2},
        "anything": [1, None, "x"],
    }
    document = build(row)
    assert document.doc_id == "sku 1"
    assert document.text == "Red bag\nAcme\ncolor red, straps 2"
    assert document.source == row | {"price": 12.5, "attributes_text": "color red, straps 2"}
    assert document.content_hash == content_hash(document.text, document.source)
    assert (document.path, document.line) == ("c.jsonl", 7)


@pytest.mark.parametrize(
    ("value", "doc_id"),
    [("a", "a"), (" a ", " a "), (7, "7"), (0, "0"), (-1, "-1"), ("\0", "\0"), ("x" * 512, "x" * 512)],
)
def test_ids(value: object, doc_id: str) -> None:
    assert row_id({"id": value}, CATALOG) == doc_id


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "id is missing"),
        ({"id": None}, "id is missing"),
        ({"id": ""}, "id is missing"),
        ({"id": " \u2003"}, "id is blank"),
        ({"id": 1.5}, "id is float '1.5': an id is a string or a whole number"),
        ({"id": True}, "id is bool 'True'"),
        ({"id": ["a"]}, "id is list"),
        ({"id": {"a": 1}}, "id is dict"),
        ({"id": "é" * 257}, "id has 514 bytes; OpenSearch allows 512"),
    ],
)
def test_what_is_no_id(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason.replace("(", r"\(")):
        row_id(row, CATALOG)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": None}, "title is missing: a title is needed"),
        ({"title": ""}, "title is str ''"),
        ({"title": " \t\x00\u00a0\u3000\u2028"}, "a title is needed"),
        ({"title": 5}, "title is int '5'"),
        ({"title": ["a"]}, "title is list"),
        ({"title": math.nan}, "title is float 'nan'"),
        ({"brand": {"name": "Acme"}}, "brand is an object: text is wanted (or add 'brand' to catalog.objects)"),
        ({"category": ["a", {"b": 1}]}, "category is a list of"),
        ({"description": [["a"]]}, "description is a list of"),
        ({"price": "twelve"}, "price is str 'twelve': not a number"),
        ({"price": ""}, "not a number"),
        ({"price": True}, "price is bool 'True': not a number"),
        ({"price": [1]}, "price is list '[1]': not a number"),
        ({"price": {"eur": 1}}, "not a number"),
        ({"price": math.nan}, "price is nan: not a finite number"),
        ({"price": math.inf}, "price is inf: not a finite number"),
        ({"price": "-Infinity"}, "price is -inf: not a finite number"),
        ({"price": "1e400"}, "price is inf: not a finite number"),
        ({"attributes": "red"}, "attributes is str 'red': an object is wanted"),
        ({"attributes": ["red"]}, "attributes is list"),
        ({"attributes": 3}, "attributes is int"),
        ({"attributes": '{"color": '}, "attributes is broken JSON"),
        ({"picture": b"\x89PNG"}, "picture holds binary data, which JSON cannot"),
        ({"attributes": {"picture": b"\x89PNG"}}, "cannot be written as JSON"),
        ({"other": nested(300)}, "cannot be written as JSON: Recursion limit reached"),
        ({"other": 2**70}, "cannot be written as JSON"),
        ({"other": "\ud800"}, "cannot be written as JSON"),
        ({"\ud800": 1}, "cannot be written as JSON"),
        ({"attributes": {"sizes": {1: "a"}}}, "cannot be written as JSON"),
    ],
)
def test_a_bad_row_says_why(fields: dict[str, Any], reason: str) -> None:
    row = Row(1, {"id": "a", "title": "Bag"} | fields)
    with pytest.raises(BadRow) as from_check:
        check_row(row, CATALOG)
    with pytest.raises(BadRow) as from_build:
        build_document(row, "c", CATALOG, max_chars=100)
    assert reason in str(from_check.value)
    assert str(from_check.value) == str(from_build.value)


def test_an_unreadable_row_says_why() -> None:
    with pytest.raises(BadRow, match="broken JSON: at the end"):
        check_row(Row(1, None, "broken JSON: at the end"), CATALOG)


@pytest.mark.parametrize(
    ("given_value", "kept"), [(3, 3), (2.5, 2.5), ("3", 3.0), (" 2.5 ", 2.5), (None, None), (Decimal("9.99"), 9.99)]
)
def test_numbers(given_value: object, kept: object) -> None:
    assert build({"id": "a", "title": "Bag", "price": given_value}).source["price"] == kept


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        ({"color": "red"}, {"color": "red"}),
        ('  {"color": "red"}', {"color": "red"}),  # as CSV holds it
        ([("color", "red")], {"color": "red"}),  # as a Parquet map is read
        ([], {}),
        ({}, {}),
        (None, None),
    ],
)
def test_objects(given_value: object, kept: object) -> None:
    assert build({"id": "a", "title": "Bag", "attributes": given_value}).source["attributes"] == kept


def test_parquet_dates_become_texts() -> None:
    source = build(
        {"id": "a", "title": "Bag", "day": date(2024, 1, 2), "at": datetime(2024, 1, 2, 3, tzinfo=UTC)}
    ).source
    assert (source["day"], source["at"]) == ("2024-01-02", "2024-01-02T03:00:00+00:00")


def test_long_text_is_cut_and_noted_but_the_body_is_whole() -> None:
    row = {"id": "a", "title": "x" * 2**20}
    document = build(row, max_chars=500)
    assert (len(document.text), len(document.source["title"])) == (500, 2**20)
    assert notes(row, max_chars=500) == ["embedded text cut from 1048576 to 500 characters"]


def test_nul_is_noted_and_stays_in_the_body() -> None:
    row = {"id": "a", "title": "x\x00y"}
    assert build(row).text == "x y"
    assert build(row).source["title"] == "x\x00y"
    assert notes(row) == ["holds NUL characters: left out of the embedded text"]


def test_nothing_to_embed_is_noted() -> None:
    catalog = CatalogSettings(embed=("description",))
    assert "no text to embed" in notes({"id": "a", "title": "Bag"}, catalog=catalog)[0]
    assert notes({"id": "a", "title": "Bag", "description": "d"}, catalog=catalog) == []


def test_non_ascii_text_is_kept_to_the_byte() -> None:
    title = "Café – 赤いバッグ – حقيبة – e\u0301 – 🎒 – \u2028 – \ufeff"
    document = build({"id": title, "title": title})
    assert (document.doc_id, document.text, document.source["title"]) == (title, title, title)


def test_the_hash_changes_with_what_is_indexed_beside_the_text() -> None:
    one, two = ({"id": "a", "title": "Bag", "price": price} for price in (1, 2))
    assert build(one).text == build(two).text
    assert build(one).content_hash != build(two).content_hash


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["id", "title", "brand", "price", "attributes", "other", "lrem_hash", ""]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_any_row_is_a_document_that_json_can_hold_or_a_bad_row(row: dict[str, Any]) -> None:
    """And both passes over the input agree which: else an id could be lost to a later row that fails."""
    try:
        doc_id, _ = check_row(Row(1, row), CATALOG)
    except BadRow:
        with pytest.raises(BadRow):
            build(row)
        return
    document = build(row)
    assert document.doc_id == doc_id
    assert orjson.loads(orjson.dumps(document.source))["title"] == row["title"]
