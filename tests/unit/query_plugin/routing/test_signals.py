from __future__ import annotations

from typing import Any

import pytest

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.errors import SearchError
from lrem_os.query_plugin.routing.signals import PROBE_DEPTH, parse_probe, probe_bodies
from lrem_os.search.filters import build_filter
from lrem_os.search.requests import SearchSetup, text_query

CATALOG = CatalogSettings()


def setup(*filters: str) -> SearchSetup:
    return SearchSetup(CATALOG, IndexSettings(), SearchSettings(), (3, 6, 0), build_filter(filters, CATALOG), True)


def response(*hits: tuple[str, float]) -> dict[str, Any]:
    rows = [{"_id": key, "_score": score} for key, score in hits]
    return {"took": 1, "timed_out": False, "_shards": {"total": 1, "failed": 0}, "hits": {"hits": rows}}


def test_both_legs_are_asked_for_ids_and_scores_alone() -> None:
    text, vector = probe_bodies(setup(), "red mug", [0.6, 0.8])
    assert text["query"] == text_query(setup(), "red mug")
    assert vector["query"]["knn"]["lrem_vector"] == {"vector": [0.6, 0.8], "k": PROBE_DEPTH}
    for body in (text, vector):
        assert (body["size"], body["_source"], body["track_total_hits"]) == (PROBE_DEPTH, False, False)


def test_the_filter_of_the_query_holds_for_the_probe() -> None:
    text, vector = probe_bodies(setup("brand=Acme"), "red mug", [1.0])
    assert text["query"]["bool"]["filter"]
    assert vector["query"]["knn"]["lrem_vector"]["filter"]


def test_answers_become_legs_in_order_of_score_then_id() -> None:
    found = parse_probe([response(("b", 2.0), ("a", 2.0)), response(("c", 1.9))])
    assert (found.bm25.ids, found.bm25.scores) == (("a", "b"), (2.0, 2.0))
    assert (found.vector.ids, found.vector.scores) == (("c",), (1.9,))


def test_a_leg_that_failed_is_no_empty_leg() -> None:
    with pytest.raises(SearchError):
        parse_probe([response(), {"error": {"type": "search_phase_execution_exception"}, "status": 500}])
