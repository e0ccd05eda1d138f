from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.service.neural import find_texts, rewrite
from lrem_os.search.requests import SearchSetup, text_query
from tests.fakes.engine import by_words, direct, reasoned, vector_of

SETUP = SearchSetup(CatalogSettings(), IndexSettings(), SearchSettings(), (3, 6, 0), text_boost=0.2)
FIELD = "lrem_vector"
TEXT = "what goes under a hot pot"
FILTER = {"term": {"brand": "Bose"}}


def neural(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"neural": {FIELD: {"query_text": text, "k": 50, **more}}}


def knn(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"knn": {FIELD: {"vector": list(vector_of(text)), "k": 50, **more}}}


def match(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"multi_match": {"query": text, "fields": ["title^2", "brand"], **more}}


def rewritten(body: Any, *readings: Reading, setup: SearchSetup = SETUP) -> Any:
    """Rewrite a body; texts that no reading is given for are read directly. The body must not change."""
    before = copy.deepcopy(body)
    known = {text: direct(text) for text in find_texts(body, FIELD)} | {reading.text: reading for reading in readings}
    result = rewrite(body, known, setup)
    assert body == before
    return result


PLACES: list[Any] = [
    lambda clause: clause,
    lambda clause: {"bool": {"must": clause, "filter": [FILTER]}},
    lambda clause: {"bool": {"must": [match("x"), clause]}},
    lambda clause: {"bool": {"should": [clause, {"bool": {"should": [clause]}}], "minimum_should_match": 1}},
    lambda clause: {"bool": {"filter": clause}},
    lambda clause: {"bool": {"must_not": [clause]}},
    lambda clause: {"function_score": {"query": clause, "functions": [{"filter": clause, "weight": 2}]}},
    lambda clause: {"script_score": {"query": clause, "script": {"source": "_score", "params": {"a": 1}}}},
    lambda clause: {"constant_score": {"filter": clause, "boost": 2}},
    lambda clause: {"dis_max": {"queries": [match(), clause], "tie_breaker": 0.3}},
    lambda clause: {"boosting": {"positive": clause, "negative": FILTER, "negative_boost": 0.5}},
    lambda clause: {"nested": {"path": "parts", "query": clause, "inner_hits": {}}},
    lambda clause: {"hybrid": {"queries": [match(), clause], "pagination_depth": 100, "filter": FILTER}},
    lambda clause: {"hybrid": {"queries": [{"bool": {"must": [clause], "filter": FILTER}}, match("else")]}},
    lambda clause: {"hybrid": {"queries": [match()], "filter": clause}},
    lambda clause: {"knn": {"other": {"vector": [1], "k": 5, "filter": clause}}},
]


@pytest.mark.parametrize("place", PLACES)
def test_a_clause_is_found_wherever_it_stands(place: Any) -> None:
    body = {"size": 3, "query": place(neural()), "aggs": {"brands": {"terms": {"field": "brand"}}}}
    assert find_texts(body, FIELD) == [TEXT]
    assert rewritten(body) == {**body, "query": place(knn())}


