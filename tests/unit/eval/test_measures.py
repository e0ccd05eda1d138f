from __future__ import annotations

import math
import subprocess
import sys

import pytest

from lrem_os.errors import DependencyMissing, InputError
from lrem_os.eval.measures import (
    DEFINITIONS,
    Measure,
    measure_queries,
    parse_measure,
    parse_measures,
    standard_measures,
)


def value(
    measure: str, ranked: list[str], judged: dict[str, int], min_grade: int = 1, violating: set[str] | None = None
) -> float:
    parsed = parse_measure(measure)
    return float(measure_queries([parsed], [ranked], [judged], violating=[violating], min_grade=min_grade)[parsed][0])


JUDGED = {"a": 3, "b": 1, "c": 0, "d": 2}
LOG3, LOG5 = math.log2(3), math.log2(5)


@pytest.mark.parametrize(
    ("measure", "ranked", "expected"),
    [
        # linear gains: 2**grade - 1 would give (1 + 7 / LOG3) / (7 + 3 / LOG3 + 1 / 2)
        ("ndcg@10", ["b", "a"], (1 + 3 / LOG3) / (3 + 2 / LOG3 + 1 / 2)),
        ("ndcg@1", ["d", "a"], 2 / 3),
        ("ndcg@10", ["x", "c", "y", "b"], (1 / LOG5) / (3 + 2 / LOG3 + 1 / 2)),
        ("ndcg@10", ["a", "d", "b"], 1.0),
        ("hitrate@2", ["a", "x", "b"], 1 / 3),
        ("hitrate@10", ["a", "x", "b"], 2 / 3),
        ("recall@10", ["a", "x", "b"], 2 / 3),
        ("success@2", ["x", "a", "b"], 1.0),
        ("success@1", ["x", "a", "b"], 0.0),
        ("precision@10", ["a", "x", "b"], 2 / 10),  # divided by k though only 3 came back
        ("precision@2", ["a", "x", "b"], 1 / 2),
        ("mrr@10", ["x", "c", "d"], 1 / 3),
        ("mrr@2", ["x", "c", "d"], 0.0),
        ("judged@2", ["c", "x", "a"], 1 / 2),
        ("judged@10", ["c", "x", "a"], 2 / 3),
        ("map@10", ["b", "x", "a"], (1 / 1 + 2 / 3) / 3),  # over all three relevant ones, found or not
        ("map@2", ["b", "x", "a"], 1 / 3),
        ("map@10", ["x", "c", "y"], 0.0),
        *((f"{name}@10", [], 0.0) for name in DEFINITIONS if name != "violation"),
    ],
)
def test_values_by_hand(measure: str, ranked: list[str], expected: float) -> None:
    assert value(measure, ranked, JUDGED) == pytest.approx(expected, rel=1e-12)


def test_hitrate_and_success_are_two_things() -> None:
    judged = {f"d{n}": 1 for n in range(8)}
    assert value("hitrate@10", ["d0", "d1"], judged) == 0.25  # LREM: share of the relevant that are found
    assert value("success@10", ["d0", "d1"], judged) == 1.0  # ranx's hit_rate: is any found


def test_min_grade_moves_the_line_for_all_but_ndcg_and_judged() -> None:
    ranked = ["b", "a"]
    names = [name for name in DEFINITIONS if name != "violation"]
    by_grade = {name: [value(f"{name}@10", ranked, JUDGED, grade) for grade in (1, 2, 3)] for name in names}
    ndcg = (1 + 3 / LOG3) / (3 + 2 / LOG3 + 1 / 2)
    assert by_grade == {
        "ndcg": pytest.approx([ndcg] * 3),
        "hitrate": pytest.approx([2 / 3, 1 / 2, 1]),
        "recall": pytest.approx([2 / 3, 1 / 2, 1]),
        "precision": pytest.approx([0.2, 0.1, 0.1]),
        "success": [1, 1, 1],
        "mrr": [1, 1 / 2, 1 / 2],
        "map": pytest.approx([2 / 3, 1 / 4, 1 / 2]),
        "judged": [1, 1, 1],
    }


