"""An evaluation from files and retrievers to a result: reads, asks, keeps what was answered, and has it measured."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrem_os.config import EvalSettings
from lrem_os.errors import InputError, RunError
from lrem_os.eval.answers import Answers, open_answers
from lrem_os.eval.cost import cost_of
from lrem_os.eval.curve import curve_of_runs
from lrem_os.eval.datasets import DataFile, Qrels, parse_qrels, parse_queries, read_file
from lrem_os.eval.evaluate import Evaluation, check_baseline
from lrem_os.eval.logs import Pages, read_source
from lrem_os.eval.measures import VIOLATION, Measure, parse_measure, parse_measures, standard_measures
from lrem_os.eval.result import EvalResult
from lrem_os.eval.runs import Run, collect_run, parse_run, write_run
from lrem_os.eval.specs import RunSpec, parse_run_specs
from lrem_os.eval.stream import RunFile, is_trec_file
from lrem_os.eval.violations import Violations, parse_violations
from lrem_os.lines import claimed_folder
from lrem_os.types import Query, Retriever

DEFAULT_MEASURES = ("ndcg@10", "hitrate@10", "hitrate@100", "precision@10", "judged@10")

DIRECT, REASONED = "direct", "reasoned"
"""Names of the two runs between which the cost-quality curve runs."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the answers come from that are in no file.

    Args:
        open: Gives what answers a run on these queries; called once a run, and only where answers are missing.
        key: What the answers of a run depend on, as JSON values: answers under another key are not used again.
        scores: The router's score of each query by its id; ``None``: there is no router.
        system: What answered, for the card; called at the end.
        config_hash: Of the configuration, for the card.
        pages: Reads an index, for queries that are ``ubi:…``.
    """

    open: Callable[[RunSpec, Sequence[Query]], Retriever]
    key: Callable[[RunSpec, Sequence[Query]], Mapping[str, Any]] = lambda _spec, _queries: {}
    scores: Callable[[Sequence[Query]], Mapping[str, float]] | None = None
    system: Callable[[], Mapping[str, Any]] = dict
    config_hash: str = ""
    pages: Pages | None = None


def evaluate_files(
    runs: Sequence[str],
    source: Source,
    *,
    queries: str | Path,
    qrels: str | Path,
    settings: EvalSettings | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    min_grade: int = 1,
    baseline: str | None = None,
    violations: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    cutoffs: Sequence[int] = (),
    curve: str | None = None,
    limit: int | None = None,
    save_runs: str | Path | None = None,
    fresh: bool = False,
    on_progress: Progress | None = None,
) -> EvalResult:
    """Read what is in files, ask the source the rest, keep what it answered, measure all of it.

    Everything that can be wrong with names and files is found before the source is asked.

    Args:
        runs: See ``parse_run_specs``.
        source: Answers what is in no file.
        queries: File, or ``ubi:…``, see ``parse_queries`` and ``read_source``.
        qrels: File, see ``parse_qrels``.
        settings: Depth of the runs, named runs, seed and resamples, price.
        measures: Like ``ndcg@10``.
        min_grade: From which grade on a product is relevant.
        baseline: Name of the run the others are compared with.
        violations: File with the documents that break a query's exclusion, see ``parse_violations``; without a
            ``violation@k`` among the measures, ``violation@10`` is added.
        columns: What queries and qrels call their columns, where it is none of the usual.
        cutoffs: In place of the measures, the standard ones at these; runs are retrieved as deep as they need.
        curve: Measure of the cost-quality curve; needs ``direct`` and ``reasoned`` among the runs. None: no curve.
        limit: Take the first queries only, so many.
        save_runs: Folder for what is retrieved: answers with traces as they come, a TREC file at the end of each run;
            answers that are there already are not asked for again. None: nothing is kept.
        fresh: Ask for all of them again.
        on_progress: Called with run, queries done, queries in all; with ``measuring``, runs measured, their number + 1.

    Raises:
        InputError: A measure, file or run cannot be used.
        SearchError: OpenSearch could not answer.
    """
    settings = settings or EvalSettings()
    measures = standard_measures(cutoffs, violations=violations is not None) if cutoffs else measures
    settings = settings.model_copy(update={"top_k": max(settings.top_k, *cutoffs)}) if cutoffs else settings
    specs = parse_run_specs(runs, settings.runs)
    parsed = _with_curve(_with_violation(parse_measures(measures), violations), curve, specs)
    if any(not spec.path for spec in specs):
        _check_depth(parsed, settings.top_k)
    check_baseline(baseline, {spec.name: spec for spec in specs})
    inputs = _read_inputs(queries, qrels, violations, columns, limit, source.pages)
    evaluation = Evaluation(
        inputs.queries, inputs.qrels, parsed, violations=inputs.violations, settings=settings, min_grade=min_grade
    )
    report = on_progress or _silent
    report("measuring", 0, len(specs) + 1)  # ranx takes seconds to load, longer when it compiles itself the first time
    keeper = _Keeper(save_runs, fresh, settings.top_k, report)
    folder = Path(save_runs) if save_runs and any(not spec.path for spec in specs) else None
    with nullcontext() if folder is None else claimed_folder(folder, hint="save the runs elsewhere"):
        run_files = _measure(evaluation, specs, keeper, source, inputs.queries, report)
    result = evaluation.result(
        baseline=baseline,
        order=[spec.name for spec in specs],
        checksums={what: f"sha256:{file.sha256}" for what, file in {**inputs.files, **run_files}.items()},
        system=source.system(),
        notes=[*inputs.notes, *keeper.notes],
        config_hash=source.config_hash,
        commit=commit_here(),
    )
    result = _with_cost(result, source, curve, settings)
    report("measuring", len(specs) + 1, len(specs) + 1)
    return result


def _measure(
    evaluation: Evaluation,
    specs: Sequence[RunSpec],
    keeper: _Keeper,
    source: Source,
    queries: Sequence[Query],
    report: Progress,
) -> dict[str, DataFile | RunFile]:
    """Have all runs measured; return the files that some are in."""
    run_files: dict[str, DataFile | RunFile] = {}
    for done, spec in enumerate(sorted(specs, key=lambda spec: not spec.path), 1):  # files first: they may be broken
        if spec.path:
            run_files[f"run {spec.name}"], run = open_run(spec.path)
        evaluation.add(spec.name, run if spec.path else keeper.ask(spec, source, queries))
        report("measuring", done, len(specs) + 1)
    return run_files


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What was read: queries and judgments, and the files they were in."""

    queries: Sequence[Query]
    qrels: Qrels
    violations: Violations | None
    files: Mapping[str, DataFile]
    notes: Sequence[str]


