"""What a run took: latency per route, reasoning tokens, the reasoner's time and its price. Pure.

Percentiles are linear between the two nearest latencies (numpy's default, Hyndman and Fan 1996, type 7).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrem_os.types import Trace

_MS_PER_HOUR = 3_600_000


def cost_of(
    traces: Mapping[str, Trace], *, gpu_hour_price: float | None = None, currency: str = "USD"
) -> dict[str, Any] | None:
    """Return what serving the queries took, as JSON values; ``None`` where nothing is known about it.

    Args:
        traces: Query id → how it was served.
        gpu_hour_price: Price of an hour of the machine that reasons; ``None``: no price.
        currency: Of that price.
    """
    known = [trace for trace in traces.values() if trace.route or not math.isnan(trace.latency_ms)]
    if not known:
        return None
    num = len(known)
    reason_ms = math.fsum(trace.reason_ms for trace in known) / num
    routes = sorted({trace.route for trace in known} - {""})
    return {
        "queries": num,
        "latency_ms": {**_percentiles(known), "mean": _mean(_latencies(known))},
        "by_route": {route: _of_route([one for one in known if one.route == route], num) for route in routes},
        "reasoned_share": sum(trace.route == "reasoned" for trace in known) / num if routes else None,
        "reasoning_tokens_per_query": sum(trace.reasoning_tokens for trace in known) / num,
        "reason_ms_per_query": reason_ms,
        "price_per_1000": _price(reason_ms, gpu_hour_price, currency),
        "degraded": dict(sorted(Counter(code for trace in known for code in set(trace.degraded)).items())),
    }


def _of_route(traces: Sequence[Trace], num_all: int) -> dict[str, Any]:
    return {"queries": len(traces), "share": len(traces) / num_all, **_percentiles(traces)}


def _percentiles(traces: Sequence[Trace]) -> dict[str, float | None]:
    latencies = _latencies(traces)
    if not latencies:
        return {"p50": None, "p95": None, "p99": None}
    return {f"p{at}": float(np.percentile(latencies, at)) for at in (50, 95, 99)}


def _latencies(traces: Sequence[Trace]) -> list[float]:
    return [trace.latency_ms for trace in traces if not math.isnan(trace.latency_ms)]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _price(reason_ms: float, gpu_hour_price: float | None, currency: str) -> dict[str, Any] | None:
    """Return what reasoning for 1,000 queries costs at this mean time a query."""
    if gpu_hour_price is None:
        return None
    value = 1000 * reason_ms / _MS_PER_HOUR * gpu_hour_price
    return {"value": value, "currency": currency, "per_gpu_hour": gpu_hour_price}
