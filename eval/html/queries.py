"""What happened to single queries: the differences to the baseline, sorted, and those that moved most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrem_os.eval.html.figures import number, p_text, signed
from lrem_os.eval.html.scale import symmetric
from lrem_os.eval.report_file import lower_is_better

_BARS = 300
"""Bars that a figure holds; of more queries every n-th is drawn."""


def deltas(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return per measure and run the queries' differences to the baseline, the largest first."""
    baseline = report["runs"].get(report["card"]["baseline"])
    if baseline is None:
        return []
    found = []
    for measure in report["card"]["measures"]:
        panels = [
            {"run": name, "idx": idx, "all": _differences(run, baseline, measure), "result": run}
            for idx, (name, run) in enumerate(report["runs"].items())
            if run is not baseline
        ]
        panels = [panel for panel in panels if panel["all"]]
        scale = symmetric(value for panel in panels for _, value in panel["all"])
        found += [_panel(panel, measure, scale, report["queries"]) for panel in panels]
    return found


def movers(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the queries that moved most, of all runs and measures, with what the reasoner made of them."""
    return [
        {
            "run": name,
            "idx": idx,
            "measure": measure,
            "query_id": mover["query_id"],
            "text": (report["queries"].get(mover["query_id"]) or {}).get("text"),
            "type": (report["queries"].get(mover["query_id"]) or {}).get("type") or "",
            "value": number(mover["value"]),
            "baseline": number(mover["baseline"]),
            "difference": signed(mover["difference"]),
            "sort": mover["difference"],
            "verdict": _direction(mover["difference"], measure),
            **_trace(run["traces"].get(mover["query_id"])),
        }
        for idx, (name, run) in enumerate(report["runs"].items())
        for measure, found in run["movers"].items()
        for mover in found
        if mover["difference"]
    ]


def _differences(run: Mapping[str, Any], baseline: Mapping[str, Any], measure: str) -> list[tuple[str, float]]:
    pairs = [
        (query_id, values.get(measure), baseline["per_query"].get(query_id, {}).get(measure))
        for query_id, values in run["per_query"].items()
    ]
    differences = [(query_id, new - old) for query_id, new, old in pairs if new is not None and old is not None]
    return sorted(differences, key=lambda pair: -pair[1])


def _panel(panel: dict[str, Any], measure: str, scale: Any, queries: Mapping[str, Any]) -> dict[str, Any]:
    ordered: Sequence[tuple[str, float]] = panel.pop("all")
    run = panel.pop("result")
    comparison = run["comparison"].get(measure) or {}
    count = min(len(ordered), _BARS)
    shown = [ordered[round(idx * (len(ordered) - 1) / max(count - 1, 1))] for idx in range(count)]
    middle = scale.place(0.0)
    return panel | {
        "measure": measure,
        "bars": [
            {
                "x": idx,
                "y": round(100 - max(scale.place(value), middle), 2),
                "height": round(abs(scale.place(value) - middle), 2),
                "verdict": _direction(value, measure),
                "title": f"{(queries.get(query_id) or {}).get('text') or query_id}: {signed(value)}",
            }
            for idx, (query_id, value) in enumerate(shown)
            if value
        ],
        "count": count,
        "num_queries": len(ordered),
        "ticks": scale.ticks,
        "mean": signed((run["difference"].get(measure) or {}).get("mean")),
        "p": p_text(comparison.get("p_adjusted")),
        "wins": comparison.get("wins", 0),
        "ties": comparison.get("ties", 0),
        "losses": comparison.get("losses", 0),
        "effect": number(comparison.get("effect_size"), 2),
        "detectable": number(comparison.get("minimum_detectable")),
        "underpowered": bool(comparison.get("underpowered")),
    }


def _direction(difference: float, measure: str) -> str:
    if not difference:
        return ""
    return "worse" if (difference > 0) == lower_is_better(measure) else "better"


def _trace(trace: Mapping[str, Any] | None) -> dict[str, Any]:
    trace = trace or {}
    return {
        "route": trace.get("route") or "",
        "keywords": list(trace.get("keywords") or ()),
        "degraded": list(trace.get("degraded") or ()),
        "score": trace.get("score"),
    }
