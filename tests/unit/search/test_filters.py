from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings
from lrem_os.errors import QueryError
from lrem_os.search.filters import build_filter, parse_filter

CATALOG = CatalogSettings()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("brand=Sony", {"term": {"brand.keyword": "Sony"}}),
        (" brand = Sony ", {"term": {"brand.keyword": "Sony"}}),
        ("brand!=Sony", {"bool": {"must_not": [{"term": {"brand.keyword": "Sony"}}]}}),
        ("brand=Sony|Bose", {"terms": {"brand.keyword": ["Sony", "Bose"]}}),
        ("brand!=Sony|Bose", {"bool": {"must_not": [{"terms": {"brand.keyword": ["Sony", "Bose"]}}]}}),
        (r"brand=AC\|DC", {"term": {"brand.keyword": "AC|DC"}}),
        (r"brand=back\\|slash\n", {"terms": {"brand.keyword": ["back\\", r"slash\n"]}}),
        ("category=bags > red=big", {"term": {"category.keyword": "bags > red=big"}}),
        ("price<50", {"range": {"price": {"lt": 50.0}}}),
        ("price<=49.95", {"range": {"price": {"lte": 49.95}}}),
        ("price>1e3", {"range": {"price": {"gt": 1000.0}}}),
        ("price>=-1", {"range": {"price": {"gte": -1.0}}}),
        ("price=10|20", {"terms": {"price": [10.0, 20.0]}}),
        ("attributes.colour=red", {"term": {"attributes.colour": "red"}}),
        ("attributes.size.eu=41", {"terms": {"attributes.size.eu": ["41", "41.0"]}}),
        ("id=B001", {"ids": {"values": ["B001"]}}),
        ("id!=B001|B002", {"bool": {"must_not": [{"ids": {"values": ["B001", "B002"]}}]}}),
    ],
)
def test_expressions(expression: str, expected: dict[str, Any]) -> None:
    assert parse_filter(expression, CATALOG) == expected


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("brnd=Sony", "'brnd', which is not a filterable field", "did you mean 'brand'"),
        ("title=bag", "not a filterable field", "filterable: id, brand, category, price, attributes.<name>"),
        ("attributes=red", "not a filterable field", r"attributes\.<name>"),
        ("attributes.=red", "not a filterable field", r"attributes\.<name>"),
        ("rating<5", "not a filterable field", "filterable"),
        ("price=cheap", "needs a number, not 'cheap'", "price<49.95"),
        ("price<NaN", "needs a number", "price"),
        ("price<inf", "needs a number", "price"),
        ("price<1e999", "needs a number", "price"),
        ("price<1_000", "needs a number", "price"),
        ("price<10|20", "several values", "one number"),
        ("brand<Sony", "not a number field", "number fields: price"),
        ("attributes.size<5", "not a number field", "use = or !="),
        ("brand=", "empty value", "brand=Sony"),
        ("brand=Sony||Bose", "empty value", "brand=Sony"),
        ("=Sony", "no field or no operator", "brand=Sony"),
        ("brand", "no field or no operator", "brand=Sony"),
        ("", "no field or no operator", "brand=Sony"),
        ("brand=caf\udce9", "not valid UTF-8", "encoding"),
    ],
)
def test_refusals_say_what_to_do(expression: str, message: str, hint: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        parse_filter(expression, CATALOG)
    assert caught.value.hint is not None
    assert hint.replace("\\", "") in caught.value.hint


def test_the_catalog_decides_which_fields_there_are() -> None:
    catalog = CatalogSettings(id="sku", keyword=("shop",), number=("stock",), objects=(), text={"title": 1})
    assert parse_filter("sku=1", catalog) == {"ids": {"values": ["1"]}}
    assert parse_filter("shop=a", catalog) == {"term": {"shop": "a"}}
    with pytest.raises(QueryError, match="brand"):
        parse_filter("brand=Sony", catalog)


def test_several_filters_must_all_hold() -> None:
    assert build_filter([], CATALOG) is None
    assert build_filter(["price<5"], CATALOG) == {"range": {"price": {"lt": 5.0}}}
    both = build_filter(["price<5", "brand=Sony"], CATALOG)
    assert both == {"bool": {"filter": [{"range": {"price": {"lt": 5.0}}}, {"term": {"brand.keyword": "Sony"}}]}}


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("|", "\\|")


VALUES = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)


@given(st.lists(VALUES, min_size=1, max_size=4), st.sampled_from(["=", "!="]))
def test_any_values_survive_the_round_trip(values: list[str], operator: str) -> None:
    clause = parse_filter(f"brand{operator}{'|'.join(map(escape, values))}", CATALOG)
    if operator == "!=":
        [clause] = clause["bool"]["must_not"]
    found = clause["terms"] if "terms" in clause else clause["term"]
    assert found["brand.keyword"] == (values if len(values) > 1 else values[0])


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<", "<=", ">", ">="]))
def test_any_number_survives_the_round_trip(number: float, operator: str) -> None:
    [bound] = parse_filter(f"price{operator}{number!r}", CATALOG)["range"]["price"].values()
    assert bound == number


FRAGMENTS = st.sampled_from(
    ["brand", "price", "attributes.", "id", "=", "!", "<", ">", "|", "\\", " ", "1", "nan", "x"]
)


@given(st.one_of(st.text(alphabet=st.characters(), max_size=40), st.lists(FRAGMENTS, max_size=8).map("".join)))
def test_anything_is_a_clause_or_a_query_error(expression: str) -> None:
    try:
        clause = parse_filter(expression, CATALOG)
    except QueryError:
        return
    json.dumps(clause, ensure_ascii=False, allow_nan=False).encode()  # finite numbers, and it can be sent
    assert all(clause.values())
