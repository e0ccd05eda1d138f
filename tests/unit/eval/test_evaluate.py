from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config import EvalSettings
from lrem_os.errors import InputError, RunError
from lrem_os.eval.evaluate import EvalResult, evaluate_runs
from lrem_os.eval.measures import parse_measures
from lrem_os.types import Hit, Query, Ranking

FAST = EvalSettings(bootstrap=100)
QUERIES = (Query("q1", "bag", "easy"), Query("q2", "not leather", "negative"), Query("q3", "sofa", "easy"))
QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1, "a": 0}, "q3": {"d": 3}}


def ranking(*docs: str) -> Ranking:
    return Ranking(tuple(Hit(doc_id, float(-rank)) for rank, doc_id in enumerate(docs)))


def evaluate(
    *runs: dict[str, Ranking],
    queries: Sequence[Query] = QUERIES,
    qrels: dict[str, dict[str, int]] = QRELS,
    measures: Sequence[str] = ("recall@10",),
    **options: object,
) -> EvalResult:
    named = {f"run{n}": run for n, run in enumerate(runs, 1)}
    return evaluate_runs(named, queries, qrels, parse_measures(measures), settings=FAST, **options)  # type: ignore[arg-type]


def per_query(result: EvalResult, measure: str = "recall@10", run: str = "run1") -> dict[str, float]:
    return {query_id: values[measure] for query_id, values in result.runs[run].per_query.items()}


def test_overall_and_by_type() -> None:
    result = evaluate({"q1": ranking("a"), "q2": ranking("c"), "q3": ranking("x")})
    assert per_query(result) == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    run = result.runs["run1"]
    assert run.overall["recall@10"].mean == 0.5
    assert run.overall["recall@10"].num_queries == 3
    assert {kind: (part["recall@10"].mean, part["recall@10"].num_queries) for kind, part in run.by_type.items()} == {
        "easy": (0.25, 2),
        "negative": (1.0, 1),
    }


def test_one_type_is_no_slice() -> None:
    queries = [Query(query.query_id, query.text, "easy") for query in QUERIES]
    assert evaluate({"q1": ranking("a")}, queries=queries).runs["run1"].by_type == {}


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
