from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os import __version__
from lrem_os.config import EvalSettings
from lrem_os.errors import InputError, RunError
from lrem_os.eval import evaluate as module
from lrem_os.eval.evaluate import Evaluation, evaluate_runs
from lrem_os.eval.measures import parse_measures
from lrem_os.eval.report import to_dict
from lrem_os.eval.result import EvalResult, Mover
from lrem_os.eval.runs import write_run
from lrem_os.eval.stream import RunFile
from lrem_os.types import Hit, Query, Ranking, Trace

FAST = EvalSettings(bootstrap=100)
QUERIES = (Query("q1", "bag", "easy"), Query("q2", "not leather", "negative"), Query("q3", "sofa", "easy"))
QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1, "a": 0}, "q3": {"d": 3}}


def ranking(*docs: str) -> Ranking:
    return Ranking(tuple(Hit(doc_id, float(-rank)) for rank, doc_id in enumerate(docs)))


NOW = "2026-11-21T20:00:00+00:00"


def evaluate(
    *runs: Mapping[str, Ranking] | RunFile,
    queries: Sequence[Query] = QUERIES,
    qrels: dict[str, dict[str, int]] = QRELS,
    measures: Sequence[str] = ("recall@10",),
    **options: object,
) -> EvalResult:
    named = {f"run{n}": run for n, run in enumerate(runs, 1)}
    return evaluate_runs(named, queries, qrels, parse_measures(measures), settings=FAST, **{"date": NOW, **options})  # type: ignore[arg-type]


def per_query(result: EvalResult, measure: str = "recall@10", run: str = "run1") -> dict[str, float]:
    return {query_id: values[measure] for query_id, values in result.runs[run].per_query.items()}


