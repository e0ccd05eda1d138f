"""From runs and judgments to one result: which queries count, what each run scores on them, how sure that is.

Which queries count. Those of the query file that have a relevant judgment. One without is left out and reported:
recall is 0/0 there, and nDCG the same 0 for every system (trec_eval and ir_measures keep it in the mean as a 0). One
that a run does not answer counts 0 and is reported (trec_eval does so with ``-c``). Judgments of queries that are not
in the query file, and answers to them, are left out and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lrem_os import __version__
from lrem_os.config import EvalSettings
from lrem_os.errors import RunError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.intervals import Floats
from lrem_os.eval.measures import VIOLATION, Measure, measure_queries
from lrem_os.eval.result import EvalResult, RunCard
from lrem_os.eval.runs import MAX_SCORE, Run, strict
from lrem_os.eval.selection import sample_id, select_queries, violating_documents
from lrem_os.eval.stream import RunFile
from lrem_os.eval.summary import Measured, Question, summarise
from lrem_os.eval.violations import Violations
from lrem_os.types import Query, Ranking, Trace

_BATCH = 256  # lists measured at once: all that a run from a file takes in memory


def evaluate_runs(
    runs: Mapping[str, Run | RunFile],
    queries: Sequence[Query],
    qrels: Qrels,
    measures: Sequence[Measure],
    *,
    violations: Violations | None = None,
    settings: EvalSettings | None = None,
    min_grade: int = 1,
    baseline: str | None = None,
    **card: Any,
) -> EvalResult:
    """Return what the runs score on the queries that have a relevant judgment.

    Each run is taken out of the mapping once, in order, and let go: one that makes them when asked holds one at a time.

    Args:
        runs: Name → its rankings by query id, or a file of them.
        queries: Ids are unique.
        qrels: Query id → document id → grade.
        measures: See ``parse_measures``.
        violations: For ``violation@k``.
        settings: Seed, resamples, test.
        min_grade: From which grade on a product is relevant.
        baseline: Name of the run the others are compared with.
        card: See ``Evaluation.result``.

    Raises:
        InputError: No query has a relevant judgment.
        RunError: A ranking cannot be measured, a run answers none of the queries, or the baseline is none of them.
    """
    evaluation = Evaluation(queries, qrels, measures, violations=violations, settings=settings, min_grade=min_grade)
    check_baseline(baseline, runs)
    for name in runs:
        evaluation.add(name, runs[name])
    return evaluation.result(baseline=baseline, **card)


def check_baseline(baseline: str | None, names: Mapping[str, Any]) -> None:
    """Raise ``RunError`` where there is no run, or the baseline is none of them."""
    if not names:
        raise RunError("no run was given")
    if baseline is not None and baseline not in names:
        raise RunError(f"the baseline {baseline!r} is none of the runs", hint=f"the runs are {', '.join(names)}")


class Evaluation:
    """Measures runs one after the other, keeps their values alone, and compares them in the end.

    Args:
        queries: Ids are unique.
        qrels: Query id → document id → grade.
        measures: See ``parse_measures``.
        violations: For ``violation@k``: a query without an entry has no such value.
        settings: Seed, resamples, test.
        min_grade: From which grade on a product is relevant.

    Raises:
        InputError: No query has a relevant judgment, or ``violation@k`` has nothing to go by.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        qrels: Qrels,
        measures: Sequence[Measure],
        *,
        violations: Violations | None = None,
        settings: EvalSettings | None = None,
        min_grade: int = 1,
    ) -> None:
        self._selection = select_queries(queries, qrels, min_grade)
        self._queries = tuple(queries)
        self._num_extra_judged = len(qrels.keys() - self._selection.asked)
        self._measures = tuple(measures)
        self._settings = settings or EvalSettings()
        self._min_grade = min_grade
        self._rows = {query.query_id: row for row, query in enumerate(self._selection.counted)}
        self._judged = [qrels[query_id] for query_id in self._rows]
        wanted = any(measure.name == VIOLATION for measure in measures)
        self._violating = violating_documents(self._selection, violations) if wanted else [None] * len(self._rows)
        self._measured: dict[str, Measured] = {}

    def add(self, name: str, run: Run | RunFile) -> None:
        """Measure a run.

        Raises:
            DatasetError: Its file cannot be read.
            RunError: A ranking cannot be measured, the run answers none of the queries, or another has its name.
        """
        if name in self._measured:
            raise RunError(f"two runs are called {name!r}", hint="give one another name: other=path/to/file.trec")
        values = self._without_answers()
        seen: set[str] = set()
        depths = np.zeros(len(self._rows), dtype=np.int64)
        for rows, lists in _batches(_lists(name, run, self._rows), self._rows, seen):
            values[rows] = self._measure(rows, lists)
            depths[rows] = [len(docs) for docs in lists]
        if seen.isdisjoint(self._rows):
            raise RunError(
                f"run {name!r} answers none of the {len(self._rows)} judged queries: it has ids like "
                f"{sample_id(run if isinstance(run, Mapping) else sorted(seen))}, the queries {sample_id(self._rows)}",
                hint="run and queries must use the same query ids",
            )
        self._measured[name] = Measured(
            values,
            missing=tuple(query_id for query_id, depth in zip(self._rows, depths, strict=True) if not depth),
            num_extra=len(seen - self._selection.asked),
            depth=int(depths.max()),
            traces=_traces(run, self._queries),
        )

    def result(
        self,
        *,
        baseline: str | None = None,
        order: Sequence[str] | None = None,
        checksums: Mapping[str, str] | None = None,
        system: Mapping[str, Any] | None = None,
        date: str = "",
        commit: str = "",
        config_hash: str = "",
        notes: Sequence[str] = (),
    ) -> EvalResult:
        """Return what the runs score, and how they compare.

        Args:
            baseline: Name of the run the others are compared with.
            order: Names of the runs as reports show them; none: as they were added.
            checksums: For the card: what was read → its checksum.
            system: For the card: what answered.
            date: For the card; empty: now.
            commit: For the card.
            config_hash: For the card.
            notes: For the card.

        Raises:
            RunError: There is no run, or the baseline is none of them.
        """
        check_baseline(baseline, self._measured)
        measured = {name: self._measured[name] for name in order or self._measured}
        question = Question(self._selection.counted, self._queries, self._measures, baseline, self._settings)
        settings = self._settings
        card = RunCard(
            num_queries=len(self._queries),
            num_evaluated=len(self._selection.counted),
            unjudged=self._selection.unjudged,
            without_relevant=self._selection.without_relevant,
            num_extra_judged=self._num_extra_judged,
            measures=tuple(str(measure) for measure in self._measures),
            less_is_better=tuple(str(measure) for measure in self._measures if measure.less_is_better),
            min_grade=self._min_grade,
            resamples=settings.bootstrap,
            seed=settings.seed,
            baseline=baseline,
            test=settings.test,
            permutations=settings.permutations,
            relevant_difference=settings.relevant_difference,
            date=date or datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
            commit=commit,
            config_hash=config_hash,
            checksums=checksums or {},
            system=system or {},
            notes=tuple(notes),
        )
        return EvalResult(summarise(measured, question), card, queries=self._queries)

    def _without_answers(self) -> Floats:
        """Return what a run without answers scores: 0, where a measure applies."""
        values = np.zeros((len(self._rows), len(self._measures)))
        excludes = np.array([docs is not None for docs in self._violating])
        for column, measure in enumerate(self._measures):
            if measure.name == VIOLATION:
                values[~excludes, column] = np.nan
        return values

    def _measure(self, rows: Sequence[int], lists: Sequence[Sequence[str]]) -> Floats:
        """Return (lists, measures) values of the queries in these rows."""
        found = measure_queries(
            self._measures,
            lists,
            [self._judged[row] for row in rows],
            violating=[self._violating[row] for row in rows],
            min_grade=self._min_grade,
        )
        return np.column_stack([found[measure] for measure in self._measures])


