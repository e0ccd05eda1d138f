from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.slices import Masks, frequency_parts, length_part, parts_by_route, parts_of_queries
from lrem_os.types import Query, Trace


def members(masks: Masks, queries: Sequence[Query]) -> dict[str, list[str]]:
    return {
        part: [query.query_id for query, there in zip(queries, mask, strict=True) if there]
        for part, mask in masks.items()
    }


QUERIES = [
    Query("q1", "bag", "easy", 60),
    Query("q2", "red leather bag", "qa", 25),
    Query("q3", "a bag that is not leather please", "easy", 10),
    Query("q4", "sofa", "easy", 5),
]


def test_every_dimension_of_the_queries() -> None:
    found = {name: members(masks, QUERIES) for name, masks in parts_of_queries(QUERIES, QUERIES).items()}
    assert found == {
        "type": {"easy": ["q1", "q3", "q4"], "qa": ["q2"]},
        "length": {"1-2 words": ["q1", "q4"], "3-5 words": ["q2"], "6+ words": ["q3"]},
        # 60 of 100 stand before q2: less than two thirds; 85 and 95 before the others
        "frequency": {"head": ["q1"], "torso": ["q2"], "tail": ["q3", "q4"]},
    }
    assert list(found["length"]) == ["1-2 words", "3-5 words", "6+ words"]


def test_a_dimension_with_one_part_is_none() -> None:
    assert parts_of_queries(QUERIES[:1] + QUERIES[3:], QUERIES[:1] + QUERIES[3:]).keys() == {"frequency"}
    alike = [Query(f"q{n}", "bag") for n in range(5)]
    assert parts_of_queries(alike, alike) == {}


def test_the_traffic_is_that_of_the_whole_file() -> None:
    found = parts_of_queries(QUERIES[1:], QUERIES)
    assert members(found["frequency"], QUERIES[1:]) == {"torso": ["q2"], "tail": ["q3", "q4"]}


@pytest.mark.parametrize(("words", "part"), [(1, "1-2"), (2, "1-2"), (3, "3-5"), (5, "3-5"), (6, "6+"), (40, "6+")])
def test_length_in_words(words: int, part: str) -> None:
    assert length_part("  ".join(["word"] * words)) == f"{part} words"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.randoms())
def test_frequency_parts_do_not_depend_on_the_order(frequencies: list[int], rng: random.Random) -> None:
    queries = [Query(f"q{n}", "x", frequency=float(value)) for n, value in enumerate(frequencies)]
    parts = frequency_parts(queries)
    shuffled = queries[:]
    rng.shuffle(shuffled)
    assert frequency_parts(shuffled) == parts
    rank = {"head": 0, "torso": 1, "tail": 2}
    for one in queries:
        for other in queries:
            if one.frequency >= other.frequency:
                assert rank[parts[one.query_id]] <= rank[parts[other.query_id]]
    assert parts[max(queries, key=lambda query: query.frequency).query_id] == "head"


def test_routes_are_those_of_the_traces() -> None:
    traces = {"q1": Trace("direct"), "q2": Trace("reasoned"), "q3": Trace("direct")}
    assert members(parts_by_route(QUERIES, traces), QUERIES) == {"": ["q4"], "direct": ["q1", "q3"], "reasoned": ["q2"]}
    assert parts_by_route(QUERIES[:1], traces) == {}
    assert parts_by_route(QUERIES, {}) == {}
