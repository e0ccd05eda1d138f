from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import Settings
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.service.guarded import ByModel, replace_knn
from lrem_os.query_plugin.service.neural import rewrite
from lrem_os.search.requests import SearchSetup
from tests.fakes.engine import by_words, direct, vector_of

SETTINGS = Settings()
SETUP = SearchSetup(SETTINGS.catalog, SETTINGS.index, SETTINGS.search, (3, 6, 0))
WORDS = {"match": {"title": "red bag"}}


def by_model(**models: tuple[list[str], Reading]) -> ByModel:
    return ByModel(
        {model: names for model, (names, _) in models.items()},
        {model: {reading.text: reading} for model, (_, reading) in models.items()},
    )


def evaluated(query: Mapping[str, Any], index: str) -> list[Any]:
    """Return the clauses that an index is searched with, as OpenSearch reads the filters on ``_index``."""
    if "bool" not in query:
        return [] if "match_none" in query else [query]
    inner = query["bool"]
    filters = [index in names for each in inner.get("filter", []) for names in [each["terms"]["_index"]]]
    excluded = [index in names for each in inner.get("must_not", []) for names in [each["terms"]["_index"]]]
    if not all(filters) or any(excluded):
        return []
    return [found for each in inner.get("must", []) + inner.get("should", []) for found in evaluated(each, index)]


def knn(text: str, **rest: Any) -> dict[str, Any]:
    return {"knn": {"v": {"vector": list(vector_of(text)), **rest}}}


def test_every_index_gets_the_vector_of_its_own_model_and_a_stranger_the_words() -> None:
    other = Reading("red bag", "direct", vector_of("other", 16))
    both = by_model(a=(["one", "two"], direct("red bag")), b=(["three"], other))
    clause = both.clause("red bag", {"k": 3}, "v", WORDS)
    assert evaluated(clause, "one") == evaluated(clause, "two") == [knn("red bag", k=3)]
    assert evaluated(clause, "three") == [{"knn": {"v": {"vector": list(vector_of("other", 16)), "k": 3}}}]
    assert evaluated(clause, "made meanwhile") == [WORDS]


def test_where_the_words_are_searched_beside_a_stranger_gets_nothing() -> None:
    clause = by_model(a=(["one"], direct("red bag"))).clause("red bag", {"k": 3}, "v", None)
    assert evaluated(clause, "one") == [knn("red bag", k=3)]
    assert evaluated(clause, "stranger") == []


def test_a_model_that_failed_leaves_the_words_to_its_indices() -> None:
    both = by_model(a=(["one"], direct("red bag")), b=(["two"], by_words("red bag", "embedder_failed")))
    clause = both.clause("red bag", {"k": 3}, "v", WORDS)
    assert evaluated(clause, "one") == [knn("red bag", k=3)]
    assert evaluated(clause, "two") == [WORDS]


def test_no_model_at_all() -> None:
    assert evaluated(ByModel({}, {}).clause("red bag", {"k": 3}, "v", WORDS), "one") == [WORDS]
    assert ByModel({}, {}).clause("red bag", {"_name": "n"}, "v", None) == {"match_none": {"_name": "n"}}


def test_a_name_is_put_on_the_whole() -> None:
    clause = by_model(a=(["one"], direct("red bag"))).clause("red bag", {"k": 3, "_name": "n", "boost": 2}, "v", WORDS)
    assert clause["bool"]["_name"] == "n"
    assert evaluated(clause, "one") == [knn("red bag", k=3, boost=2)]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sets(st.integers(0, 9), max_size=4), max_size=4), st.integers(0, 9)
)
def test_no_index_ever_gets_a_vector_of_another_model(holders: dict[str, set[int]], asked: int) -> None:
    taken: set[int] = set()
    models: dict[str, tuple[list[str], Reading]] = {}
    for model, numbers in holders.items():
        names = [f"i{number}" for number in sorted(numbers - taken)]
        taken |= numbers
        models[model] = (names, Reading("t", "direct", vector_of(model)))
    clause = by_model(**models).clause("t", {"k": 1}, "v", WORDS)
    owner = [model for model, (names, _) in models.items() if f"i{asked}" in names]
    assert evaluated(clause, f"i{asked}") == ([knn(owner[0], k=1)] if owner else [WORDS])


def test_a_neural_clause_wherever_it_stands() -> None:
    neural = {"neural": {"lrem_vector": {"query_text": "red bag", "k": 3}}}
    found = by_model(a=(["one"], direct("red bag")))
    readings = {"red bag": direct("red bag")}
    text = {"match": {"title": "red bag"}}
    deep = rewrite({"query": {"bool": {"must": [text, neural]}}}, readings, SETUP, found)
    must = deep["query"]["bool"]["must"]
    assert must[0] == text
    assert evaluated(must[1], "one") == [{"knn": {"lrem_vector": {"vector": list(vector_of("red bag")), "k": 3}}}]
    assert "multi_match" in str(evaluated(must[1], "stranger"))
    hybrid = rewrite({"query": {"hybrid": {"queries": [text, neural]}}}, readings, SETUP, found)
    leg = hybrid["query"]["hybrid"]["queries"][1]
    assert evaluated(leg, "one") == evaluated(must[1], "one")
    assert evaluated(leg, "stranger") == []


def test_only_knn_on_our_field_is_replaced() -> None:
    body = {"hybrid": {"queries": [knn("x", k=1), {"knn": {"other": {"vector": [1.0]}}}, WORDS]}}
    done = replace_knn(body, "v", lambda inside: {"seen": inside["k"]})
    assert done == {"hybrid": {"queries": [{"seen": 1}, {"knn": {"other": {"vector": [1.0]}}}, WORDS]}}
