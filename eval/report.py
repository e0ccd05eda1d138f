"""An evaluation's result as JSON, as table rows, as Markdown, and the sentences that belong under a table. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lrem_os.errors import InputError
from lrem_os.eval.compare import ALPHA, POWER
from lrem_os.eval.intervals import CONFIDENCE, Estimate
from lrem_os.eval.result import Comparison, Estimates, EvalResult, RunCard, RunResult

SCHEMA = "lrem-os/eval/1"
DIMENSIONS = ("type", "route", "length", "frequency")
"""What results can be sliced by."""

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


def check_slices(names: Sequence[str]) -> list[str]:
    """Return the names of dimensions, each once. Raises ``InputError`` where one is unknown."""
    for name in names:
        if name not in DIMENSIONS:
            near = difflib.get_close_matches(name, DIMENSIONS, n=1)
            raise InputError(
                f"no slice is called {name!r}{f': do you mean {near[0]!r}?' if near else ''}",
                hint=f"results are sliced by {', '.join(DIMENSIONS)}",
            )
    return list(dict.fromkeys(names))


def to_dict(result: EvalResult) -> dict[str, Any]:
    """Return the result as a value that JSON can hold; numbers that are not finite are None. See docs/evaluation.md."""
    value = {
        "schema": SCHEMA,
        "card": _card_dict(result),
        "runs": {name: _run_dict(run) for name, run in result.runs.items()},
        "queries": {
            query.query_id: {"text": query.text or None, "type": query.type, "frequency": query.frequency}
            for query in result.queries
        },
        "curve": result.curve,
        "robustness": result.robustness,
    }
    finite: dict[str, Any] = _finite(value)
    return finite


def sections(result: EvalResult, *, slices: Sequence[str] = DIMENSIONS) -> list[Section]:
    """Return the tables: over all queries, by traffic, over each slice, and the differences to the baseline."""
    runs, measures = result.runs, result.card.measures
    found = [_section("all queries", {name: run.overall for name, run in runs.items()}, measures)]
    if any(run.weighted for run in runs.values()):
        found.append(_section("weighted by traffic", {name: run.weighted for name, run in runs.items()}, measures))
    for dimension in slices:
        parts = dict.fromkeys(part for run in runs.values() for part in run.slices.get(dimension, {}))
        found += [
            _section(
                f"{dimension}: {part or 'none'}",
                {name: run.slices.get(dimension, {}).get(part, {}) for name, run in runs.items()},
                measures,
            )
            for part in parts
        ]
    differences = {name: run.difference for name, run in runs.items() if run.difference}
    if differences:
        found.append(_section(f"difference to {result.card.baseline}", differences, measures, sign="+"))
        compared = {name: runs[name].comparison for name in differences}
        rows = tuple((one, *(_test_cell(run.get(one)) for run in compared.values())) for one in measures)
        title = f"against {result.card.baseline}: p after Holm (*: below {ALPHA:g}), effect size, won/tied/lost"
        found.append(Section(title, ("measure", *compared), rows))
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
    lines += _left_out(card)
    for name, run in result.runs.items():
        if run.missing:
            lines.append(f"counted 0: {_ids(run.missing)}, without a result in {name}")
        if run.num_extra:
            lines.append(f"left out: {_count(run.num_extra)} in {name} that the query file lacks")
        lines += _too_deep(name, run, card.measures)
    lines += [*_partial(result), *_tests(result), *card.notes]
    return lines


def to_markdown(result: EvalResult, *, slices: Sequence[str] = DIMENSIONS) -> str:
    """Return the result as Markdown tables with notes and run card."""
    lines = []
    for section in sections(result, slices=slices):
        lines += [f"### {section.title}", "", _markdown_row(section.columns)]
        lines += [_markdown_row(["---"] * len(section.columns)), *map(_markdown_row, section.rows), ""]
    lines += [f"- {note}" for note in notes(result)]
    lines += [f"- {what}: `{checksum}`" for what, checksum in result.card.checksums.items()]
    lines += [f"- {key}: {value}" for key, value in result.card.system.items()]
    return "\n".join(lines) + "\n"


def _card_dict(result: EvalResult) -> dict[str, Any]:
    card = asdict(result.card)
    seed = card.pop("seed")
    card["interval"] = {
        "method": "percentile bootstrap over queries",
        "confidence": CONFIDENCE,
        "resamples": card.pop("resamples"),
        "seed": seed,
    }
    card["test"] = {
        "method": card["test"],
        "resamples": card.pop("permutations"),
        "seed": seed,
        "correction": "holm",
        "relevant_difference": card.pop("relevant_difference"),
    }
    return card | {"notes": notes(result)}


def _run_dict(run: RunResult) -> dict[str, Any]:
    return {
        "overall": _rows(run.overall),
        "weighted": _rows(run.weighted),
        "slices": {
            dimension: {part: _rows(estimates) for part, estimates in parts.items()}
            for dimension, parts in run.slices.items()
        },
        "difference": _rows(run.difference),
        "comparison": _rows(run.comparison),
        "movers": {measure: [asdict(mover) for mover in movers] for measure, movers in run.movers.items()},
        "cost": run.cost,
        "missing": list(run.missing),
        "num_extra": run.num_extra,
        "depth": run.depth,
        "per_query": {query_id: dict(values) for query_id, values in run.per_query.items()},
        "traces": _rows(run.traces),
    }


def _rows(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    """Return the value with None for numbers that JSON has no place for, and lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _left_out(card: RunCard) -> list[str]:
    lines = []
    if card.without_relevant:
        lines.append(
            f"left out: {_ids(card.without_relevant)}, judged without a relevant document (trec_eval counts them as 0)"
        )
    if card.unjudged:
        lines.append(f"left out: {_ids(card.unjudged)}, not judged")
    if card.num_extra_judged:
        lines.append(f"left out: judgments of {_count(card.num_extra_judged)} that the query file lacks")
    return lines


