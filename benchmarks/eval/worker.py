"""One way of evaluating, in a process of its own: `python -m benchmarks.eval.worker WAY FOLDER`; prints JSON.

Every way reads the same TREC files, works out the same measures per query and compares every run with the first. A tiny
evaluation before the clock starts leaves out imports and compilation.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

MEASURES = ("ndcg@10", "precision@10", "success@10", "recall@100", "recall@1000", "map@1000")
RANX = {"ndcg@10": "ndcg@10", "precision@10": "precision@10", "success@10": "hit_rate@10"}
RANX |= {name: name for name in ("recall@100", "recall@1000", "map@1000")}

Scores = dict[str, np.ndarray]
Clock = Callable[[str], None]


def lrem_os(runs: list[Path], qrels_path: Path, clock: Clock) -> dict[str, Any]:
    """The product: lists streamed; all intervals, 10,000 permutations, Holm, effect sizes, movers."""
    from lrem_os.eval.datasets import read_qrels
    from lrem_os.eval.evaluate import Evaluation
    from lrem_os.eval.measures import parse_measures
    from lrem_os.eval.stream import RunFile
    from lrem_os.types import Query

    qrels = read_qrels(qrels_path)
    evaluation = Evaluation([Query(query_id, "words") for query_id in qrels], qrels, parse_measures(MEASURES))
    for path in runs:
        evaluation.add(path.stem, RunFile(str(path)))
    clock("read_and_measure")
    result = evaluation.result(baseline=runs[0].stem)
    clock("compare")
    return {
        "means": {name: {one: run.overall[one].mean for one in MEASURES} for name, run in result.runs.items()},
        "comparisons": sum(len(run.comparison) for run in result.runs.values()),
    }


def ranx(runs: list[Path], qrels_path: Path, clock: Clock) -> dict[str, Any]:
    """Plain ranx, a run after the other: all at once do not fit; its randomisation test with its 1,000 permutations."""
    from ranx import Qrels, Run, evaluate
    from ranx.statistical_tests import fisher_randomization_test

    qrels = Qrels.from_file(str(qrels_path), kind="trec")
    scores: dict[str, Scores] = {}
    for path in runs:
        run = Run.from_file(str(path), kind="trec")
        found = evaluate(qrels, run, list(RANX.values()), return_mean=False, save_results_in_run=False)
        scores[path.stem] = {ours: np.asarray(found[theirs]) for ours, theirs in RANX.items()}
        del run
    clock("read_and_measure")
    comparisons = _compare(scores, runs, fisher_randomization_test)
    clock("compare")
    return {"means": _means(scores), "comparisons": comparisons}


def ir_measures(runs: list[Path], qrels_path: Path, clock: Clock) -> dict[str, Any]:
    """ir_measures (pytrec_eval underneath), a run after the other; it has no tests: scipy's paired t-test."""
    import ir_measures as irm
    from ir_measures import AP, P, R, Success, nDCG
    from scipy.stats import ttest_rel

    measures = {"ndcg@10": nDCG @ 10, "precision@10": P @ 10, "success@10": Success @ 10}
    measures |= {"recall@100": R @ 100, "recall@1000": R @ 1000, "map@1000": AP @ 1000}
    names = {measure: name for name, measure in measures.items()}
    evaluator = irm.evaluator(list(names), list(irm.read_trec_qrels(str(qrels_path))))
    scores: dict[str, Scores] = {}
    for path in runs:
        values: dict[str, dict[str, float]] = {name: {} for name in MEASURES}
        for metric in evaluator.iter_calc(irm.read_trec_run(str(path))):
            values[names[metric.measure]][metric.query_id] = metric.value
        scores[path.stem] = {name: np.array([one[key] for key in sorted(one)]) for name, one in values.items()}
    clock("read_and_measure")
    comparisons = _compare(scores, runs, ttest_rel)
    clock("compare")
    return {"means": _means(scores), "comparisons": comparisons}


def _compare(scores: dict[str, Scores], runs: list[Path], test: Callable[..., Any]) -> int:
    baseline, *others = (path.stem for path in runs)
    found = [test(scores[baseline][name], scores[other][name]) for other in others for name in MEASURES]
    return len(found)


def _means(scores: dict[str, Scores]) -> dict[str, dict[str, float]]:
    return {run: {name: float(values.mean()) for name, values in one.items()} for run, one in scores.items()}


WAYS = {"lrem-os": lrem_os, "ranx": ranx, "ir_measures": ir_measures}


def main(way: str, folder: Path) -> None:
    runs = sorted(folder.glob("run*.trec"))
    WAYS[way](sorted((folder / "warm").glob("run*.trec")), folder / "warm" / "qrels.txt", lambda _what: None)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times: dict[str, dict[str, float]] = {}
    last = [time.perf_counter(), time.process_time()]

    def clock(what: str) -> None:
        now = [time.perf_counter(), time.process_time()]
        times[what] = {"wall_s": now[0] - last[0], "cpu_s": now[1] - last[1]}
        last[:] = now

    answer = WAYS[way](runs, folder / "qrels.txt", clock)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = {unit: sum(one[unit] for one in times.values()) for unit in ("wall_s", "cpu_s")}
    answer |= {"times": times, "total": total, "peak_mib": peak_mib, "before_mib": before_mib}
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
