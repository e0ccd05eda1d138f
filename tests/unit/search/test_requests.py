from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.errors import QueryError, Unsupported
from lrem_os.search import requests
from lrem_os.search.requests import SearchSetup, build_body, is_blank, lexical_text, text_query
from lrem_os.types import MODES, Mode

FILTER = {"term": {"brand.keyword": "Sony"}}


RRF: dict[str, Any] = {"fusion": "rrf", "weights": (0.5, 0.5)}


def setup(version: tuple[int, int, int] = (3, 6, 0), *, filters: Any = None, **search: Any) -> SearchSetup:
    return SearchSetup(CatalogSettings(), IndexSettings(), SearchSettings(**({**RRF, **search})), version, filters)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["", "   ", "\u200b\u3000\n", "\x00"])
def test_a_blank_text_browses_by_id_in_every_mode(mode: Mode, text: str) -> None:
    body = build_body(setup(filters=FILTER), mode, text, None, top_k=5)
    assert body["query"] == {"bool": {"filter": [FILTER]}}
    assert body["sort"] == [{"id": "asc"}]
    assert "match" not in json.dumps(build_body(setup(), mode, text, None, top_k=5)).replace("match_all", "")


@pytest.mark.parametrize(("version", "is_shared"), [((2, 19, 0), False), ((3, 0, 0), True), ((3, 6, 0), True)])
def test_the_hybrid_filter_reaches_both_legs(version: tuple[int, int, int], is_shared: bool) -> None:
    hybrid = build_body(setup(version, filters=FILTER), "hybrid", "bag", [1.0], top_k=5)["query"]["hybrid"]
    text_leg, vector_leg = hybrid["queries"]
    if is_shared:
        assert hybrid["filter"] == FILTER
        assert "term" not in json.dumps(hybrid["queries"])
    else:
        assert "filter" not in hybrid
        assert text_leg["bool"]["filter"] == [FILTER]
        assert vector_leg["knn"]["lrem_vector"]["filter"] == FILTER


def test_the_candidate_depth_is_the_same_on_every_page() -> None:
    depths = set()
    for start in (0, 10, 100, 190):
        hybrid = build_body(setup(), "hybrid", "bag", [1.0], top_k=10, start=start)["query"]["hybrid"]
        depths.add((hybrid["pagination_depth"], hybrid["queries"][1]["knn"]["lrem_vector"]["k"]))
    assert depths == {(200, 200)}


@pytest.mark.parametrize(
    ("mode", "top_k", "start", "named"),
    [
        ("hybrid", 10, 191, "search.candidates"),
        ("vector", 201, 0, "search.candidates"),
        ("bm25", 1, 10_000, "index.max_result_window"),
        ("bm25", 0, 0, "at least 1"),
        ("hybrid", 5, -1, "from hit 0"),
    ],
)
def test_a_page_beyond_what_is_ranked_is_refused(mode: Mode, top_k: int, start: int, named: str) -> None:
    with pytest.raises(QueryError, match=named):
        build_body(setup(), mode, "bag", [1.0], top_k=top_k, start=start)


def test_the_deepest_page_is_allowed() -> None:
    assert build_body(setup(), "vector", "bag", [1.0], top_k=10, start=190)["from"] == 190
    assert build_body(setup(), "bm25", "bag", None, top_k=10, start=9_990)["from"] == 9_990


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_a_missing_vector_is_a_sentence(mode: Mode) -> None:
    with pytest.raises(QueryError, match="needs the query's vector"):
        build_body(setup(), mode, "bag", None, top_k=5)


def test_weighted_rrf_needs_3_1() -> None:
    weighted: dict[str, Any] = {"weights": (0.2, 0.8)}
    with pytest.raises(Unsupported, match=r"OpenSearch 3\.0\.0 cannot weight RRF"):
        build_body(setup((3, 0, 0), **weighted), "hybrid", "bag", [1.0], top_k=5)
    assert "weights" in json.dumps(build_body(setup((3, 1, 0), **weighted), "hybrid", "bag", [1.0], top_k=5))
    minmax = build_body(setup((2, 19, 0), fusion="minmax", **weighted), "hybrid", "bag", [1.0], top_k=5)
    assert "[0.2, 0.8]" in json.dumps(minmax)
    assert "weights" not in json.dumps(build_body(setup((2, 19, 0)), "hybrid", "bag", [1.0], top_k=5))


def test_without_source_nothing_is_fetched() -> None:
    bare = SearchSetup(CatalogSettings(), IndexSettings(), SearchSettings(), (3, 6, 0), with_source=False)
    assert build_body(bare, "bm25", "bag", None, top_k=5)["_source"] is False


@pytest.mark.parametrize(
    ("text", "num_words"),
    [
        ("word " * 2000, 200),  # 10,000 characters
        ("x" * 60_000, 200),  # OpenSearch splits a word after 255 characters
        ("日本語" * 3_400, 200),  # no blanks: each character is a word
        ("👜" * 10_000, 200),
        ("a-b-c/" * 1_700, 200),
        ("حقيبة " * 1_700, 200),
    ],
)
def test_a_long_text_is_cut_to_what_five_fields_may_hold(text: str, num_words: int) -> None:
    cut = lexical_text(text, num_fields=5)
    assert text.startswith(cut)
    assert len(requests._WORD.findall(cut)) == num_words


def test_a_short_text_is_left_alone() -> None:
    text = 'حقيبة "red* AND (👜) \u202e -- café'
    assert lexical_text(text, num_fields=5) == text


@given(st.text(max_size=300), st.integers(1, 1500))
def test_lexical_text_is_a_beginning(text: str, num_fields: int) -> None:
    cut = lexical_text(text, num_fields)
    assert text.startswith(cut)
    assert lexical_text(cut, num_fields) == cut


@given(st.text(alphabet=st.characters(), max_size=60), st.sampled_from(MODES))
def test_every_text_gives_a_body_that_can_be_sent(text: str, mode: Mode) -> None:
    body = build_body(setup(), mode, text, [1.0], top_k=5)
    json.dumps(body, ensure_ascii=False).encode()
    if not is_blank(text) and mode == "bm25":
        assert body["query"]["multi_match"]["query"]


WORDS = st.text(alphabet="abc ", max_size=80)


@given(WORDS, st.lists(WORDS, max_size=30), st.floats(0.01, 1))
def test_keywords_never_outweigh_the_query(text: str, keywords: list[str], text_boost: float) -> None:
    """BM25 sums over words: words x boost of all keywords is at most ``text_boost`` x the query's words."""
    with_boost = replace(setup(), text_boost=text_boost)
    query = text_query(with_boost, text, keywords)
    if "bool" not in query:
        assert query == text_query(with_boost, text)
        return
    asked, added = (clause["multi_match"] for clause in query["bool"]["should"])
    assert asked == text_query(with_boost, text)["multi_match"]
    num_asked, num_added = (len(requests._WORD.findall(part["query"])) for part in (asked, added))
    assert num_added * added["boost"] <= text_boost * num_asked + 1e-3
    assert added["boost"] <= text_boost + 1e-6


def test_query_and_keywords_together_stay_below_the_servers_limit() -> None:
    with_boost = replace(setup(), text_boost=1.0)
    query = text_query(with_boost, "a " * 150, ["b " * 150])
    words = [len(clause["multi_match"]["query"].split()) for clause in query["bool"]["should"]]
    assert words == [150, 50]
    assert "bool" not in text_query(with_boost, "a " * 200, ["b"])
