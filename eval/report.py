"""An evaluation's result as JSON, as table rows, as Markdown, and the sentences that belong under a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lrem_os.eval.evaluate import Estimates, EvalResult, RunResult
from lrem_os.eval.intervals import CONFIDENCE, Estimate

_IDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Section:
    """A table over one set of queries.

    Args:
        title: Which queries or which difference, and how many they are.
        columns: ``measure`` and the names of the runs.
        rows: A measure and one cell per run.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_dict(result: EvalResult) -> dict[str, Any]:
    """Return the result as a value that JSON can hold: ``card`` and ``runs``."""
    card = asdict(result.card)
    card["interval"] = {
        "method": "percentile bootstrap over queries",
        "confidence": CONFIDENCE,
        "resamples": card.pop("resamples"),
        "seed": card.pop("seed"),
    }
    return {"card": card, "runs": {name: _run_dict(run) for name, run in result.runs.items()}}


def sections(result: EvalResult, *, by_type: bool = True) -> list[Section]:
    """Return the tables: over all queries, over each query type, and the differences to the baseline."""
    runs, measures = result.runs, result.card.measures
    found = [_section("all queries", {name: run.overall for name, run in runs.items()}, measures)]
    if by_type:
        types = next(iter(runs.values())).by_type
        found += [
            _section(kind or "(no type)", {name: run.by_type[kind] for name, run in runs.items()}, measures)
            for kind in types
        ]
    differences = {name: run.difference for name, run in runs.items() if run.difference}
    if differences:
        found.append(_section(f"difference to {result.card.baseline}", differences, measures, sign="+"))
    return found


def notes(result: EvalResult) -> list[str]:
    """Return what a reader of the table must know: what was left out, what counted 0, how the intervals came about."""
    card = result.card
    lines = [
        f"mean [{CONFIDENCE:.0%} percentile bootstrap interval over queries, "
        f"{card.resamples} resamples, seed {card.seed}]"
    ]
    if card.min_grade > 1:
        lines.append(f"relevant from grade {card.min_grade} on (nDCG takes the grades as they are)")
    if card.without_relevant:
        lines.append(
            f"left out: {_ids(card.without_relevant)}, judged without a relevant document (trec_eval counts them as 0)"
        )
    if card.unjudged:
        lines.append(f"left out: {_ids(card.unjudged)}, not judged")
    if card.num_extra_judged:
        lines.append(f"left out: judgments of {_count(card.num_extra_judged)} that the query file lacks")
    for name, run in result.runs.items():
        if run.missing:
            lines.append(f"counted 0: {_ids(run.missing)}, without a result in {name}")
        if run.num_extra:
            lines.append(f"left out: {_count(run.num_extra)} in {name} that the query file lacks")
    return lines


def to_markdown(result: EvalResult, *, by_type: bool = True) -> str:
    """Return the result as Markdown tables with notes and run card."""
    lines = []
    for section in sections(result, by_type=by_type):
        lines += [f"### {section.title}", "", _markdown_row(section.columns)]
        lines += [_markdown_row(["---"] * len(section.columns)), *map(_markdown_row, section.rows), ""]
    lines += [f"- {note}" for note in notes(result)]
    lines += [f"- {what}: `{checksum}`" for what, checksum in result.card.checksums.items()]
    lines += [f"- {key}: {value}" for key, value in result.card.system.items()]
    return "\n".join(lines) + "\n"


def _run_dict(run: RunResult) -> dict[str, Any]:
    return {
        "overall": _estimates_dict(run.overall),
        "by_type": {kind: _estimates_dict(part) for kind, part in run.by_type.items()},
        "difference": _estimates_dict(run.difference),
        "missing": list(run.missing),
        "num_extra": run.num_extra,
        "per_query": {query_id: dict(values) for query_id, values in run.per_query.items()},
    }


def _estimates_dict(estimates: Estimates) -> dict[str, Any]:
    return {measure: asdict(estimate) for measure, estimate in estimates.items()}


def _section(title: str, runs: Mapping[str, Estimates], measures: Sequence[str], *, sign: str = "") -> Section:
    some = next(iter(runs.values()))[measures[0]]
    rows = tuple((measure, *(_cell(run[measure], sign) for run in runs.values())) for measure in measures)
    return Section(f"{title} (n = {some.num_queries})", ("measure", *runs), rows)


def _cell(estimate: Estimate, sign: str) -> str:
    return f"{estimate.mean:{sign}.3f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"


def _ids(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return f"{_count(len(ids))} ({', '.join(ids[:_IDS_SHOWN])}{more})"


def _count(number: int) -> str:
    return "1 query" if number == 1 else f"{number} queries"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
