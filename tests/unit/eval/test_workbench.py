from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.datasets import DataFile, parse_qrels, parse_queries
from lrem_os.eval.workbench import MAX_QUERIES, export_files, export_workbench, trec_files
from lrem_os.types import Query

QRELS = {"q1": {"a": 2, "b": 0}, "q2": {"a": 1}}


def check_as_the_plugin_does(query_sets: Any, judgments: Any) -> None:
    """Raise ``AssertionError`` for what the plugin's own code would answer with 400.

    After RestPutQuerySetAction, TextValidationUtil and ImportJudgmentsProcessor of opensearch-project/search-relevance.
    """

    def check(text: object, max_chars: int) -> None:
        assert isinstance(text, str)
        assert 0 < len(text) <= max_chars
        assert not re.search(r'["\\<>]', text)

    for body in query_sets:
        check(body["name"], 50)
        if "description" in body:
            check(body["description"], 250)
        assert body["sampling"] == "manual"
        assert 0 < len(body["querySetQueries"]) <= 1000
        for query in body["querySetQueries"]:
            check(query["queryText"], 2000)
            assert not set("\r\n") & set(query["queryText"])
    check(judgments["name"], 50)
    assert judgments["type"] == "IMPORT_JUDGMENT"
    for row in judgments["judgmentRatings"]:
        assert isinstance(row["query"], str)
        assert isinstance(row["ratings"], list)
        for rating in row["ratings"]:
            assert isinstance(rating["docId"], str)
            assert rating["docId"]
            assert isinstance(rating["rating"], str)
            assert float(rating["rating"]) >= 0


def test_bodies() -> None:
    export = export_workbench(
        [Query("q1", "red  sofa"), Query("q2", "blue chair"), Query("q3", "lamp")],
        QRELS,
        name="Shop",
        description="June",
    )
    assert export.query_sets == (
        {
            "name": "Shop",
            "description": "June",
            "sampling": "manual",
            "querySetQueries": [{"queryText": "red sofa"}, {"queryText": "blue chair"}, {"queryText": "lamp"}],
        },
    )
    assert export.judgments == {
        "name": "Shop",
        "description": "June",
        "type": "IMPORT_JUDGMENT",
        "judgmentRatings": [
            {"query": "red sofa", "ratings": [{"docId": "a", "rating": "2.0"}, {"docId": "b", "rating": "0.0"}]},
            {"query": "blue chair", "ratings": [{"docId": "a", "rating": "1.0"}]},
        ],
    }


def test_what_the_workbench_refuses_is_left_out_and_named() -> None:
    files, account = export_files([Query("q1", '55" tv'), Query("q2", "blue chair")], QRELS, name="Shop")
    assert account["left_out"] == ["q1"]
    assert account["notes"] == ["left out, the workbench refuses their text: 1 (q1)"]
    assert (account["queries"], account["judgments"]) == (1, 1)
    assert b"tv" not in files["query_set.json"] + files["judgments.json"]


def test_queries_with_one_text_become_one() -> None:
    files, account = export_files([Query("q1", "sofa"), Query("q2", "sofa ")], QRELS, name="Shop")
    assert account["merged"] == ["q2"]
    assert account["notes"][-1] == "1 pairs of merged queries had two grades: the higher was taken"
    (row,) = orjson.loads(files["judgments.json"])["judgmentRatings"]
    assert row["ratings"] == [{"docId": "a", "rating": "2.0"}, {"docId": "b", "rating": "0.0"}]


def test_a_long_query_file_becomes_several_sets() -> None:
    queries = [Query(f"q{number}", f"query {number}") for number in range(2 * MAX_QUERIES + 1)]
    export = export_workbench(queries, {}, name="Shop")
    assert [body["name"] for body in export.query_sets] == ["Shop 1/3", "Shop 2/3", "Shop 3/3"]
    assert [len(body["querySetQueries"]) for body in export.query_sets] == [1000, 1000, 1]
    files, _ = export_files(queries, {}, name="Shop")
    assert list(files) == ["query_set_1.json", "query_set_2.json", "query_set_3.json", "judgments.json"]


@pytest.mark.parametrize(("name", "description"), [("", ""), ("x" * 43, ""), ("a<b", ""), ("Shop", "x" * 251)])
def test_names_that_the_workbench_refuses(name: str, description: str) -> None:
    with pytest.raises(InputError, match="characters long"):
        export_workbench([Query("q1", "sofa")], QRELS, name=name, description=description)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InputError, match="takes none of these queries"):
        export_workbench([Query("q1", "<b>")], QRELS, name="Shop")


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=12),
    st.dictionaries(st.integers(0, 11), st.dictionaries(st.text("abc", min_size=1), st.integers(0, 4), min_size=1)),
)
def test_any_export_passes_the_plugin_s_checks(texts: list[str], grades: dict[int, dict[str, int]]) -> None:
    queries = [Query(f"q{number}", text) for number, text in enumerate(texts)]
    qrels = {f"q{number}": row for number, row in grades.items()}
    try:
        export = export_workbench(queries, qrels, name="Shop")
    except InputError:
        assert all(re.search(r'["\\<>]', text) or not text.split() for text in texts)
        return
    check_as_the_plugin_does(export.query_sets, export.judgments)
    kept = {query.query_id for query in queries} - set(export.left_out)
    assert sum(len(body["querySetQueries"]) for body in export.query_sets) == len(kept) - len(export.merged)


def test_trec_files_read_back() -> None:
    files, account = trec_files([Query("q1", "red\tsofa"), Query("q2", "chair")], {**QRELS, "q9": {"z": 1}})
    assert account["notes"] == ["left out: judgments of 1 queries that the query file lacks"]
    lines = {name: tuple(enumerate(data.decode().splitlines(), 1)) for name, data in files.items()}
    assert parse_queries(DataFile("t", "", lines["topics.tsv"])) == (Query("q1", "red sofa"), Query("q2", "chair"))
    assert parse_qrels(DataFile("q", "", lines["qrels.txt"])) == QRELS


def test_an_id_with_a_blank_has_no_place_in_trec() -> None:
    with pytest.raises(DatasetError, match="holds a blank"):
        trec_files([Query("q1", "sofa")], {"q1": {"a b": 1}})