def _read_inputs(
    queries: str | Path,
    qrels: str | Path,
    violations: str | Path | None,
    columns: Mapping[str, str] | None,
    limit: int | None,
    pages: Pages | None,
) -> _Inputs:
    """Return queries and judgments; see ``evaluate_files``."""
    files = {"queries": read_source(queries, pages), "qrels": read_file(qrels)}
    if violations is not None:
        files["violations"] = read_file(violations)
    logged = parse_queries(files["queries"], columns)
    asked, judged, notes = _limited(logged, parse_qrels(files["qrels"], logged, columns), limit)
    violating = None if violations is None else parse_violations(files["violations"])
    return _Inputs(asked, judged, violating, files, notes)


def open_run(path: str | Path) -> tuple[DataFile | RunFile, Run | RunFile]:
    """Return a run that lies in a file, and the file it is in: a TREC file is read when it is measured.

    Raises:
        DatasetError: The file cannot be read.
        RunError: The run cannot be used.
    """
    if is_trec_file(path):
        file = RunFile(str(path))
        return file, file
    data = read_file(path)
    return data, parse_run(data)


def _with_cost(result: EvalResult, source: Source, curve: str | None, settings: EvalSettings) -> EvalResult:
    """Return the result with what its runs took, and the curve."""
    costs = {
        name: cost_of(run.traces, gpu_hour_price=settings.gpu_hour_price, currency=settings.currency)
        for name, run in result.runs.items()
    }
    result = replace(result, runs={name: replace(run, cost=costs[name]) for name, run in result.runs.items()})
    if curve is None:
        return result
    values = curve_of_runs(
        str(parse_measure(curve)),
        result.runs[DIRECT].per_query,
        result.runs[REASONED].per_query,
        _scores(result, source),
        {query.query_id: query.text for query in result.queries},
        resamples=settings.bootstrap,
        seed=settings.seed,
    )
    return replace(result, curve=values)


