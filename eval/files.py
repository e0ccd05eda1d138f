"""An evaluation from files and retrievers to a result: reads, asks, saves, and hands over to ``evaluate_runs``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrem_os.config import EvalSettings
from lrem_os.errors import InputError, RunError
from lrem_os.eval.datasets import DataFile, parse_qrels, parse_queries, read_file
from lrem_os.eval.evaluate import EvalResult, evaluate_runs, select_queries
from lrem_os.eval.measures import Measure, parse_measures
from lrem_os.eval.runs import Run, collect_run, parse_run, write_run
from lrem_os.eval.specs import RunSpec, parse_run_specs
from lrem_os.types import Query, Retriever

DEFAULT_MEASURES = ("ndcg@10", "hitrate@10", "hitrate@100", "precision@10", "recall@100", "judged@10")


def evaluate_files(
    runs: Sequence[str],
    *,
    queries: str | Path,
    qrels: str | Path,
    open_retriever: Callable[[RunSpec], Retriever],
    settings: EvalSettings | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    min_grade: int = 1,
    baseline: str | None = None,
    save_runs: str | Path | None = None,
    system: Callable[[], Mapping[str, Any]] = dict,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> EvalResult:
    """Read what is in files, ask the retrievers the rest, save what they answered, measure all of it.

    Everything that can be wrong with names and files is found before the first retriever is opened.

    Args:
        runs: Modes (``bm25``, ``vector``, ``hybrid``, each perhaps with ``+reason``) and TREC run files, see
            ``parse_run_specs``.
        queries: File, see ``parse_queries``.
        qrels: File, see ``parse_qrels``.
        open_retriever: Called once per run that is no file.
        settings: Depth of the runs, seed and resamples.
        measures: Like ``ndcg@10``.
        min_grade: From which grade on a product is relevant.
        baseline: Name of the run the others are compared with.
        save_runs: Folder for a TREC file per retrieved run; none: not saved.
        system: Called at the end for what answered: goes into the card.
        on_progress: Called with run, queries done, queries in all; and with ``measuring``, 0 or 1, 1.

    Raises:
        InputError: A measure, file or run cannot be used.
        SearchError: OpenSearch could not answer.
    """
    settings = settings or EvalSettings()
    specs = parse_run_specs(runs)
    parsed = parse_measures(measures)
    asked_now = [spec for spec in specs if spec.mode]
    if asked_now:
        _check_depth(parsed, settings.top_k)
    if baseline is not None and baseline not in {spec.name for spec in specs}:
        raise RunError(f"the baseline {baseline!r} is none of the runs", hint=f"the runs are {', '.join(runs)}")
    files = {"queries": read_file(queries), "qrels": read_file(qrels)}
    asked, judged = parse_queries(files["queries"]), parse_qrels(files["qrels"])
    select_queries(asked, judged, min_grade)
    collected: dict[str, Run] = {}
    for spec in specs:
        if spec.path:
            files[f"run {spec.name}"] = read_file(spec.path)
            collected[spec.name] = parse_run(files[f"run {spec.name}"])
    collected |= _ask(asked_now, asked, open_retriever, settings.top_k, save_runs, on_progress)
    report = on_progress or (lambda _what, _done, _total: None)
    report("measuring", 0, 1)  # ranx takes seconds to load, and longer when it compiles itself for the first time
    result = evaluate_runs(
        {spec.name: collected[spec.name] for spec in specs},
        asked,
        judged,
        parsed,
        settings=settings,
        min_grade=min_grade,
        baseline=baseline,
        checksums={what: _checksum(file) for what, file in files.items()},
        system=system(),
    )
    report("measuring", 1, 1)
    return result


def _ask(
    specs: Sequence[RunSpec],
    queries: Sequence[Query],
    open_retriever: Callable[[RunSpec], Retriever],
    top_k: int,
    save_runs: str | Path | None,
    on_progress: Callable[[str, int, int], None] | None,
) -> dict[str, Run]:
    """Return what is answered now; each is saved as soon as it is there."""
    folder = _make_folder(save_runs) if save_runs and specs else None
    runs: dict[str, Run] = {}
    for spec in specs:
        run = collect_run(open_retriever(spec), queries, top_k=top_k, name=spec.name, on_progress=on_progress)
        runs[spec.name] = run
        if folder:
            write_run(folder / f"{spec.name}.trec", spec.name, run)
    return runs


def _check_depth(measures: Sequence[Measure], top_k: int) -> None:
    deepest = max(measures, key=lambda measure: measure.cutoff)
    if deepest.cutoff > top_k:
        raise InputError(
            f"{deepest} looks at {deepest.cutoff} results, but only {top_k} are asked for",
            hint=f"set eval.top_k (-n) to {deepest.cutoff}, or leave the measure out",
        )


def _make_folder(path: str | Path) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise RunError(f"cannot make the folder {path}: {exc.strerror or exc}", hint="save the runs elsewhere") from exc
    return Path(path)


def _checksum(file: DataFile) -> str:
    return f"sha256:{file.sha256}"