@pytest.mark.parametrize(
    ("measure", "ranked", "violating", "expected"),
    [
        ("violation@2", ["a", "x", "y"], {"x", "y", "z"}, 1 / 2),
        ("violation@3", ["a", "x", "y"], {"x", "y", "z"}, 2 / 3),
        ("violation@10", ["a", "x"], {"x"}, 1 / 2),  # of what came back, not of 10: fewer results are no merit
        ("violation@10", ["a", "x"], set(), 0.0),
        ("violation@10", [], {"x"}, 0.0),
    ],
)
def test_violations_by_hand(measure: str, ranked: list[str], violating: set[str], expected: float) -> None:
    assert value(measure, ranked, JUDGED, violating=violating) == expected


def test_a_query_without_an_exclusion_has_no_violation_rate() -> None:
    measures = parse_measures(["violation@10", "precision@1"])
    values = measure_queries(measures, [["a"], ["x"]], [{"a": 1}] * 2, violating=[None, {"x"}])
    assert math.isnan(values[measures[0]][0])
    assert values[measures[0]][1] == 1.0
    assert values[measures[1]].tolist() == [1.0, 0.0]


def test_standard_measures_are_all_but_the_one_under_two_names() -> None:
    names = [name.split("@")[0] for name in standard_measures([10], violations=True)]
    assert set(DEFINITIONS) - set(names) == {"recall"}
    assert standard_measures([5, 100])[::7] == ("ndcg@5", "ndcg@100")
    assert [str(measure) for measure in parse_measures(standard_measures([6000]))] == list(standard_measures([6000]))


def test_queries_keep_their_places() -> None:
    measure = Measure("recall", 10)
    ranked = [[f"d{n}"] if n % 3 else [] for n in range(25)]
    values = measure_queries([measure], ranked, [{"d4": 1, "d5": 1}] * 25)[measure]
    assert values.tolist() == [0.5 if n in (4, 5) else 0.0 for n in range(25)]


def test_ids_that_differ_only_in_a_nul_are_two() -> None:
    # in numpy's fixed-width strings, which ranx's own containers use, a trailing NUL is lost
    assert value("precision@1", ["a\x00"], {"a": 1}) == 0.0


def test_no_queries_no_values() -> None:
    assert {str(m): v.tolist() for m, v in measure_queries([Measure("ndcg", 10)], [], []).items()} == {"ndcg@10": []}


def test_measures_are_parsed_once_each_in_order() -> None:
    assert [str(m) for m in parse_measures(["nDCG@10", " recall@100 ", "ndcg@10"])] == ["ndcg@10", "recall@100"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@10", "no measure is called 'ndgc@10': do you mean 'ndcg'?"),
        ("P@10", "no measure is called 'P@10': do you mean 'precision'?"),
        ("hit_rate@10", "'hitrate' (the share of the relevant found) or 'success' (1 if any is found)?"),
        ("xyz@10", "no measure is called 'xyz@10'"),
        ("ndcg", "measure 'ndcg' has no cutoff"),
        ("ndcg@", "the cutoff is ''"),
        ("ndcg@0", "the cutoff is '0'"),
        ("ndcg@-1", "the cutoff is '-1'"),
        ("ndcg@1e2", "the cutoff is '1e2'"),
        ("ndcg@10001", "the cutoff is '10001', want an integer from 1 to 10000"),
    ],
)
def test_a_measure_that_does_not_exist_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_measure(text)
    assert message in str(caught.value)


def test_unknown_names_come_with_the_known_ones() -> None:
    known = "known are ndcg@k, hitrate@k, recall@k, precision@k, success@k, mrr@k, map@k, judged@k, violation@k"
    with pytest.raises(InputError) as caught:
        parse_measure("xyz@10")
    assert caught.value.hint == known
    with pytest.raises(InputError) as caught:
        parse_measures([])
    assert caught.value.hint == known


def test_without_ranx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ranx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ranx", None)
    with pytest.raises(DependencyMissing, match="'ranx' is not installed") as caught:
        value("ndcg@10", ["a"], {"a": 1})
    assert caught.value.hint == "pip install 'lrem-os[eval]'"


def test_ranx_is_imported_only_to_compute() -> None:
    code = (
        "import sys; from lrem_os.eval import files, report, measures; measures.parse_measure('ndcg@10');"
        "print([name for name in ('ranx', 'numba', 'opensearchpy', 'torch', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
