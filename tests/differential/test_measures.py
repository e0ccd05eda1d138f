"""Our measures against ir_measures (pytrec_eval underneath, that is trec_eval), on the files both read.

Same numbers to 1e-12 per query. What is ours and not theirs: which queries count (see ``eval/evaluate.py``).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Judged, P, R, Success, nDCG

from lrem_os.config import EvalSettings
from lrem_os.eval.evaluate import EvalResult, evaluate_runs
from lrem_os.eval.files import evaluate_files
from lrem_os.eval.measures import parse_measures
from lrem_os.eval.runs import write_run
from lrem_os.types import Hit, Query, Ranking

# RR has no cutoff in trec_eval: ours is deeper than any list here. Judged is written in Python in ir_measures and
# breaks ties otherwise than trec_eval, so it is compared only where there are none.
PAIRS = {
    "ndcg@10": nDCG @ 10,
    "ndcg@1": nDCG @ 1,
    "ndcg@100": nDCG @ 100,
    "precision@5": P @ 5,
    "precision@100": P @ 100,
    "hitrate@10": R @ 10,
    "recall@10": R @ 10,
    "recall@100": R @ 100,
    "success@1": Success @ 1,
    "success@10": Success @ 10,
    "mrr@1000": RR,
}
JUDGED_PAIRS = {"judged@10": Judged @ 10, "judged@100": Judged @ 100}
GRADED_PAIRS = {
    "precision@10": P(rel=2) @ 10,
    "recall@10": R(rel=2) @ 10,
    "success@5": Success(rel=2) @ 5,
    "mrr@1000": RR(rel=2),
}
FAST = EvalSettings(bootstrap=100, top_k=1000)


def random_qrels(rng: random.Random, num_queries: int) -> dict[str, dict[str, int]]:
    """Graded judgments of part of the catalog; every query has something relevant."""
    return {
        f"q{n}": {
            f"d{doc}": (3 if i == 0 else rng.choice([0, 0, 1, 2, 3]))
            for i, doc in enumerate(rng.sample(range(80), rng.randint(1, 30)))
        }
        for n in range(num_queries)
    }


def random_scores(rng: random.Random, num_queries: int, kinds: str) -> dict[str, dict[str, float]]:
    """Lists of 0 to 60 documents, some queries missing. Kinds of score: few values, close values, any value."""
    draw = {
        "ties": lambda: rng.choice([0.0, 1.0, 2.0]),
        "close": lambda: 1.0 + rng.randint(0, 40) * 1e-8,  # float32 tells 1e-7 apart
        "any": lambda: rng.uniform(-50, 50),
    }[kinds]
    return {
        f"q{n}": {f"d{doc}": draw() for doc in rng.sample(range(80), rng.randint(0, 60))}
        for n in range(num_queries)
        if rng.random() > 0.1
    }


def write(tmp_path: Path, qrels: Mapping[str, Mapping[str, int]], scores: Mapping[str, Mapping[str, float]]) -> None:
    (tmp_path / "queries.tsv").write_text("".join(f"{qid}\ttext\n" for qid in qrels))
    (tmp_path / "qrels.txt").write_text(
        "".join(f"{qid} 0 {doc} {grade}\n" for qid, docs in qrels.items() for doc, grade in docs.items())
    )
    rows = [(qid, doc, score) for qid, docs in scores.items() for doc, score in docs.items()]
    (tmp_path / "run.trec").write_text("".join(f"{qid} Q0 {doc} 1 {score!r} x\n" for qid, doc, score in rows))


def ours(tmp_path: Path, measures: Mapping[str, object], **options: int) -> EvalResult:
    return evaluate_files(
        [str(tmp_path / "run.trec")],
        queries=tmp_path / "queries.tsv",
        qrels=tmp_path / "qrels.txt",
        open_retriever=lambda mode: pytest.fail(f"{mode} was opened"),
        measures=list(measures),
        settings=FAST,
        **options,
    )


def theirs(tmp_path: Path, measures: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """Return name → query → value."""
    wanted = set(measures.values())
    values: dict[object, dict[str, float]] = {measure: {} for measure in wanted}
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "run.trec")))
    for metric in ir_measures.iter_calc(wanted, qrels, run):
        values[metric.measure][metric.query_id] = metric.value
    return {name: values[measure] for name, measure in measures.items()}


def compare(result: EvalResult, expected: Mapping[str, Mapping[str, float]]) -> None:
    per_query = result.runs["run"].per_query
    differences = [
        per_query[query_id][name] - value for name, values in expected.items() for query_id, value in values.items()
    ]
    print(f"{len(differences)} values, max {np.abs(differences).max():.1e}, mean {np.mean(differences):.1e}")
    for name, values in expected.items():
        assert {query_id: row[name] for query_id, row in per_query.items()} == pytest.approx(values, abs=1e-12), name
        assert result.runs["run"].overall[name].mean == pytest.approx(np.mean(list(values.values())), abs=1e-12), name


@pytest.mark.parametrize("kinds", ["any", "ties", "close"])
@pytest.mark.parametrize("seed", range(4))
def test_run_files(tmp_path: Path, seed: int, kinds: str) -> None:
    rng = random.Random(seed)
    write(tmp_path, random_qrels(rng, 40), random_scores(rng, 40, kinds))
    measures = {**PAIRS, **JUDGED_PAIRS} if kinds == "any" else PAIRS
    compare(ours(tmp_path, measures), theirs(tmp_path, measures))


@pytest.mark.parametrize("seed", range(3))
def test_relevant_from_grade_2_on(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    write(tmp_path, random_qrels(rng, 40), random_scores(rng, 40, "ties"))
    compare(ours(tmp_path, GRADED_PAIRS, min_grade=2), theirs(tmp_path, GRADED_PAIRS))


@pytest.mark.parametrize("kinds", ["any", "ties", "close"])
def test_rankings_score_the_same_here_and_in_the_file_that_is_saved(tmp_path: Path, kinds: str) -> None:
    """Trap: ties by id ascending here, descending in trec_eval, by chance in ranx; the saved file has none left."""
    rng = random.Random(7)
    qrels, scores = random_qrels(rng, 40), random_scores(rng, 40, kinds)
    write(tmp_path, qrels, {})
    run = {qid: Ranking(tuple(Hit(doc, score) for doc, score in docs.items())) for qid, docs in scores.items()}
    write_run(tmp_path / "run.trec", "run", run)
    measures = {**PAIRS, **JUDGED_PAIRS}
    queries = [Query(qid, "text") for qid in qrels]
    result = evaluate_runs({"run": run}, queries, qrels, parse_measures(measures), settings=FAST)
    compare(result, theirs(tmp_path, measures))


@pytest.mark.parametrize("kinds", ["run", "qrels", "both"])
def test_queries_that_only_one_side_knows(tmp_path: Path, kinds: str) -> None:
    rng = random.Random(3)
    qrels, scores = random_qrels(rng, 12), random_scores(rng, 12, "any")
    if kinds in ("run", "both"):
        scores["extra"] = {"d1": 1.0}
    if kinds in ("qrels", "both"):
        qrels["lonely"] = {"d1": 1}
    write(tmp_path, qrels, scores)
    measures = {**PAIRS, **JUDGED_PAIRS}
    result = ours(tmp_path, measures)
    compare(result, theirs(tmp_path, measures))
    assert result.runs["run"].num_extra == (kinds in ("run", "both"))
    assert ("lonely" in result.runs["run"].missing) == (kinds in ("qrels", "both"))


def test_where_we_differ_on_purpose(tmp_path: Path) -> None:
    """A query with nothing to find: trec_eval and ir_measures keep a 0 in the mean, we leave it out and say so."""
    write(tmp_path, {"q1": {"a": 1}, "q2": {"a": 0}}, {"q1": {"a": 1.0}, "q2": {"a": 1.0}})
    expected = theirs(tmp_path, {"ndcg@10": nDCG @ 10})
    result = ours(tmp_path, {"ndcg@10": nDCG @ 10})
    assert expected == {"ndcg@10": {"q1": 1.0, "q2": 0.0}}
    assert result.runs["run"].overall["ndcg@10"].mean == 1.0
    assert result.card.without_relevant == ("q2",)


def test_thirty_equal_scores(tmp_path: Path) -> None:
    """The trap in ranx: an unstable sort decides, nDCG@10 was 0.0 where trec_eval says 1.0."""
    write(tmp_path, {"q1": {"d29": 1}}, {"q1": {f"d{n:02}": 1.0 for n in range(30)}})
    result = ours(tmp_path, {"ndcg@10": nDCG @ 10})
    assert theirs(tmp_path, {"ndcg@10": nDCG @ 10}) == {"ndcg@10": {"q1": 1.0}}
    assert result.runs["run"].per_query == {"q1": {"ndcg@10": 1.0}}
