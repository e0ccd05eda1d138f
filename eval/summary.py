"""From the values of all runs to means, intervals, slices and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrem_os.config import EvalSettings
from lrem_os.eval.compare import compare, movers
from lrem_os.eval.intervals import Estimate, Floats, bootstrap_columns
from lrem_os.eval.measures import Measure
from lrem_os.eval.result import Comparison, Estimates, Mover, QueryValues, RunResult
from lrem_os.eval.slices import parts_by_route, parts_of_queries
from lrem_os.types import Query, Trace


@dataclass(frozen=True, slots=True)
class Measured:
    """What is kept of a run.

    Args:
        values: (queries, measures); NaN where a measure does not apply to a query.
        missing: Queries without a result.
        num_extra: Queries it answers that were not asked.
        depth: Results that it holds for a query, at most.
        traces: Query id → how it was served.
    """

    values: Floats
    missing: tuple[str, ...]
    num_extra: int
    depth: int
    traces: Mapping[str, Trace]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the values.

    Args:
        counted: The queries, one a row.
        asked: All queries of the file.
        measures: One a column.
        baseline: Name of the run the others are compared with.
        settings: Seed, resamples, test.
    """

    counted: Sequence[Query]
    asked: Sequence[Query]
    measures: Sequence[Measure]
    baseline: str | None
    settings: EvalSettings


def summarise(runs: Mapping[str, Measured], question: Question) -> dict[str, RunResult]:
    """Return each run's result.

    Whatever can be resampled together is: one set of draws serves all runs. They are drawn from the queries in the
    order of their ids, so the order of the file changes nothing.
    """
    per_query = {name: _per_query(run, question) for name, run in runs.items()}
    order = sorted(range(len(question.counted)), key=lambda row: question.counted[row].query_id)
    question = replace(question, counted=[question.counted[row] for row in order])
    runs = {name: replace(run, values=run.values[order]) for name, run in runs.items()}
    ids = [query.query_id for query in question.counted]
    names = [str(measure) for measure in question.measures]
    values = {name: run.values for name, run in runs.items()}
    overall = _estimate(values, question)
    weighted = _weighted(values, question)
    slices = _slices(runs, question)
    baseline = None if question.baseline is None else values[question.baseline]
    others = {name: one for name, one in values.items() if name != question.baseline}
    differences = {} if baseline is None else {name: one - baseline for name, one in others.items()}
    difference = _estimate(differences, question)
    comparison = _compare(differences, question)
    return {
        name: RunResult(
            overall=overall[name],
            per_query=per_query[name],
            missing=run.missing,
            num_extra=run.num_extra,
            depth=run.depth,
            weighted=weighted.get(name, {}),
            slices=slices[name],
            difference=difference.get(name, {}),
            comparison=comparison.get(name, {}),
            movers={} if baseline is None or name not in others else _movers(ids, names, run.values, baseline),
            traces=run.traces,
        )
        for name, run in runs.items()
    }


def _per_query(run: Measured, question: Question) -> QueryValues:
    ids = [query.query_id for query in question.counted]
    return QueryValues(ids, [str(measure) for measure in question.measures], run.values)


def _estimate(values: Mapping[str, Floats], question: Question, weights: Floats | None = None) -> dict[str, Estimates]:
    """Return per run the estimates of its measures, those that apply to any of the queries."""
    if not values:
        return {}
    settings, width = question.settings, len(question.measures)
    found = bootstrap_columns(
        np.hstack(list(values.values())), resamples=settings.bootstrap, seed=settings.seed, weights=weights
    )
    return {name: _named(found[at * width : (at + 1) * width], question.measures) for at, name in enumerate(values)}


def _named(estimates: Sequence[Estimate | None], measures: Sequence[Measure]) -> Estimates:
    return {str(measure): one for measure, one in zip(measures, estimates, strict=True) if one is not None}


def _weighted(values: Mapping[str, Floats], question: Question) -> dict[str, Estimates]:
    frequencies = np.array([query.frequency for query in question.counted])
    if (frequencies == frequencies[0]).all():
        return {}
    return _estimate(values, question, weights=frequencies)


def _slices(runs: Mapping[str, Measured], question: Question) -> dict[str, dict[str, dict[str, Estimates]]]:
    """Return run → dimension → part → estimates. Runs took different routes, so those are resampled run by run."""
    values = {name: run.values for name, run in runs.items()}
    found: dict[str, dict[str, dict[str, Estimates]]] = {name: {} for name in runs}
    for dimension, masks in parts_of_queries(question.counted, question.asked).items():
        for part, mask in masks.items():
            estimates = _estimate({name: one[mask] for name, one in values.items()}, question)
            for name in runs:
                found[name].setdefault(dimension, {})[part] = estimates[name]
    for name, run in runs.items():
        masks = parts_by_route(question.counted, run.traces)
        routes = {part: _estimate({name: run.values[mask]}, question)[name] for part, mask in masks.items()}
        found[name] |= {"route": routes} if routes else {}
    return found


def _compare(differences: Mapping[str, Floats], question: Question) -> dict[str, dict[str, Comparison]]:
    if not differences:
        return {}
    settings, names = question.settings, [str(measure) for measure in question.measures]
    families = ["judgments" if measure.name == "judged" else "quality" for measure in question.measures]
    found = compare(
        np.hstack(list(differences.values())),
        less_is_better=[measure.less_is_better for measure in question.measures] * len(differences),
        families=families * len(differences),
        test=settings.test,
        permutations=settings.permutations,
        seed=settings.seed,
        relevant_difference=settings.relevant_difference,
    )
    return {
        name: dict(zip(names, found[at * len(names) : (at + 1) * len(names)], strict=True))
        for at, name in enumerate(differences)
    }


def _movers(ids: Sequence[str], names: Sequence[str], values: Floats, baseline: Floats) -> dict[str, tuple[Mover, ...]]:
    return {name: movers(ids, values[:, at], baseline[:, at]) for at, name in enumerate(names)}
