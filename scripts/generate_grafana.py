"""Write docker/grafana/lrem-os.json: a Grafana dashboard over what the service counts (`/metrics`).

``scripts/regen`` runs this. ``tests/docker/test_monitoring.py`` fails when the file differs, when a query cannot be
parsed, or when it names a metric or label that the service does not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "docker" / "grafana" / "lrem-os.json"
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH = 24  # of Grafana's grid
_SEARCH = 'endpoint=~".*_m?search"'


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query and the name of its series. ``%s`` stands for the chosen services, among other labels or alone."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Args:
        title: What it shows.
        about: What the numbers mean, and when to worry.
        queries: What is drawn.
        unit: Grafana's name of the unit.
        kind: ``stat`` or ``timeseries``.
        width: In units of the grid.
        is_stacked: Whether series add up.
    """

    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    is_stacked: bool = False


def _rate(metric: str, labels: str = "", by: str = "") -> str:
    """Return the summed rate of a counter."""
    chosen = ",".join(filter(None, (labels, 'instance=~"$instance"')))
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{chosen}}}[$__rate_interval]))"


def _share(part: str, whole: str) -> str:
    """Return a share that is 0, not absent, where there is a whole and no part."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def _quantile(quantile: float, metric: str, labels: str = "", by: str = "") -> str:
    groups = ",".join(filter(None, ("le", by)))
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, groups)})"


def _engine(what: str, how: str = "sum") -> str:
    return f'{how} (lrem_engine{{what="{what}",instance=~"$instance"}})'


def _quantiles(metric: str, labels: str = "") -> list[Query]:
    return [Query(_quantile(part / 100, metric, labels), f"p{part}") for part in (50, 95, 99)]


_QUERIES = _rate("lrem_queries_total")
_CACHES = ("vectors", "thoughts", "decisions")
_QUEUES = ("embedder", "reasoner", "passages")

ROWS: dict[str, Sequence[Panel]] = {
    "At a glance": (
        Panel("Searches a second", "Requests to _search and _msearch.", [Query(_rate("lrem_requests_total", _SEARCH))],
              "reqps", "stat", 4),
        Panel("p95", "95 of 100 searches are faster, OpenSearch's part included.",
              [Query(_quantile(0.95, "lrem_request_seconds", _SEARCH))], "s", "stat", 4),
        Panel("Failed", "Share of requests that were answered with a status of 500 or more.",
              [Query(_share(_rate("lrem_requests_total", 'status=~"5.."'), _rate("lrem_requests_total")))],
              "percentunit", "stat", 4),
        Panel("Reasoned", "Share of query texts that were reasoned about: compare it with route.share.",
              [Query(_share(_rate("lrem_queries_total", 'route="reasoned"'), _QUERIES))], "percentunit", "stat", 4),
        Panel("Less than wanted", "Faults a query text: reasoner late or away, no vector, no signals.",
              [Query(_share(_rate("lrem_degraded_total"), _QUERIES))], "percentunit", "stat", 4),
        Panel("From the cache", "Share of query texts for which no model was asked.",
              [Query(_share(_rate("lrem_queries_cached_total"), _QUERIES))], "percentunit", "stat", 4),
    ),
    "Requests": (
        Panel("Requests by answer", "429: more than serve.max_requests at once. 503 and 504: OpenSearch.",
              [Query(_rate("lrem_requests_total", by="status"), "{{status}}")], "reqps", is_stacked=True),
        Panel("Seconds of a search", "From the first byte to the answer.",
              _quantiles("lrem_request_seconds", _SEARCH), "s"),
        Panel("Under way", "Requests at this moment, and clients that left before their answer.",
              [Query('sum (lrem_requests_running{instance=~"$instance"})', "under way"),
               Query(_rate("lrem_clients_gone_total"), "left, a second")]),
    ),
    "Routes": (
        Panel("Query texts by route", "bm25: no vector could be made, the words alone were searched.",
              [Query(_rate("lrem_queries_total", by="route"), "{{route}}")], "ops", is_stacked=True),
        Panel("Why less than wanted", "The codes are explained in docs/serving.md, It always answers.",
              [Query(_rate("lrem_degraded_total", by="reason"), "{{reason}}")], "ops", is_stacked=True),
        Panel("Share reasoned", "Of all query texts.",
              [Query(_share(_rate("lrem_queries_total", 'route="reasoned"'), _QUERIES), "reasoned")], "percentunit"),
    ),
    "Where the time goes": (
        Panel("Stages, p95", "What a query waited for: its direct vector, the router's signals, reasoning.",
              [Query(_quantile(0.95, "lrem_stage_seconds", by="stage"), "{{stage}}")], "s"),
        Panel("OpenSearch", "Its part of every search.", _quantiles("lrem_opensearch_seconds"), "s"),
        Panel("OpenSearch did not answer", "By kind: connection, time-out.",
              [Query(_rate("lrem_opensearch_failures_total", by="kind"), "{{kind}}")], "ops"),
    ),
    "Engine": (
        Panel("Waiting", "In the queues; at serve.queue_limit queries go direct, or by their words.",
              [Query(_engine(f"num_waiting_{number}"), name) for number, name in enumerate(_QUEUES)]),
        Panel("Health", "Calls that hang; 1: the reasoner is left alone, the embedder does not answer.",
              [Query(_engine("num_hung"), "hung"), Query(_engine("reasoner_kept_away", "max"), "reasoner left alone"),
               Query(_engine("embedder_broken", "max"), "embedder broken")]),
        Panel("Cache hits", "Share of look-ups in memory that found something.",
              [Query(_hits, name) for name, _hits in (
                  (name, _share(_engine(f"num_hits_{number}"),
                                f"({_engine(f'num_hits_{number}')} + {_engine(f'num_misses_{number}')})"))
                  for number, name in enumerate(_CACHES))], "percentunit"),
    ),
    "Behaviour records and the process": (
        Panel("Behaviour records", "dropped: the queue was full. failed: OpenSearch did not take them.",
              [Query(_rate("lrem_ubi_records_total", by="outcome"), "{{outcome}}")], "ops", is_stacked=True),
        Panel("Shared cache", "What became of reads and writes, since the start.",
              [Query('sum by (what) (lrem_engine{what=~"shared_.*",instance=~"$instance"})', "{{what}}")]),
        Panel("Tasks", "Of the event loops; a number that only grows is a fault: report it.",
              [Query('sum by (instance) (lrem_tasks{instance=~"$instance"})', "{{instance}}")]),
    ),
}  # fmt: skip


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the title and PromQL of every query."""
    for panels in ROWS.values():
        for panel in panels:
            for query in panel.queries:
                yield panel.title, query.expr


def dashboard() -> dict[str, Any]:
    """Return the dashboard, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "id": len(panels) + 1,
                       "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1}})  # fmt: skip
        x, height = 0, 4 if row[0].kind == "stat" else 8
        for panel in row:
            place = {"x": x, "y": y + 1, "w": panel.width, "h": height}
            panels.append(_panel(panel, place, len(panels) + 1))
            x += panel.width
        y += 1 + height
    return {
        "uid": "lrem-os",
        "title": "lrem-os",
        "description": "What lrem-os serve counts: docs/docker.md, Watching it.",
        "tags": ["lrem-os", "search"],
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source_variable(), _instance_variable()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int], number: int) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal" if panel.is_stacked else "none"}, "fillOpacity": 20 * panel.is_stacked}
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        custom, options = {}, {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instance_variable() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Service",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(lrem_tasks, instance)", "refId": "instance"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
