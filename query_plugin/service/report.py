"""What is told about a query that was read: under ``ext.lrem``, in headers, in behaviour records. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.query_plugin.service.wire import Headers


def member(readings: Sequence[Reading], took_ms: float, query_id: str | None = None) -> dict[str, Any]:
    """Return ``ext.lrem`` of one search: of its first text, and of the others under ``others``.

    Args:
        readings: At least one.
        took_ms: From the request to the answer, OpenSearch included.
        query_id: Under which the search was recorded.
    """
    told = {**described(readings[0]), "took_ms": round(took_ms, 3)}
    if query_id is not None:
        told["query_id"] = query_id
    if len(readings) > 1:
        told["others"] = [{"text": reading.text, **described(reading)} for reading in readings[1:]]
    return told


def described(reading: Reading) -> dict[str, Any]:
    """Return how a query was read, without its vector and text."""
    told: dict[str, Any] = {
        "route": reading.route,
        "keywords": list(reading.keywords),
        "degraded": list(reading.degraded),
        "cached": reading.cached,
        "timings_ms": {name: round(value, 3) for name, value in reading.timings_ms.items()},
    }
    if reading.decision is not None:
        told["decision"] = decided(reading.decision)
    return told


def decided(decision: Decision, *, features: bool = False) -> dict[str, Any]:
    """Return what the router decided; what it did not compute is absent."""
    numbers = {"score": decision.score, "threshold": decision.threshold, "gain": decision.gain}
    told: dict[str, Any] = {"reasoned": decision.reasoned, "why": decision.why}
    told |= {name: value for name, value in numbers.items() if value == value}  # NaN is not itself
    return told | {"features": dict(decision.features)} if features else told


def headers(readings: Sequence[Reading], took_ms: float) -> Headers:
    """Return ``x-lrem-route``, ``x-lrem-degraded`` (where anything is) and ``x-lrem-took-ms``."""
    routes = dict.fromkeys(reading.route for reading in readings)
    degraded = dict.fromkeys(code for reading in readings for code in reading.degraded)
    told: Mapping[str, str] = {
        "x-lrem-route": ",".join(routes),
        **({"x-lrem-degraded": ",".join(degraded)} if degraded else {}),
        "x-lrem-took-ms": f"{took_ms:.3f}",
    }
    return [(name.encode(), value.encode()) for name, value in told.items()]