def _lists(name: str, run: Run | RunFile, wanted: Mapping[str, int]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the run's query ids with their documents, best first; without, where they are not wanted."""
    if isinstance(run, RunFile):
        yield from run.lists()
        return
    for query_id, ranking in run.items():
        yield query_id, _doc_ids(ranking, name, query_id) if query_id in wanted else ()


def _batches(
    lists: Iterator[tuple[str, Sequence[str]]], rows: Mapping[str, int], seen: set[str]
) -> Iterator[tuple[list[int], list[Sequence[str]]]]:
    """Yield rows with their lists, many at a time; note every query id that was seen."""
    batch: dict[int, Sequence[str]] = {}
    for query_id, docs in lists:
        seen.add(query_id)
        if query_id in rows:
            batch[rows[query_id]] = docs
        if len(batch) == _BATCH:
            yield list(batch), list(batch.values())
            batch = {}
    if batch:
        yield list(batch), list(batch.values())


def _doc_ids(ranking: Ranking, run: str, query_id: str) -> Sequence[str]:
    """Return the documents in the order of ``strict``, which most rankings are in already."""
    doc_ids = [hit.doc_id for hit in ranking.hits]
    scores = np.array([hit.score for hit in ranking.hits], dtype=np.float64)
    sound = (np.abs(scores) <= MAX_SCORE).all() and len(set(doc_ids)) == len(doc_ids) and all(doc_ids)
    if sound:
        narrow = scores.astype(np.float32)
        if (narrow[1:] < narrow[:-1]).all():
            return doc_ids
    return [hit.doc_id for hit in strict(ranking, run=run, query_id=query_id).hits]


def _traces(run: Run | RunFile, queries: Sequence[Query]) -> dict[str, Trace]:
    if isinstance(run, RunFile):
        return {}
    answered = [(query.query_id, run[query.query_id].trace) for query in queries if query.query_id in run]
    return {query_id: trace for query_id, trace in answered if trace is not None}
