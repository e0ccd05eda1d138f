"""The sample catalog that ships: complete, consistent, and judged the way its README says."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

DATA = files("lrem_os.demo") / "data"
TYPES = ("easy", "qa", "alternative", "negative", "knowledge")
PRODUCT_FIELDS = {"id", "title", "description", "brand", "category", "price", "attributes"}

Row = dict[str, Any]


def lines(name: str) -> list[str]:
    text = (DATA / name).read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return text.removesuffix("\n").split("\n")


def json_rows(name: str) -> list[Row]:
    return [json.loads(line) for line in lines(name)]


def repeated(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


@pytest.fixture(scope="module")
def catalog() -> dict[str, Row]:
    return {row["id"]: row for row in json_rows("catalog.jsonl")}


@pytest.fixture(scope="module")
def queries() -> dict[str, Row]:
    return {row["qid"]: row for row in json_rows("queries.jsonl")}


@pytest.fixture(scope="module")
def qrels() -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for line in lines("qrels.txt"):
        qid, zero, doc_id, grade = line.split(" ")
        assert zero == "0"
        judged.setdefault(qid, {})[doc_id] = int(grade)
    return judged


@pytest.fixture(scope="module")
def violations() -> dict[str, list[str]]:
    return {row["qid"]: row["ids"] for row in json_rows("violations.jsonl")}


@pytest.mark.parametrize(
    ("name", "count"), [("catalog.jsonl", 400), ("queries.jsonl", 60), ("qrels.txt", 219), ("violations.jsonl", 12)]
)
def test_each_file_holds_as_many_lines_as_its_readme_says(name: str, count: int) -> None:
    rows = lines(name)

    assert len(rows) == count
    assert repeated(rows) == []
    assert [row for row in rows if row != row.strip()] == []
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{re.escape(name)}` .*\b{count} \w+", readme, re.MULTILINE)


def test_ids_and_titles_and_descriptions_are_unique() -> None:
    rows = json_rows("catalog.jsonl")

    assert repeated([row["id"] for row in rows]) == []
    assert repeated([row["title"].casefold() for row in rows]) == []
    assert repeated([row["description"].casefold() for row in rows]) == []


def test_every_product_has_every_field_with_its_type(catalog: dict[str, Row]) -> None:
    for product in catalog.values():
        assert set(product) == PRODUCT_FIELDS
        assert re.fullmatch(r"p\d{4}", product["id"])
        for field in ("title", "description", "brand", "category"):
            assert product[field] == product[field].strip() != ""
        assert isinstance(product["price"], float)
        assert product["price"] > 0
        assert len(product["attributes"]) >= 2
        assert all(isinstance(value, str) and value for value in product["attributes"].values())
        assert len(product["category"].split(" > ")) in (2, 3)


def test_the_shop_is_broad(catalog: dict[str, Row]) -> None:
    departments = Counter(product["category"].split(" > ")[0] for product in catalog.values())
    readme = (DATA / "README.md").read_text(encoding="utf-8")

    assert len(departments) == 16
    for department, count in departments.items():
        assert f"| {department} | {count} |" in readme


def test_twelve_different_queries_of_each_type() -> None:
    rows = json_rows("queries.jsonl")

    assert Counter(row["type"] for row in rows) == dict.fromkeys(TYPES, 12)
    assert repeated([row["qid"] for row in rows]) == []
    assert repeated([row["query"].casefold() for row in rows]) == []
    assert all(set(row) == {"qid", "query", "type"} and row["query"] == row["query"].strip() != "" for row in rows)


def test_every_query_is_judged_with_products_that_exist(
    catalog: dict[str, Row], queries: dict[str, Row], qrels: dict[str, dict[str, int]]
) -> None:
    assert set(qrels) == set(queries)
    assert sum(map(len, qrels.values())) == len(lines("qrels.txt"))
    for grades in qrels.values():
        assert set(grades) <= set(catalog)
        assert set(grades.values()) <= {1, 2}
        assert 2 in grades.values()
        assert 2 <= len(grades) <= 12


def test_violations_belong_to_negative_queries_and_are_never_relevant(
    catalog: dict[str, Row],
    queries: dict[str, Row],
    qrels: dict[str, dict[str, int]],
    violations: dict[str, list[str]],
) -> None:
    assert set(violations) == {qid for qid, query in queries.items() if query["type"] == "negative"}
    for qid, ids in violations.items():
        assert ids
        assert repeated(ids) == []
        assert set(ids) <= set(catalog)
        assert not set(ids) & set(qrels[qid])


@pytest.mark.parametrize(
    ("qid", "excluded"),
    [
        ("negative-01", lambda product: "leather" in product["attributes"]["material"]),
        ("negative-02", lambda product: product["attributes"]["connection"] == "bluetooth"),
        ("negative-03", lambda product: product["attributes"]["caffeine"] == "yes"),
        ("negative-04", lambda product: product["attributes"]["color"] == "white"),
        ("negative-05", lambda product: product["attributes"]["scent"] != "none"),
        ("negative-06", lambda product: product["attributes"]["material"] == "wool"),
        ("negative-07", lambda product: re.search("down|feather", product["attributes"]["material"])),
        ("negative-08", lambda product: product["attributes"]["color"] == "black"),
        ("negative-09", lambda product: "nonstick" in product["attributes"].get("coating", "")),
        ("negative-10", lambda product: product["attributes"]["color"] == "gold"),
        ("negative-11", lambda product: "chicken" in product["attributes"]["flavor"]),
        ("negative-12", lambda product: "batteries" in product["attributes"]["power"]),
    ],
)
def test_the_attribute_a_negative_query_excludes_tells_violation_from_answer(
    qid: str,
    excluded: Any,
    catalog: dict[str, Row],
    qrels: dict[str, dict[str, int]],
    violations: dict[str, list[str]],
) -> None:
    assert [doc_id for doc_id in violations[qid] if not excluded(catalog[doc_id])] == []
    assert [doc_id for doc_id in qrels[qid] if excluded(catalog[doc_id])] == []


def test_brands_of_the_alternative_queries_are_not_in_the_catalog(catalog: dict[str, Row]) -> None:
    brands = {product["brand"].casefold() for product in catalog.values()}
    real = {"la mer", "eames", "le creuset", "apple", "birkenstock", "dyson", "stanley", "lego", "vitamix", "hermes"}
    text = " ".join(f"{product['title']} {product['description']}" for product in catalog.values()).casefold()

    assert not brands & (real | {"fender", "diptyque"})
    for name in (real - {"apple"}) | {"fender", "stratocaster", "diptyque", "airpods", "quencher"}:
        assert not re.search(rf"\b{name}\b", text), name
