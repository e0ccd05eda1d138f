"""From runs and judgments to one result: which queries count, what each run scores on them, how sure that is.

Which queries count. Those of the query file that have a relevant judgment. One without is left out and reported:
recall is 0/0 there, and nDCG the same 0 for every system (trec_eval and ir_measures keep it in the mean as a 0). One
that a run does not answer counts 0 and is reported (trec_eval does so with ``-c``). Judgments of queries that are not
in the query file, and answers to them, are left out and reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from lrem_os.config import EvalSettings
from lrem_os.errors import InputError, RunError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.intervals import Estimate, bootstrap
from lrem_os.eval.measures import Measure, Values, measure_queries
from lrem_os.eval.runs import Run, strict
from lrem_os.types import Query

Estimates = Mapping[str, Estimate]
"""Measure (``ndcg@10``) → its mean and interval."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run scores.

    Args:
        overall: Over all queries that count.
        by_type: Per query type; empty when the queries have fewer than two.
        per_query: Query id → measure → value.
        missing: Queries it has no results for; they count 0.
        num_extra: Queries it answers that are not in the query file.
        difference: Paired difference to the baseline; empty without one, and for the baseline itself.
    """

    overall: Estimates
    by_type: Mapping[str, Estimates]
    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    num_extra: int
    difference: Estimates = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which queries count.

    Args:
        counted: With a relevant judgment, in the order of the query file.
        asked: Ids of all queries in the query file.
        unjudged: Queries without any judgment.
        without_relevant: Queries that are judged, but have nothing relevant.
    """

    counted: tuple[Query, ...]
    asked: frozenset[str]
    unjudged: tuple[str, ...]
    without_relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunCard:
    """What must be known to repeat an evaluation.

    Args:
        num_queries: In the query file.
        num_evaluated: Of those, with a relevant judgment: the ones that count.
        unjudged: Queries without any judgment.
        without_relevant: Queries whose judgments are all below ``min_grade``.
        num_extra_judged: Judged queries that are not in the query file.
        measures: Computed, in the order asked for.
        min_grade: From which grade on a product is relevant; nDCG takes the grades as they are.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        baseline: Run that the others are compared with.
        checksums: What was read → SHA-256.
        system: What answered, as handed in: model fingerprint, index.
    """

    num_queries: int
    num_evaluated: int
    unjudged: tuple[str, ...]
    without_relevant: tuple[str, ...]
    num_extra_judged: int
    measures: tuple[str, ...]
    min_grade: int
    resamples: int
    seed: int
    baseline: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The outcome of an evaluation: the runs in the order asked for, and the card."""

    runs: Mapping[str, RunResult]
    card: RunCard


def evaluate_runs(
    runs: Mapping[str, Run],
    queries: Sequence[Query],
    qrels: Qrels,
    measures: Sequence[Measure],
    *,
    settings: EvalSettings | None = None,
    min_grade: int = 1,
    baseline: str | None = None,
    checksums: Mapping[str, str] | None = None,
    system: Mapping[str, Any] | None = None,
) -> EvalResult:
    """Return what the runs score on the queries that have a relevant judgment.

    Args:
        runs: Name → query id → ranking.
        queries: Ids are unique.
        qrels: Query id → document id → grade.
        measures: See ``parse_measures``.
        settings: Seed and number of resamples.
        min_grade: From which grade on a product is relevant.
        baseline: Name of the run the others are compared with.
        checksums: For the card.
        system: For the card.

    Raises:
        InputError: No query has a relevant judgment.
        RunError: A ranking cannot be measured, a run answers none of the queries, or the baseline is none of them.
    """
    settings = settings or EvalSettings()
    if baseline is not None and baseline not in runs:
        raise RunError(f"the baseline {baseline!r} is none of the runs", hint=f"the runs are {', '.join(runs)}")
    if not runs:
        raise RunError("no run was given")
    selection = select_queries(queries, qrels, min_grade)
    values = {name: _measure_run(name, runs[name], selection, qrels, measures, min_grade) for name in runs}
    card = RunCard(
        num_queries=len(queries),
        num_evaluated=len(selection.counted),
        unjudged=selection.unjudged,
        without_relevant=selection.without_relevant,
        num_extra_judged=len(qrels.keys() - selection.asked),
        measures=tuple(str(measure) for measure in measures),
        min_grade=min_grade,
        resamples=settings.bootstrap,
        seed=settings.seed,
        baseline=baseline,
        checksums=checksums or {},
        system=system or {},
    )
    others = {name: values[baseline] if baseline not in (None, name) else {} for name in runs}
    return EvalResult(
        {name: _run_result(runs[name], selection, values[name], others[name], settings) for name in runs}, card
    )


def select_queries(queries: Sequence[Query], qrels: Qrels, min_grade: int) -> Selection:
    """Return which queries count, and why the others do not.

    Raises:
        InputError: An id comes twice, no query is judged, or none has anything relevant.
    """
    if min_grade < 1:
        raise InputError(f"min_grade is {min_grade}: want 1 or more, grade 0 means not relevant")
    ids = [query.query_id for query in queries]
    for previous, query_id in pairwise(sorted(ids)):
        if previous == query_id:
            raise InputError(f"query id {query_id!r} comes twice")
    judged = [query for query in queries if qrels.get(query.query_id)]
    if not judged:
        raise InputError(
            f"none of the {len(queries)} queries is judged: the queries have ids like {_sample(ids)}, "
            f"the judgments {_sample(qrels)}",
            hint="queries and judgments must use the same query ids",
        )
    counted = tuple(query for query in judged if max(qrels[query.query_id].values()) >= min_grade)
    if not counted:
        raise InputError(f"no query has a judgment of grade {min_grade} or more: there is nothing to find")
    return Selection(
        counted,
        asked=frozenset(ids),
        unjudged=tuple(query_id for query_id in ids if not qrels.get(query_id)),
        without_relevant=tuple(query.query_id for query in judged if max(qrels[query.query_id].values()) < min_grade),
    )


def _measure_run(
    name: str, run: Run, selection: Selection, qrels: Qrels, measures: Sequence[Measure], min_grade: int
) -> dict[Measure, Values]:
    ids = [query.query_id for query in selection.counted]
    if run.keys().isdisjoint(ids):
        raise RunError(
            f"run {name!r} answers none of the {len(ids)} judged queries: it has ids like {_sample(run)}, "
            f"the queries {_sample(ids)}",
            hint="run and queries must use the same query ids",
        )
    ranked = [
        [hit.doc_id for hit in strict(run[query_id], run=name, query_id=query_id).hits] if query_id in run else []
        for query_id in ids
    ]
    return measure_queries(measures, ranked, [qrels[query_id] for query_id in ids], min_grade=min_grade)


def _run_result(
    run: Run,
    selection: Selection,
    values: Mapping[Measure, Values],
    baseline: Mapping[Measure, Values],
    settings: EvalSettings,
) -> RunResult:
    def estimates(part: Mapping[Measure, Values]) -> dict[str, Estimate]:
        return {
            str(measure): bootstrap(one, resamples=settings.bootstrap, seed=settings.seed)
            for measure, one in part.items()
        }

    counted = selection.counted
    types = sorted({query.type for query in counted})
    masks = {kind: np.array([query.type == kind for query in counted]) for kind in types if len(types) > 1}
    return RunResult(
        overall=estimates(values),
        by_type={kind: estimates({m: one[mask] for m, one in values.items()}) for kind, mask in masks.items()},
        per_query={
            query.query_id: {str(measure): float(one[idx]) for measure, one in values.items()}
            for idx, query in enumerate(counted)
        },
        missing=tuple(q.query_id for q in counted if q.query_id not in run or not run[q.query_id].hits),
        num_extra=len(run.keys() - selection.asked),
        difference=estimates({measure: values[measure] - other for measure, other in baseline.items()}),
    )


def _sample(ids: Sequence[str] | Mapping[str, Any]) -> str:
    first = next(iter(ids), None)
    return "none" if first is None else repr(first)
