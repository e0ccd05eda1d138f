"""The dashboard *Quality*: evaluations over time, and the queries behind the numbers. Pure."""

from __future__ import annotations

from lrem_os.dashboards import aggs
from lrem_os.dashboards.layout import Row, dashboard, with_panels
from lrem_os.dashboards.objects import SavedObject
from lrem_os.dashboards.panels import bars, controls, lines, note, table
from lrem_os.dashboards.sources import Sources

_TIME = "@timestamp"
_MAIN = "ndcg@10"
_JUDGED = "judged@10"
_OVERALL = "dimension: overall"
_BY_RUN = aggs.terms("run", "Run", schema="group", by="_key", size=10)
_TEXT = """\
What `lrem-os eval … --report out/` measured and `lrem-os eval publish out/` sent here; a point is a report. \
Several reports in one interval are averaged: zoom in until they part.

- **nDCG@10**: 1 is the best order that the judged products allow; products without a judgment count as not relevant.
- **judged@10**: share of the first ten that somebody judged. Where it is low, or differs between runs, nDCG is not to \
be trusted: judge what is missing first.
- **By type**, **by route**: the same over a part of the queries; *route* is how the query was served.
- **Gained, lost**: a query's nDCG@10 less that of the baseline run, over the reports in this time.
- **Adjusted p**: the chance of such a difference to the baseline without a cause, Holm's correction over the runs; \
below 0.05 it counts.
"""


def build(prefix: str, sources: Sources) -> list[SavedObject]:
    """Return the panels, and then the dashboard."""
    name = f"{prefix}-quality"
    rows = [*_over_time(name, sources), *_numbers(name, sources), _movers(name, sources)]
    page = dashboard(
        name,
        "lrem-os: Quality",
        "Runs over time, by type and route; the queries that gained and lost most; how much is judged.",
        rows,
        since="now-90d",
    )
    return with_panels(page, rows)


def _over_time(name: str, sources: Sources) -> list[Row]:
    """Return each run from report to report."""
    results = sources.results
    text = note(f"{name}-note", "What the numbers mean", _TEXT)
    choose = controls(f"{name}-controls", "Filter", results, {"run": "Run", "report": "Report"})
    over_time = lines(
        f"{name}-runs",
        "nDCG@10 of each run, over time",
        results,
        [aggs.avg("mean", "nDCG@10")],
        [aggs.over_time(_TIME), _BY_RUN],
        query=f'{_OVERALL} and measure: "{_MAIN}"',
    )
    coverage = lines(
        f"{name}-judged",
        "judged@10 of each run, over time",
        results,
        [aggs.avg("mean", "judged@10")],
        [aggs.over_time(_TIME), _BY_RUN],
        query=f'{_OVERALL} and measure: "{_JUDGED}"',
    )
    return [Row(13, (text, choose), (3, 2)), Row(14, (over_time, coverage))]


def _numbers(name: str, sources: Sources) -> list[Row]:
    """Return all measures, and parts of the queries."""
    results = sources.results
    measures = table(
        f"{name}-measures",
        "All measures",
        results,
        [
            aggs.avg("mean", "Mean"),
            aggs.avg("low", "95 % from"),
            aggs.avg("high", "to"),
            aggs.avg("p_adjusted", "Adjusted p"),
            aggs.highest("num_queries", "Queries"),
        ],
        [
            aggs.terms("measure", "Measure", schema="bucket", by="_key", ascending=True, size=20),
            aggs.terms("run", "Run", schema="bucket", size=10),
        ],
        query=_OVERALL,
        rows=12,
    )
    types, routes = (
        bars(
            f"{name}-{part}s",
            f"nDCG@10 by {part}",
            results,
            [aggs.avg("mean", "nDCG@10")],
            [aggs.terms("slice", part.capitalize(), by="_key", ascending=True, size=12), _BY_RUN],
            query=f'dimension: {part} and measure: "{_MAIN}"',
            stacked=False,
        )
        for part in ("type", "route")
    )
    cost = table(
        f"{name}-cost",
        "What each run took",
        results,
        [aggs.avg("mean", "Mean")],
        [
            aggs.terms("run", "Run", schema="bucket", by="_key", ascending=True, size=10),
            aggs.terms("measure", "Measure", schema="bucket", by="_key", ascending=True, size=20),
            aggs.terms("slice", "Route", schema="bucket", by="_key", ascending=True, size=5),
        ],
        query="dimension: cost",
        rows=12,
    )
    return [Row(16, (measures, cost)), Row(14, (types, routes))]


def _movers(name: str, sources: Sources) -> Row:
    """Return the queries behind a difference."""
    judged = sources.judged
    gained, lost = (
        table(
            f"{name}-{what}",
            f"Queries that {what} most against the baseline",
            judged,
            [
                aggs.avg(f"delta.{_MAIN}", "Difference"),
                aggs.avg(f"value.{_MAIN}", "nDCG@10"),
                aggs.avg(f"value.{_JUDGED}", "judged@10"),
                aggs.latest("route", "Route", by=_TIME),
                aggs.latest("keywords", "Keywords", by=_TIME),
            ],
            [
                aggs.terms("query.keyword", "Query", schema="bucket", size=25, ascending=what == "lost"),
                aggs.terms("run", "Run", schema="bucket", size=10, ascending=what == "lost"),
            ],
            query=f"delta.{_MAIN} {'< 0' if what == 'lost' else '> 0'}",
        )
        for what in ("gained", "lost")
    )
    return Row(18, (gained, lost))