class _Keeper:
    """Asks for runs, and keeps what is answered in a folder, if there is one."""

    def __init__(self, folder: str | Path | None, fresh: bool, top_k: int, on_progress: Progress) -> None:
        self._folder, self._fresh, self._top_k, self._on_progress = folder, fresh, top_k, on_progress
        self._kept: dict[tuple[int, int], list[str]] = {}

    @property
    def notes(self) -> list[str]:
        """What is to be told about the answers: which were there before."""
        return [
            f"{there} of {of} answers were kept from before in {self._folder}: {', '.join(names)}"
            for (there, of), names in self._kept.items()
        ]

    def ask(self, spec: RunSpec, source: Source, queries: Sequence[Query]) -> Run:
        """Return what is answered to the queries."""
        folder = Path(self._folder) if self._folder else None
        run = collect_run(
            lambda: source.open(spec, queries),
            queries,
            top_k=self._top_k,
            name=spec.name,
            answers=None if folder is None else self._open(folder, spec, source, queries),
            on_progress=self._on_progress,
        )
        if folder is not None:
            write_run(folder / f"{spec.name}.trec", spec.name, run)
        return run

    def _open(self, folder: Path, spec: RunSpec, source: Source, queries: Sequence[Query]) -> Answers:
        key = {"top_k": self._top_k, **source.key(spec, queries)}
        answers = open_answers(folder / f"{spec.name}.jsonl", spec.name, key, fresh=self._fresh)
        there = sum(answers.get(query) is not None for query in queries)
        trec = folder / f"{spec.name}.trec"  # written when a run is done
        if spec.url and (there == len(queries) or trec.exists()):
            answers.begin()  # how a service is configured is not ours to know: it may have changed since
        elif there:
            self._kept.setdefault((there, len(queries)), []).append(spec.name)
        try:
            trec.unlink(missing_ok=True)  # a kill must not leave other answers beside these
        except OSError as exc:
            raise RunError(f"cannot delete {trec}: {exc.strerror or exc}", hint="save the runs elsewhere") from exc
        return answers


def _scores(result: EvalResult, source: Source) -> dict[str, float]:
    """Return the router's score by query id: of the first run that has any, else of the router itself.

    Where a rule decided there is no score: it is infinite, or minus infinite for a query that went direct.
    """
    for run in result.runs.values():
        if any(not math.isnan(trace.score) for trace in run.traces.values()):
            ruled = {"reasoned": math.inf}
            return {
                query_id: ruled.get(trace.route, -math.inf) if math.isnan(trace.score) else trace.score
                for query_id, trace in run.traces.items()
            }
    return {} if source.scores is None else dict(source.scores(result.queries))


def _with_curve(measures: Sequence[Measure], curve: str | None, specs: Sequence[RunSpec]) -> Sequence[Measure]:
    """Return the measures, and among them the curve's."""
    if curve is None:
        return measures
    names = {spec.name for spec in specs}
    missing = [name for name in (DIRECT, REASONED) if name not in names]
    if missing:
        raise RunError(
            f"the cost-quality curve lies between {DIRECT} and {REASONED}, and {' and '.join(missing)} is none of the"
            " runs",
            hint=f"add {','.join(missing)} to the runs, or name a file so: {missing[0]}=runs/{missing[0]}.jsonl",
        )
    wanted = parse_measure(curve)
    return measures if wanted in measures else [*measures, wanted]


def _with_violation(measures: Sequence[Measure], violations: str | Path | None) -> Sequence[Measure]:
    """Return the measures, and among them one of the violations where those are known."""
    if violations is None or any(measure.name == VIOLATION for measure in measures):
        return measures
    return [*measures, Measure(VIOLATION, 10)]


def _limited(
    queries: Sequence[Query], qrels: dict[str, dict[str, int]], limit: int | None
) -> tuple[Sequence[Query], dict[str, dict[str, int]], list[str]]:
    """Return the first queries, and the judgments without those of the others."""
    if limit is None or limit >= len(queries):
        return queries, qrels, []
    cut = {query.query_id for query in queries[limit:]}
    note = f"only the first {limit} of {len(queries)} queries were taken (--limit)"
    return queries[:limit], {query_id: grades for query_id, grades in qrels.items() if query_id not in cut}, [note]


def _check_depth(measures: Sequence[Measure], top_k: int) -> None:
    deepest = max(measures, key=lambda measure: measure.cutoff)
    if deepest.cutoff > top_k:
        raise InputError(
            f"{deepest} looks at {deepest.cutoff} results, but only {top_k} are asked for",
            hint=f"set eval.top_k (-n) to {deepest.cutoff}, or leave the measure out",
        )


def commit_here() -> str:
    """Return the commit of the checkout that the evaluation runs in; empty outside one."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""
