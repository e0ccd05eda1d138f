"""What the runs score: the findings in words, the summary, the slices. Plain values for the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrem_os.eval.compare import ALPHA
from lrem_os.eval.html.figures import number, p_text, percent, signed, span, stars
from lrem_os.eval.html.scale import linear
from lrem_os.eval.report_file import lower_is_better

_DIMENSIONS = {"type": "query type", "route": "route", "length": "query length", "frequency": "traffic"}


def verdict(run: Mapping[str, Any], measure: str) -> str:
    """Return ``better``, ``worse``, ``open`` (nothing shown), or nothing for a run that is compared with none."""
    difference, comparison = run["difference"].get(measure), run["comparison"].get(measure)
    if not difference or not comparison or difference["mean"] is None:
        return ""
    p_value = comparison["p_adjusted"]
    if p_value is None or p_value >= ALPHA or difference["mean"] == 0:
        return "open"
    return "worse" if (difference["mean"] > 0) == lower_is_better(measure) else "better"


def findings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one sentence a run about the first measure: what its difference to the baseline amounts to."""
    card = report["card"]
    measure = card["measures"][0]
    return [
        {"run": name, "verdict": verdict(run, measure), "text": _finding(run, measure, card["baseline"])}
        for name, run in report["runs"].items()
        if verdict(run, measure)
    ]


def summary(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables over all queries: plain, and weighted by traffic where that is another thing."""
    tables = [{"title": "All queries", "rows": _rows(report, "overall")}]
    if any(run["weighted"] for run in report["runs"].values()):
        tables.append({"title": "Weighted by traffic", "rows": _rows(report, "weighted")})
    return tables


def slices(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return per measure and dimension the groups of queries, each run's mean and interval as places on one scale."""
    found = []
    for measure in report["card"]["measures"]:
        for dimension in _dimensions(report):
            groups = list(_groups(report, dimension, measure))
            if not groups:
                continue
            scale = linear(
                value
                for group in groups
                for point in group["points"]
                for value in (point["estimate"]["mean"], point["estimate"]["high"])
                if value is not None
            )
            for point in (point for group in groups for point in group["points"]):
                point |= _places(point["estimate"], scale)
            title = _DIMENSIONS.get(dimension, dimension)
            found.append({"measure": measure, "title": title, "groups": groups, "ticks": scale.ticks})
    return found


def _finding(run: Mapping[str, Any], measure: str, baseline: str) -> str:
    difference, comparison = run["difference"][measure], run["comparison"][measure]
    if not comparison["wins"] and not comparison["losses"]:
        return f"The {measure} of {baseline} on all {comparison['ties']} queries."
    found = f"{signed(difference['mean'])} {measure} against {baseline} {span(difference)}"
    odds = f"{p_text(comparison['p_adjusted'])} after correction"
    counts = f"{comparison['wins']} queries better, {comparison['losses']} worse, {comparison['ties']} the same"
    text = f"{found}, {odds}; {counts}."
    if comparison["underpowered"]:
        smallest = comparison["minimum_detectable"]
        text += " Too few queries to tell" + (
            "." if smallest is None else f": only a difference of {number(smallest)} or more would show."
        )
    return text


def _rows(report: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    card = report["card"]
    best = {measure: _best(report, part, measure) for measure in card["measures"]}
    return [
        {
            "run": name,
            "baseline": name == card["baseline"],
            "cells": [_cell(run, part, measure, best[measure]) for measure in card["measures"]],
            "cost": _cost(run),
        }
        for name, run in report["runs"].items()
    ]


def _cell(run: Mapping[str, Any], part: str, measure: str, best: float | None) -> dict[str, Any]:
    estimate = run[part].get(measure) or {}
    difference = run["difference"].get(measure) if part == "overall" else None
    comparison = run["comparison"].get(measure) or {}
    mean = estimate.get("mean")
    return {
        "mean": number(mean),
        "span": span(estimate),
        "best": mean is not None and mean == best,
        "difference": signed(difference["mean"]) if difference else "",
        "stars": stars(comparison.get("p_adjusted")) if difference else "",
        "p": p_text(comparison.get("p_adjusted")) if difference else "",
        "verdict": verdict(run, measure) if difference else "",
    }


def _best(report: Mapping[str, Any], part: str, measure: str) -> float | None:
    means = [run[part].get(measure, {}).get("mean") for run in report["runs"].values()]
    found: list[float] = [mean for mean in means if mean is not None]
    if len(found) < 2 or measure.startswith("judged"):  # how much is judged is no merit of a run
        return None
    return min(found) if lower_is_better(measure) else max(found)


def _cost(run: Mapping[str, Any]) -> dict[str, str]:
    cost = run.get("cost") or {}
    p95 = (cost.get("latency_ms") or {}).get("p95")
    return {"p95": number(p95, 0), "reasoned": percent(cost.get("reasoned_share"))}


def _dimensions(report: Mapping[str, Any]) -> Sequence[str]:
    return list(dict.fromkeys(dimension for run in report["runs"].values() for dimension in run["slices"]))


def _groups(report: Mapping[str, Any], dimension: str, measure: str) -> Iterator[dict[str, Any]]:
    runs = report["runs"]
    for part in dict.fromkeys(part for run in runs.values() for part in run["slices"].get(dimension, {})):
        points = [
            {"run": name, "idx": idx, "estimate": estimate, "text": f"{number(estimate['mean'])} {span(estimate)}"}
            for idx, (name, run) in enumerate(runs.items())
            if (estimate := run["slices"].get(dimension, {}).get(part, {}).get(measure))
            and estimate["mean"] is not None
        ]
        if points:
            sizes = sorted({point["estimate"]["num_queries"] for point in points})
            yield {
                "label": part or "none given",
                "size": f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]}–{sizes[-1]}",
                "points": points,
            }


def _places(estimate: Mapping[str, Any], scale: Any) -> dict[str, float]:
    mean = estimate["mean"]
    low, high = (scale.place(mean if estimate[end] is None else estimate[end]) for end in ("low", "high"))
    return {"at": scale.place(mean), "from": low, "width": round(high - low, 2)}