def _too_deep(name: str, run: RunResult, measures: Sequence[str]) -> list[str]:
    """Return the sentence about measures that look at more results than the run holds."""
    deeper = [measure for measure in measures if int(measure.partition("@")[2]) > run.depth > 0]
    if not deeper:
        return []
    held = "1 result" if run.depth == 1 else f"{run.depth} results"
    return [f"{name} holds at most {held} a query: {', '.join(deeper)} look no deeper than that"]


def _partial(result: EvalResult) -> list[str]:
    """Return the sentence about measures that apply to some of the queries only."""
    overall = next(iter(result.runs.values())).overall
    return [
        f"{measure} is over the {_count(one.num_queries)} that name what they exclude"
        for measure, one in overall.items()
        if one.num_queries < result.card.num_evaluated
    ]


def _tests(result: EvalResult) -> list[str]:
    """Return how the p-values came about, and which comparisons could have missed a difference that matters."""
    card, compared = result.card, {name: run.comparison for name, run in result.runs.items() if run.comparison}
    if not compared:
        return []
    corrected = [measure for comparison in compared.values() for measure in comparison]
    judged = [measure for measure in corrected if measure.startswith("judged@")]
    number, apart = len(corrected) - len(judged), " (judged@k apart)" if judged else ""
    how = (
        f"randomisation test ({card.permutations} permutations, seed {card.seed}; exact where there are fewer)"
        if card.test == "randomisation"
        else "t-test"
    )
    lines = [
        f"p: paired {how}, two-sided, after Holm's correction over {number} comparisons{apart}; effect size: mean over "
        "standard deviation of the paired differences"
    ]
    for name, comparison in compared.items():
        same = [m for m, one in comparison.items() if not one.wins and not one.losses]
        if same:
            lines.append(f"{name} has the values of {card.baseline} on every query in {', '.join(same)}")
        weak = [f"{m} ({_detectable(one)})" for m, one in comparison.items() if one.underpowered and m not in same]
        if weak:
            lines.append(
                f"underpowered: {name} against {card.baseline} in {', '.join(weak)}: in brackets the smallest "
                f"difference that so many queries show in {POWER:.0%} of cases, while {card.relevant_difference:g} "
                "would matter; that nothing was shown does not mean that there is nothing"
            )
    return lines


def _detectable(one: Comparison) -> str:
    return "unknown" if math.isnan(one.minimum_detectable) else f"{one.minimum_detectable:.3f}"


def _test_cell(one: Comparison | None) -> str:
    if one is None:
        return "–"
    sign = "*" if one.p_adjusted < ALPHA else ""
    size = "–" if math.isnan(one.effect_size) else f"{one.effect_size:+.2f}"
    return f"p {one.p_adjusted:.3f}{sign}, {size}, {one.wins}/{one.ties}/{one.losses}"


def _section(title: str, runs: Mapping[str, Estimates], measures: Sequence[str], *, sign: str = "") -> Section:
    sizes = [estimate.num_queries for run in runs.values() for estimate in run.values()]
    most = max(sizes)
    rows = tuple((measure, *(_cell(run.get(measure), most, sign) for run in runs.values())) for measure in measures)
    return Section(f"{title} (n = {most})", ("measure", *runs), rows)


def _cell(estimate: Estimate | None, num_queries: int, sign: str) -> str:
    if estimate is None or not estimate.num_queries:
        return "–"
    fewer = f" (n = {estimate.num_queries})" if estimate.num_queries < num_queries else ""
    return f"{estimate.mean:{sign}.3f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]{fewer}"


def _ids(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return f"{_count(len(ids))} ({', '.join(ids[:_IDS_SHOWN])}{more})"


def _count(number: int) -> str:
    return "1 query" if number == 1 else f"{number} queries"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
