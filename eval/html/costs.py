"""What the quality costs: latency per route, tokens and price, the curve of routing, what perturbation breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrem_os.eval.html.figures import milliseconds, number, percent
from lrem_os.eval.html.scale import Scale, linear, logarithmic

_PARTS = ("p50", "p95", "p99")
_CURVES = {"router": "the router", "oracle": "an oracle", "length": "query length", "random": "chance"}
_STYLES = {"router": "k1", "oracle": "k3 l2", "length": "k2 l3", "random": "k0 l1"}  # colours and dashes of report.css


def latency(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return every route's percentiles as places on one logarithmic scale; none where no run was timed."""
    rows = [
        {"run": name, "idx": idx, "route": route or "unknown", "times": times}
        for idx, (name, run) in enumerate(report["runs"].items())
        for route, times in ((run.get("cost") or {}).get("by_route") or {}).items()
        if times.get("p50") is not None
    ]
    if not rows:
        return None
    scale = logarithmic(row["times"][part] for row in rows for part in _PARTS if row["times"].get(part))
    for row in rows:
        times = row.pop("times")
        places = {part: scale.place(times[part]) for part in _PARTS if times.get(part) is not None}
        row |= {
            "places": places,
            "from": places["p50"],
            "width": round(max(places.values()) - places["p50"], 2),
            "queries": times.get("queries"),
            "share": percent(times.get("share")),
            **{part: milliseconds(times.get(part)) for part in _PARTS},
        }
    return {"rows": rows, "ticks": [(tick.place, milliseconds(tick.value)) for tick in scale.ticks]}


def spending(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what each run spends a query, and 1,000 queries; empty where none was timed."""
    found = []
    for name, run in report["runs"].items():
        cost = run.get("cost")
        if not cost:
            continue
        price = cost.get("price_per_1000")
        found.append(
            {
                "run": name,
                **{part: milliseconds((cost.get("latency_ms") or {}).get(part)) for part in (*_PARTS, "mean")},
                "reasoned": percent(cost.get("reasoned_share")),
                "tokens": number(cost.get("reasoning_tokens_per_query"), 1),
                "reason_ms": milliseconds(cost.get("reason_ms_per_query")),
                "price": f"{price['value']:.4g} {price.get('currency') or ''}".strip() if price else "–",
            }
        )
    return found


def curve(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the lines of quality over the share of queries reasoned about; none where it was not worked out."""
    found = report.get("curve")
    if not found or not any(found["points"].values()):
        return None
    names = [name for name in (*_CURVES, *found["points"]) if found["points"].get(name)]
    names = list(dict.fromkeys(names))
    values = [
        value
        for name in names
        for point in found["points"][name]
        for value in (point["mean"], *((point.get("low"), point.get("high")) if name == "router" else ()))
        if value is not None
    ]
    scale = linear(values, start=None)
    return {
        "measure": found["measure"],
        "ticks": scale.ticks,
        "direct": number(found.get("direct")),
        "reasoned": number(found.get("reasoned")),
        "lines": [
            {
                "name": name,
                "label": _CURVES.get(name, name),
                "style": _STYLES.get(name, "k6"),
                "path": _path(found["points"][name], scale),
                "band": _band(found["points"][name], scale) if name == "router" else "",
                "area": number((found.get("area") or {}).get(name)),
            }
            for name in names
        ],
        "shares": _table(found, names),
    }


def robustness(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how much each perturbation and poisoning takes from each run; none where it was not tried."""
    found = report.get("robustness")
    if not found:
        return None
    families = found.get("families") or {}
    rates = [run.get("drop_rate") for runs in families.values() for run in runs.values()]
    ends = [run.get(end) for runs in families.values() for run in runs.values() for end in ("low", "high")]
    scale = linear([value for value in (*rates, *ends) if value is not None])
    order = list(report["runs"])
    return {
        "measure": found.get("measure"),
        "seeds": len(found.get("seeds") or ()),
        "ticks": scale.ticks,
        "percent_ticks": [(tick.place, percent(tick.value)) for tick in scale.ticks],
        "zero": scale.place(0.0),
        "families": [
            {
                "name": family.replace("_", " "),
                "route_changes": percent((found.get("route_changes") or {}).get(family)),
                "points": [_drop(name, run, scale, order) for name, run in runs.items()],
            }
            for family, runs in families.items()
        ],
        "has_routes": bool(found.get("route_changes")),
        "poisoning": _poisoning(found.get("poisoning")),
        "worst": _worst(found.get("worst") or {}),
    }


def _path(points: Sequence[Mapping[str, Any]], scale: Scale) -> str:
    held = [point for point in points if point["mean"] is not None]
    return " ".join(f"{100 * point['share']:.2f},{100 - scale.place(point['mean']):.2f}" for point in held)


def _band(points: Sequence[Mapping[str, Any]], scale: Scale) -> str:
    held = [point for point in points if point.get("low") is not None and point.get("high") is not None]
    upper = [f"{100 * point['share']:.2f},{100 - scale.place(point['high']):.2f}" for point in held]
    lower = [f"{100 * point['share']:.2f},{100 - scale.place(point['low']):.2f}" for point in reversed(held)]
    return " ".join(upper + lower)


def _table(found: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the curve as rows: what a reader without the figure needs."""
    by_name = {
        name: {round(point["share"], 4): number(point["mean"]) for point in found["points"][name]} for name in names
    }
    shares = sorted({share for points in by_name.values() for share in points})
    step = max(1, len(shares) // 20)
    return [
        {"share": percent(share), "values": [by_name[name].get(share, "–") for name in names]}
        for share in (shares[::step] if shares[-1] in shares[::step] else [*shares[::step], shares[-1]])
    ]


def _drop(name: str, run: Mapping[str, Any], scale: Scale, order: Sequence[str]) -> dict[str, Any]:
    rate = run.get("drop_rate")
    at = scale.place(rate or 0.0)
    low, high = (at if run.get(end) is None else scale.place(run[end]) for end in ("low", "high"))
    return {
        "run": name,
        "idx": order.index(name) if name in order else len(order),
        "at": at,
        "from": low,
        "width": round(high - low, 2),
        "drop": percent(rate),
        "span": f"[{percent(run.get('low'))}, {percent(run.get('high'))}]" if run.get("low") is not None else "",
        "std": "" if run.get("drop_std") is None else f"± {percent(run['drop_std'])}",
        "clean": number(run.get("clean")),
        "perturbed": number(run.get("perturbed")),
    }


def _worst(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, str]]:
    """Return the queries that lost most, the largest loss first."""
    rows = [(row, family, run) for family, runs in found.items() for run, rows in runs.items() for row in rows]
    rows.sort(key=lambda row: row[0]["perturbed"] - row[0]["clean"])
    return [
        {
            "query": row["query"],
            "asked": row["asked"],
            "family": family.replace("_", " "),
            "run": run,
            "clean": number(row["clean"]),
            "perturbed": number(row["perturbed"]),
        }
        for row, family, run in rows
    ]


def _poisoning(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found or not found.get("attack_success"):
        return None
    depths = list(dict.fromkeys(depth for run in found["attack_success"].values() for depth in run))
    return {
        "injected": found.get("injected"),
        "depths": [depth.lstrip("@") for depth in depths],
        "rows": [
            {"run": name, "shares": [percent(run.get(depth)) for depth in depths]}
            for name, run in found["attack_success"].items()
        ],
    }