def test_overall_and_by_type() -> None:
    result = evaluate({"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("x")})
    assert per_query(result) == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    run = result.runs["run1"]
    assert run.overall["recall@10"].mean == 0.5
    assert run.overall["recall@10"].num_queries == 3
    assert {
        kind: (part["recall@10"].mean, part["recall@10"].num_queries) for kind, part in run.slices["type"].items()
    } == {
        "easy": (0.25, 2),
        "negative": (1.0, 1),
    }


def test_one_type_is_no_slice() -> None:
    queries = [Query(query.query_id, query.text, "easy") for query in QUERIES]
    assert evaluate({"q1": ranking("a")}, queries=queries).runs["run1"].slices == {}


# The four cells of ir_measures' matrix, each against queries that are asked, judged, and have something to find.


def test_no_run_at_all_is_a_sentence() -> None:
    with pytest.raises(RunError, match=r"run 'run1' answers none of the 3 judged queries: it has ids like none"):
        evaluate({})
    with pytest.raises(RunError, match=r"it has ids like 'Q1', the queries 'q1'"):
        evaluate({"Q1": ranking("a")})
    with pytest.raises(RunError, match="no run was given"):
        evaluate()


def test_nothing_found_for_any_query_counts_0() -> None:
    result = evaluate(
        {query.query_id: Ranking(()) for query in QUERIES}, measures=("ndcg@10", "precision@5", "judged@3")
    )
    assert {measure: estimate.mean for measure, estimate in result.runs["run1"].overall.items()} == {
        "ndcg@10": 0.0,
        "precision@5": 0.0,
        "judged@3": 0.0,
    }
    assert result.runs["run1"].missing == ("q1", "q2", "q3")


def test_part_of_a_run_counts_0_for_the_rest_and_says_so() -> None:
    result = evaluate({"q2": ranking("c"), "q3": Ranking(())})
    assert per_query(result) == {"q1": 0.0, "q2": 1.0, "q3": 0.0}
    assert result.runs["run1"].missing == ("q1", "q3")
    assert result.runs["run1"].overall["recall@10"].mean == pytest.approx(1 / 3)


def test_queries_without_judgments_are_left_out_and_named() -> None:
    run = {"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("d")}
    result = evaluate(run, qrels={"q1": {"a": 1}, "q3": {"d": 0, "e": 0}})
    assert per_query(result) == {"q1": 1.0}
    assert (result.card.unjudged, result.card.without_relevant) == (("q2",), ("q3",))
    assert (result.card.num_queries, result.card.num_evaluated) == (3, 1)


def test_extra_judgments_and_extra_answers_are_left_out_and_counted() -> None:
    run = {"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("d"), "q8": ranking("a")}
    result = evaluate(run, qrels={**QRELS, "q9": {"a": 1}, "q10": {"a": 1}})
    assert list(per_query(result)) == ["q1", "q2", "q3"]
    assert result.card.num_extra_judged == 2
    assert result.runs["run1"].num_extra == 1


def test_a_nan_score_is_refused_by_name() -> None:
    run = {"q1": Ranking((Hit("a", math.nan),))}
    with pytest.raises(RunError, match="run 'run1', query 'q1': document 'a' has score nan"):
        evaluate(run)


def test_thirty_equal_scores_are_ordered_by_id() -> None:
    docs = [f"d{n:02}" for n in range(30)]
    for last in docs[:3], docs[27:]:
        random.Random(0).shuffle(docs)
        result = evaluate(
            {"q1": Ranking(tuple(Hit(doc_id, 1.0) for doc_id in docs))},
            queries=[Query("q1", "bag")],
            qrels={"q1": {last[0]: 1}},
            measures=["mrr@100"],
        )
        assert per_query(result, "mrr@100")["q1"] == 1 / (int(last[0][1:]) + 1)


def test_min_grade_decides_which_queries_have_something_to_find() -> None:
    run = {"q1": ranking("b"), "q2": ranking("c"), "q3": ranking("d")}
    result = evaluate(run, min_grade=2)
    assert per_query(result) == {"q1": 0.0, "q3": 1.0}
    assert result.card.without_relevant == ("q2",)
    with pytest.raises(InputError, match="no query has a judgment of grade 4 or more"):
        evaluate(run, min_grade=4)
    with pytest.raises(InputError, match="min_grade is 0"):
        evaluate(run, min_grade=0)


def test_no_judgments_at_all_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"none of the 3 queries is judged: .* 'q1', the judgments none"):
        evaluate({"q1": ranking("a")}, qrels={})
    with pytest.raises(InputError, match=r"none of the 3 queries is judged: .* 'q1', the judgments '1'"):
        evaluate({"q1": ranking("a")}, qrels={"1": {"a": 1}})


def test_a_query_id_that_comes_twice_is_refused() -> None:
    with pytest.raises(InputError, match="query id 'q1' comes twice"):
        evaluate({"q1": ranking("a")}, queries=[*QUERIES, Query("q1", "again")])


def test_paired_difference_to_the_baseline() -> None:
    # both runs vary much over the queries, their difference not at all
    worse = {"q1": ranking("x", "a"), "q2": ranking("x", "c"), "q3": ranking("x", "x2", "x3")}
    better = {"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("x", "d")}
    result = evaluate(worse, better, measures=["mrr@10"], baseline="run1")
    assert result.runs["run1"].difference == {}
    difference = result.runs["run2"].difference["mrr@10"]
    assert (difference.mean, difference.low, difference.high, difference.num_queries) == (0.5, 0.5, 0.5, 3)
    assert result.runs["run2"].overall["mrr@10"].low < result.runs["run2"].overall["mrr@10"].high


def test_a_baseline_that_is_no_run_is_refused() -> None:
    with pytest.raises(RunError, match="the baseline 'bm25' is none of the runs"):
        evaluate({"q1": ranking("a")}, baseline="bm25")


IDS = st.sampled_from("abcdef")
RUNS = st.dictionaries(
    st.sampled_from([query.query_id for query in QUERIES]),
    st.dictionaries(IDS, st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(RUNS, st.randoms())
def test_order_of_insertion_is_irrelevant(scores: dict[str, dict[str, float]], rng: random.Random) -> None:
    def shuffled(mapping):
        items = list(mapping.items())
        rng.shuffle(items)
        return dict(items)

    def run(rows):
        return {q: Ranking(tuple(Hit(d, s) for d, s in docs.items())) for q, docs in rows.items()}

    measures = ("ndcg@3", "recall@2", "mrr@5", "judged@2")
    expected = evaluate(run(scores), measures=measures)
    again = evaluate(
        run(shuffled({query_id: shuffled(docs) for query_id, docs in scores.items()})),
        qrels=shuffled({query_id: shuffled(grades) for query_id, grades in QRELS.items()}),
        measures=measures,
    )
    assert again == expected


def test_means_by_traffic_stand_beside_those_by_query() -> None:
    queries = [
        Query("q1", "bag", "easy", 97),
        Query("q2", "not leather", "negative", 2),
        Query("q3", "sofa", "easy", 1),
    ]
    run = evaluate({"q1": ranking("a", "b"), "q2": ranking("x"), "q3": ranking("x")}, queries=queries).runs["run1"]
    assert run.overall["recall@10"].mean == pytest.approx(1 / 3)
    assert run.weighted["recall@10"].mean == pytest.approx(0.97)
    assert run.slices.keys() == {"type", "frequency"}
    assert {part: one["recall@10"].num_queries for part, one in run.slices["frequency"].items()} == {
        "head": 1,
        "tail": 2,
    }


def test_equal_frequencies_are_not_weighed() -> None:
    queries = [Query(query.query_id, query.text, frequency=5) for query in QUERIES]
    assert evaluate({"q1": ranking("a")}, queries=queries).runs["run1"].weighted == {}


@pytest.mark.parametrize("frequency", [0.0, -1.0, math.nan, math.inf])
def test_a_frequency_that_is_none_is_refused(frequency: float) -> None:
    with pytest.raises(InputError, match=r"query 'q1' has frequency .*: want a number above 0"):
        evaluate({"q1": ranking("a")}, queries=[Query("q1", "bag", frequency=frequency), *QUERIES[1:]])


def test_routes_are_slices_of_the_run_that_took_them() -> None:
    def routed(docs: str, route: str) -> Ranking:
        return Ranking(ranking(docs).hits, trace=Trace(route, score=0.5, latency_ms=3.0))

    routes = {"q1": routed("a", "direct"), "q2": routed("c", "reasoned"), "q3": routed("x", "direct")}
    result = evaluate(routes, {"q1": ranking("a")})
    sliced = result.runs["run1"].slices["route"]
    assert {route: (one["recall@10"].mean, one["recall@10"].num_queries) for route, one in sliced.items()} == {
        "direct": (0.25, 2),
        "reasoned": (1.0, 1),
    }
    assert "route" not in result.runs["run2"].slices
    assert result.runs["run1"].traces["q2"] == Trace("reasoned", score=0.5, latency_ms=3.0)
    assert result.runs["run2"].traces == {}


def test_a_comparison_by_hand() -> None:
    # mrr of run1 0, 1/2, 1/3; of run2 1, 1, 1/3: two won, one tied, and 2 of 4 patterns of signs are as far from 0
    worse = {"q1": ranking("x"), "q2": ranking("x", "c"), "q3": ranking("x", "y", "d")}
    better = {"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("x", "y", "d")}
    result = evaluate(worse, better, measures=["mrr@10"], baseline="run1")
    found = result.runs["run2"].comparison["mrr@10"]
    assert (found.wins, found.ties, found.losses) == (2, 1, 0)
    assert (found.p_value, found.p_adjusted) == (0.5, 0.5)
    assert found.effect_size == pytest.approx(0.5 / 0.5)
    assert found.underpowered
    assert result.runs["run2"].movers["mrr@10"] == (Mover("q1", 1.0, 0.0, 1.0), Mover("q2", 1.0, 0.5, 0.5))
    assert result.runs["run1"].comparison == {}
    assert result.runs["run1"].movers == {}


def test_holm_counts_all_runs_and_measures() -> None:
    queries = [Query(f"q{n}", "bag") for n in range(12)]
    qrels = {query.query_id: {"a": 1} for query in queries}
    good, bad = ({query.query_id: ranking(*docs) for query in queries} for docs in (("a", "b"), ("b", "a")))
    options = {"queries": queries, "qrels": qrels, "baseline": "run1"}
    worse = {query.query_id: ranking("b", "x", "a") for query in queries}
    result = evaluate(bad, good, worse, measures=["mrr@10", "precision@1"], **options)
    found = [one for name in ("run2", "run3") for one in result.runs[name].comparison.values()]
    assert [one.p_value for one in found] == [2 / 2**12] * 3 + [1.0]
    assert [one.p_adjusted for one in found] == pytest.approx([4 * 2 / 2**12] * 3 + [1.0])
    result = evaluate(bad, good, good, measures=["recall@1", "hitrate@1", "judged@1"], **options)  # all say the same
    assert {one.p_adjusted for one in result.runs["run3"].comparison.values()} == {2 / 2**12}
    settings = EvalSettings(bootstrap=100, test="t")
    named = {"run1": bad, "run2": good}
    result = evaluate_runs(named, queries, qrels, parse_measures(["mrr@10"]), settings=settings, baseline="run1")
    assert (result.card.test, result.runs["run2"].comparison["mrr@10"].p_value) == ("t", 0.0)


def test_violations_are_over_the_queries_that_exclude_something() -> None:
    run = {"q1": ranking("x"), "q2": ranking("c", "x"), "q3": ranking("d")}
    violations = {"q2": {"x"}, "unasked": {"y"}}
    measures = ["violation@10", "recall@10"]
    result = evaluate(run, {**run, "q2": ranking("c")}, measures=measures, violations=violations, baseline="run1")
    assert result.card.less_is_better == ("violation@10",)
    overall = result.runs["run1"].overall
    assert (overall["violation@10"].mean, overall["violation@10"].num_queries) == (0.5, 1)
    assert overall["recall@10"].num_queries == 3
    assert result.runs["run1"].per_query["q1"].keys() == {"recall@10"}
    assert result.runs["run1"].slices["type"]["easy"].keys() == {"recall@10"}
    assert result.runs["run2"].difference["violation@10"].mean == -0.5
    found = result.runs["run2"].comparison["violation@10"]
    assert (found.wins, found.ties, found.losses) == (1, 0, 0)


def test_a_file_scores_what_its_rankings_score(tmp_path: Path) -> None:
    run = {"q1": ranking("b", "a"), "q2": ranking("x", "c"), "extra": ranking("z")}
    write_run(tmp_path / "run1.trec", "run1", run)
    expected = evaluate(run)
    assert evaluate(RunFile(str(tmp_path / "run1.trec"))) == expected
    assert expected.runs["run1"].missing == ("q3",)
    assert expected.runs["run1"].num_extra == 1
    assert expected.runs["run1"].depth == 2
    write_run(tmp_path / "other.trec", "other", {"Q1": ranking("a")})
    with pytest.raises(RunError, match="answers none of the 3 judged queries: it has ids like 'Q1'"):
        evaluate(RunFile(str(tmp_path / "other.trec")))


def test_many_queries_are_measured_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [Query(f"q{n}", "bag") for n in range(25)]
    qrels = {query.query_id: {"a": 1} for query in queries}
    run = {f"q{n}": ranking(*(["x"] * (n % 2)), "a") for n in reversed(range(25))}
    expected = evaluate(run, queries=queries, qrels=qrels, measures=["mrr@10"])
    for size in (1, 4, 25):
        monkeypatch.setattr(module, "_BATCH", size)
        assert evaluate(run, queries=queries, qrels=qrels, measures=["mrr@10"]) == expected
    assert per_query(expected, "mrr@10") == {f"q{n}": 0.5 if n % 2 else 1.0 for n in range(25)}


def test_each_run_is_taken_once_and_let_go() -> None:
    class Lazy(dict[str, Any]):
        def __getitem__(self, name: str) -> dict[str, Ranking]:
            taken.append(name)
            return {"q1": ranking("a" if name == "one" else "x")}

    taken: list[str] = []
    result = evaluate_runs(Lazy(one=None, two=None), QUERIES, QRELS, parse_measures(["recall@10"]), settings=FAST)
    assert taken == ["one", "two"]
    assert [run.overall["recall@10"].mean for run in result.runs.values()] == [pytest.approx(1 / 6), 0.0]


def test_runs_are_shown_in_the_order_asked_for_and_have_names_of_their_own() -> None:
    evaluation = Evaluation(QUERIES, QRELS, parse_measures(["recall@10"]), settings=FAST)
    evaluation.add("file", {"q1": ranking("a")})
    evaluation.add("live", {"q1": ranking("x")})
    assert list(evaluation.result(order=["live", "file"]).runs) == ["live", "file"]
    with pytest.raises(RunError, match="two runs are called 'file'"):
        evaluation.add("file", {"q1": ranking("a")})
    with pytest.raises(RunError, match="the baseline 'bm25' is none of the runs"):
        evaluation.result(baseline="bm25")


def test_the_card_tells_when_with_what_and_how() -> None:
    given = {"checksums": {"queries": "sha256:00"}, "system": {"model": "x"}, "commit": "abc", "config_hash": "def"}
    card = evaluate({"q1": ranking("a")}, notes=["hello"], **given).card
    assert [card.checksums, card.system, card.commit, card.config_hash] == list(given.values())
    assert (card.date, card.version, card.notes) == (NOW, __version__, ("hello",))
    assert (card.resamples, card.permutations, card.seed, card.test) == (100, 10_000, 0, "randomisation")
    now = evaluate({"q1": ranking("a")}, date="").card.date
    assert abs(datetime.fromisoformat(now) - datetime.now(UTC)) < timedelta(minutes=10)


@settings(max_examples=25, deadline=None)
@given(RUNS, RUNS, st.permutations(QUERIES), st.sampled_from([(1.0, 1.0, 1.0), (9.0, 3.0, 1.0)]))
def test_the_order_of_the_query_file_changes_no_number(
    scores: dict[str, dict[str, float]],
    others: dict[str, dict[str, float]],
    shuffled: list[Query],
    frequencies: tuple[float, ...],
) -> None:
    asked = dict(zip(QUERIES, frequencies, strict=True))
    runs = [
        {q: Ranking(tuple(Hit(d, s) for d, s in docs.items())) for q, docs in rows.items()} for rows in (scores, others)
    ]
    expected, again = (
        evaluate(
            *runs,
            queries=[Query(q.query_id, q.text, q.type, asked[q]) for q in order],
            measures=("ndcg@3", "mrr@5"),
            baseline="run1",
        )
        for order in (QUERIES, shuffled)
    )
    numbers, same = to_dict(expected)["runs"], to_dict(again)["runs"]
    for run in (*numbers.values(), *same.values()):
        run["missing"].sort()
    assert same == numbers
