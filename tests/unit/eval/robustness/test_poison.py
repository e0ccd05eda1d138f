from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.robustness.poison import KINDS, build_poison, by_kind, kind_of

QUERIES = [
    f"{adjective} {noun}" for adjective in ("red", "warm", "cheap") for noun in ("sofa", "lamp", "tent", "boots")
]


def test_a_third_of_each_kind() -> None:
    products = build_poison(QUERIES, 10, 1999, title="title", body="description")
    assert Counter(kind_of(product["id"]) for product in products) == {"copied": 4, "stuffed": 3, "generated": 3}
    assert {kind: len(ids) for kind, ids in by_kind([product["id"] for product in products]).items()} == {
        "copied": 4,
        "stuffed": 3,
        "generated": 3,
    }
    by = {kind: [product for product in products if kind_of(product["id"]) == kind] for kind in KINDS}
    assert {product["title"] for product in by["copied"]} <= set(QUERIES)
    assert len({product["title"] for product in by["copied"]}) == 4
    assert Counter(by["stuffed"][0]["description"].split())["sofa"] == 3
    assert sum(query in by["generated"][0]["description"] for query in QUERIES) == 12


def test_no_other_text_field_means_the_title_says_it_all() -> None:
    (product,) = build_poison(["red sofa"], 1, 5, title="name", body="name", id_field="sku")
    assert product == {"sku": "lrem-os-poison-copied-0000", "name": "red sofa. red sofa"}


@given(
    st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(0, 9),
)
def test_any_queries_make_as_many_products_as_asked_whatever_their_order(
    texts: list[str], count: int, seed: int
) -> None:
    products = build_poison(texts, count, seed, title="title", body="description")
    assert len({product["id"] for product in products}) == count
    assert all(product["title"].strip() and product["description"].strip() for product in products)
    assert build_poison(texts[::-1], count, seed, title="title", body="description") == products


def test_ids_of_others_are_no_kind() -> None:
    assert kind_of("B0001") == kind_of("lrem-os-poison-other-1") == kind_of("copied-1") == ""