@pytest.mark.parametrize(
    "body",
    [
        {"post_filter": neural()},
        {"rescore": {"window_size": 5, "query": {"rescore_query": neural()}}},
        {"aggs": {"near": {"filter": neural(), "aggs": {"deeper": {"filters": {"filters": {"a": neural("b")}}}}}}},
        {"highlight": {"highlight_query": neural(), "fields": {"title": {}}}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_clauses_outside_of_the_query_are_found_too(body: dict[str, Any]) -> None:
    assert TEXT in find_texts(body, FIELD)
    assert "neural" not in str(rewritten(body))


def test_what_both_clauses_know_is_kept_and_the_model_is_dropped() -> None:
    more = {
        "filter": {"bool": {"must": [FILTER]}},
        "boost": 1.5,
        "_name": "near",
        "method_parameters": {"ef_search": 9},
        "rescore": {"oversample_factor": 2},
        "expand_nested_docs": True,
    }
    assert rewritten(neural(model_id="abc", **more)) == knn(**more)


@pytest.mark.parametrize("limit", [{"k": 7}, {"min_score": 0.7}, {"max_distance": 2.0}])
def test_the_limit_that_is_given_is_kept(limit: dict[str, Any]) -> None:
    body = {"neural": {FIELD: {"query_text": TEXT, **limit}}}
    assert rewritten(body) == {"knn": {FIELD: {"vector": list(vector_of(TEXT)), **limit}}}


def test_without_a_limit_there_are_ten_as_a_neural_clause_has() -> None:
    assert rewritten({"neural": {FIELD: {"query_text": TEXT}}})["knn"][FIELD]["k"] == 10


def test_a_clause_in_the_filter_of_a_clause_is_answered() -> None:
    body = neural(filter={"bool": {"must_not": neural("shoes")}})
    assert find_texts(body, FIELD) == [TEXT, "shoes"]
    assert rewritten(body) == knn(filter={"bool": {"must_not": knn("shoes")}})


@pytest.mark.parametrize(
    "body",
    [
        {"neural": {"other": {"query_text": TEXT}}},
        {"neural": {FIELD: {"k": 5}}},
        {"neural": {FIELD: {"query_text": None}}},
        {"neural": {FIELD: {"query_text": ["a"]}}},
        {"neural": {FIELD: {"query_text": TEXT, "query_image": "aGk="}}},
        {"neural": {FIELD: {"query_text": TEXT}, "other": {"query_text": TEXT}}},
        {"neural": {FIELD: {"query_text": TEXT}}, "match": {"title": TEXT}},
        {"neural": FIELD},
        {"neural": [neural()["neural"]]},
        {"match": {"neural": {"query": FIELD}}},
        {"term": {FIELD: {"query_text": TEXT}}},
        {"script_score": {"query": {"match_all": {}}, "script": {"source": "0", "params": neural()}}},
        {"ext": neural()},
        {"hybrid": {"queries": "none"}},
        {"hybrid": []},
        [],
        None,
        "neural",
    ],
    ids=str,
)
def test_what_is_not_ours_stays_as_it_is(body: Any) -> None:
    assert find_texts(body, FIELD) == []
    assert rewritten(body) == body


ANY = st.recursive(
    st.none() | st.integers() | st.sampled_from([FIELD, "neural", TEXT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["neural", FIELD, "query_text", "hybrid", "queries", "bool", "must", "match", "filter"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(ANY)
def test_any_body_can_be_rewritten_and_has_nothing_of_ours_after_it(body: Any) -> None:
    result = rewritten(body)
    assert find_texts(result, FIELD) == []
    if not find_texts(body, FIELD):
        assert result == body


def test_without_a_vector_the_words_are_searched() -> None:
    clause = neural(filter=FILTER, boost=2, _name="near", method_parameters={"ef_search": 9})
    expected = {"must": [text_query(SETUP, TEXT)], "filter": FILTER, "boost": 2, "_name": "near"}
    assert rewritten(clause, by_words(TEXT)) == {"bool": expected}
    alone = {"hybrid": {"queries": [neural(), FILTER]}}
    assert rewritten(alone, by_words(TEXT))["hybrid"]["queries"] == [
        {"bool": {"must": [text_query(SETUP, TEXT)]}},
        FILTER,
    ]


@pytest.mark.parametrize(
    "leg",
    [match(), {"match": {"title": "x"}}, {"bool": {"must": {"query_string": {"query": "x"}}, "filter": [FILTER]}}],
)
def test_without_a_vector_a_hybrid_query_is_left_to_its_text_leg(leg: dict[str, Any]) -> None:
    body = {"hybrid": {"queries": [leg, {"bool": {"must": [neural()], "filter": [FILTER]}}]}}
    assert rewritten(body, by_words(TEXT)) == {"hybrid": {"queries": [leg, {"match_none": {}}]}}


def added(boost: float, fields: list[str], text: str = "trivet, pot stand") -> dict[str, Any]:
    clause = {"query": text, "fields": fields, "type": "best_fields", "tie_breaker": 0.3, "boost": boost}
    return {"multi_match": clause}


REASONED = reasoned(TEXT, "trivet", "pot stand")
FIELDS = ["title^2", "brand"]


def with_legs(*legs: Any) -> dict[str, Any]:
    return {"query": {"hybrid": {"queries": [*legs, neural()]}}}


def legs_of(body: dict[str, Any], *readings: Reading, setup: SearchSetup = SETUP) -> list[Any]:
    legs: list[Any] = rewritten(body, *readings, setup=setup)["query"]["hybrid"]["queries"]
    return legs[:-1]


@pytest.mark.parametrize(
    ("leg", "expected"),
    [
        (match(), {"bool": {"should": [match(), added(0.2, FIELDS)]}}),
        (
            match(boost=3, type="cross_fields", operator="and"),
            {"bool": {"should": [match(boost=3, type="cross_fields", operator="and"), added(0.6, FIELDS)]}},
        ),
        ({"match": {"title": TEXT}}, {"bool": {"should": [{"match": {"title": TEXT}}, added(0.2, ["title"])]}}),
        (
            {"match": {"title": {"query": TEXT.upper() + " ", "boost": 2}}},
            {
                "bool": {
                    "should": [{"match": {"title": {"query": TEXT.upper() + " ", "boost": 2}}}, added(0.4, ["title"])]
                }
            },
        ),
        (
            {"bool": {"must": [match()], "filter": [match()]}},
            {"bool": {"must": [{"bool": {"should": [match(), added(0.2, FIELDS)]}}], "filter": [match()]}},
        ),
        (
            {"function_score": {"query": {"dis_max": {"queries": [match(), FILTER]}}, "boost": 2}},
            {
                "function_score": {
                    "query": {"dis_max": {"queries": [{"bool": {"should": [match(), added(0.2, FIELDS)]}}, FILTER]}},
                    "boost": 2,
                }
            },
        ),
    ],
)
def test_keywords_stand_beside_the_text_that_they_are_about(leg: dict[str, Any], expected: dict[str, Any]) -> None:
    assert legs_of(with_legs(leg), REASONED) == [expected]


def test_a_multi_match_that_names_no_fields_gets_those_of_the_catalog() -> None:
    [leg] = legs_of(with_legs({"multi_match": {"query": TEXT}}), REASONED)
    assert leg["bool"]["should"][1]["multi_match"]["fields"][0] == "title^2"


def test_many_keywords_do_not_drown_a_short_query() -> None:
    keywords = tuple(f"thing{number}" for number in range(20))
    body = {"query": {"hybrid": {"queries": [match("hot pot"), neural("hot pot")]}}}
    [leg] = legs_of(body, reasoned("hot pot", *keywords))
    assert leg["bool"]["should"][1]["multi_match"]["boost"] == pytest.approx(0.2 * 2 / 20)


@pytest.mark.parametrize(
    "leg",
    [
        match("another text"),
        {"match_phrase": {"title": TEXT}},
        {"term": {"title": TEXT}},
        {"bool": {"filter": [match()], "must_not": match()}},
        match(boost="no number"),
        match(boost=-1),
        match(fields=[1]),
        {"multi_match": {"query": TEXT, "fields": {"title": 1}}},
        {"match": {"title": {"query": 5}}},
        {"match": {"title": TEXT, "brand": TEXT}},
        {"match": TEXT},
        "match",
    ],
    ids=str,
)
def test_other_legs_get_no_keywords(leg: Any) -> None:
    assert legs_of(with_legs(leg), REASONED) == [leg]


def test_keywords_stay_out_where_nothing_is_reasoned_or_they_are_not_wanted() -> None:
    assert legs_of(with_legs(match())) == [match()]
    assert legs_of(with_legs(match()), REASONED, setup=replace(SETUP, text_boost=0.0)) == [match()]
    in_bool = {"query": {"bool": {"should": [match(), neural()]}}}  # no hybrid: scores of two kinds are added up there
    assert rewritten(in_bool, REASONED)["query"]["bool"]["should"][0] == match()


def test_two_texts_each_have_their_own_keywords() -> None:
    body = {"query": {"hybrid": {"queries": [match("a b c"), neural("a b c"), match("d e f"), neural("d e f")]}}}
    legs = rewritten(body, reasoned("a b c", "one"), reasoned("d e f", "two"))["query"]["hybrid"]["queries"]
    assert [leg["bool"]["should"][1]["multi_match"]["query"] for leg in (legs[0], legs[2])] == ["one", "two"]
