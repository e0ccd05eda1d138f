"""What the panels read: the index patterns, with the fields of their templates. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrem_os.dashboards.objects import Source
from lrem_os.eval import publish
from lrem_os.ingest.recording import MAPPING, RECORDS
from lrem_os.query_plugin.service.ubi_records import EVENTS, MAPPINGS, QUERIES

MEASURES = ("ndcg@10", "hitrate@10", "hitrate@100", "precision@10", "judged@10")
"""Whose values per query panels may show: what `lrem-os eval` measures unless told otherwise."""

_SHARE = {"id": "percent", "params": {"pattern": "0.0%"}}
_WHOLE = {"id": "number", "params": {"pattern": "0,0"}}
_DECIMAL = {"id": "number", "params": {"pattern": "0,0.0"}}
_FINE = {"id": "number", "params": {"pattern": "0.000"}}
_SHARES = ("reasoned", "cached", "is_degraded", "zero_results", "budget")
_TIMES = ("took_ms", "search_ms", "embed_ms", "route_ms", "reason_ms", "queue_ms")


@dataclass(frozen=True, slots=True)
class Sources:
    """All index patterns.

    Args:
        searches: Searches alone.
        behaviour: Searches and the events that belong to them.
        results: One document a run, measure and slice of an evaluation.
        judged: One document a query and run of an evaluation.
        ingests: Ingests.
    """

    searches: Source
    behaviour: Source
    results: Source
    judged: Source
    ingests: Source

    def all(self) -> tuple[Source, ...]:
        """Return each of them."""
        return (self.searches, self.behaviour, self.results, self.judged, self.ingests)


def build_sources(prefix: str, eval_prefix: str = publish.DEFAULT_PREFIX) -> Sources:
    """Return the index patterns.

    Args:
        prefix: Of their ids.
        eval_prefix: Of the indices that evaluations are published to.
    """
    results, judged = publish.index_name(eval_prefix, "results"), publish.index_name(eval_prefix, "queries")
    templates = publish.build_templates(eval_prefix)
    behaviour = _merged(_properties(MAPPINGS[EVENTS]), _properties(MAPPINGS[QUERIES]))
    shown = {
        **{f"lrem.{name}": _SHARE for name in _SHARES},
        **{f"lrem.{name}": _DECIMAL for name in _TIMES},
        **{f"lrem.{name}": _WHOLE for name in ("hits", "clicks", "searches", "events", "reasoning_tokens")},
        **{f"lrem.{name}": _FINE for name in ("score", "threshold", "gain")},
    }
    values = {f"{name}.{measure}": {"type": "float"} for name in ("value", "delta") for measure in MEASURES}
    return Sources(
        # a pattern with a star may match nothing yet, and takes the indices that follow each other
        searches=Source(f"{prefix}-searches", f"{QUERIES}*", "timestamp", _properties(MAPPINGS[QUERIES]), shown),
        behaviour=Source(f"{prefix}-behaviour", f"{QUERIES}*,{EVENTS}*", "timestamp", behaviour, shown),
        results=Source(
            f"{prefix}-results",
            f"{results}*",
            "@timestamp",
            _properties(templates[results]["template"]["mappings"]),
            dict.fromkeys(("mean", "low", "high"), _FINE),
        ),
        judged=Source(
            f"{prefix}-judged",
            f"{judged}*",
            "@timestamp",
            _properties(templates[judged]["template"]["mappings"]) | values,
            dict.fromkeys(values, _FINE),
        ),
        ingests=Source(
            f"{prefix}-ingests", f"{RECORDS}*", "@timestamp", _properties(MAPPING), {"docs_per_s": _DECIMAL}
        ),
    )


def _properties(mapping: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(mapping["properties"])
    return found


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of both; where both have an object of one name, that of both."""
    lrem = {"properties": first["lrem"]["properties"] | second["lrem"]["properties"]}
    return {**first, **second, "lrem": lrem}
