"""The dashboard *Queries*: what people ask, what they got, what they clicked. Pure.

A search and the events that belong to it are two documents with one ``query_id``. Both know route and type of the
search, so that a filter keeps them together; a column about the search is taken from the document that has it.
"""

from __future__ import annotations

from lrem_os.dashboards import aggs
from lrem_os.dashboards.layout import Row, dashboard, with_panels
from lrem_os.dashboards.objects import SavedObject
from lrem_os.dashboards.panels import bars, controls, documents, lines, note, number, table
from lrem_os.dashboards.sources import Sources

_TIME = "timestamp"
_SEARCH = "lrem.searches"  # only the document of a search has it
_TEXT = """\
**Recent searches**: one line a search, the newest first. Clicks are the events `click` that `POST /ubi/events` took \
for it; **hits** 0 is a search without results. **Popular** and **without results** count the same text as one.

**Filter** above by route, type and text; type is what the client says in `ext.ubi.query_attributes.type`, else how \
the query is put (`question`, `negation`, `comparison`, `plain`).

**To Dev Tools**: open a line of *Requests* at the bottom (the arrow on its left). The field `query` is the request, \
as Dev Tools takes it: copy it into [the console](../app/dev_tools#/console). Its `neural` clause is answered where \
`lrem-os connect` has registered the service; else send it to the service. `lrem-os search --reason --explain TEXT` \
shows the same with every step.
"""


def build(prefix: str, sources: Sources) -> list[SavedObject]:
    """Return the panels, and then the dashboard."""
    name = f"{prefix}-queries"
    rows = [*_top(name, sources), *_searches(name, sources), *_more(name, sources)]
    page = dashboard(
        name,
        "lrem-os: Queries",
        "Recent searches with route, keywords, latency, clicks and results; from each to its request.",
        rows,
        since="now-24h",
    )
    return with_panels(page, rows)


def _top(name: str, sources: Sources) -> list[Row]:
    """Return what to choose, and what it comes to."""
    source = sources.behaviour
    text = note(f"{name}-note", "What the numbers mean", _TEXT)
    choose = controls(
        f"{name}-controls",
        "Filter",
        sources.searches,
        {"lrem.route": "Route", "lrem.type": "Type", "user_query": "Text"},
    )
    summary = number(
        f"{name}-summary",
        "In this time",
        source,
        [
            aggs.total(_SEARCH, "Searches"),
            aggs.total("lrem.clicks", "Clicks"),
            aggs.avg("lrem.zero_results", "Without results"),
            aggs.percentiles("lrem.took_ms", "Took, ms", [50, 95]),
        ],
    )
    return [Row(13, (text, summary), (2, 3)), Row(7, (choose,))]


def _searches(name: str, sources: Sources) -> list[Row]:
    """Return searches, and queries that were asked more than once."""
    source = sources.behaviour
    recent = table(
        f"{name}-recent",
        "Recent searches",
        source,
        [
            aggs.highest(_TIME, "Last"),
            aggs.latest("user_query", "Query", by=_SEARCH),
            aggs.latest("lrem.type", "Type", by=_SEARCH),
            aggs.latest("lrem.route", "Route", by=_SEARCH),
            aggs.latest("lrem.keywords", "Keywords", by=_SEARCH),
            aggs.highest("lrem.took_ms", "Took, ms"),
            aggs.highest("lrem.hits", "Hits"),
            aggs.total("lrem.clicks", "Clicks"),
        ],
        [aggs.terms("query_id", "Search", schema="bucket", size=100)],
        rows=15,
    )
    popular = table(
        f"{name}-popular",
        "Popular queries",
        source,
        [
            aggs.total(_SEARCH, "Searches"),
            aggs.total("lrem.clicks", "Clicks"),
            aggs.avg("lrem.reasoned", "Reasoned"),
            aggs.avg("lrem.zero_results", "Without results"),
            aggs.avg("lrem.took_ms", "Took, ms"),
        ],
        [aggs.terms("user_query", "Query", schema="bucket", size=100)],
    )
    nothing = table(
        f"{name}-nothing",
        "Queries without results",
        sources.searches,
        [aggs.count("Searches"), aggs.highest(_TIME, "Last")],
        [
            aggs.terms("user_query", "Query", schema="bucket", size=100),
            aggs.terms("lrem.route", "Route", schema="bucket", size=3),
        ],
        query="lrem.zero_results: 1",
    )
    return [Row(20, (recent,)), Row(16, (popular, nothing))]


def _more(name: str, sources: Sources) -> list[Row]:
    """Return clicks, keywords and requests."""
    source = sources.behaviour
    routes = table(
        f"{name}-clicks",
        "Clicks by route and type",
        source,
        [
            aggs.total(_SEARCH, "Searches"),
            aggs.total("lrem.clicks", "Clicks"),
            aggs.avg("lrem.zero_results", "Without results"),
        ],
        [
            aggs.terms("lrem.route", "Route", schema="bucket", size=3),
            aggs.terms("lrem.type", "Type", schema="bucket", size=10),
        ],
    )
    keywords = bars(
        f"{name}-keywords",
        "Keywords that reasoning added",
        sources.searches,
        [aggs.count("Searches")],
        [aggs.terms("lrem.keywords", "Keyword", size=25)],
    )
    found = lines(
        f"{name}-found",
        "Without results, over time",
        sources.searches,
        [aggs.avg("lrem.zero_results", "Without results")],
        [aggs.over_time(_TIME), aggs.terms("lrem.type", "Type", schema="group", by="_key", size=6)],
        axis="Share of the searches",
    )
    requests = documents(
        f"{name}-requests",
        "lrem-os: requests",
        sources.searches,
        ["user_query", "lrem.type", "lrem.route", "lrem.keywords", "lrem.took_ms", "lrem.hits", "query"],
    )
    return [Row(14, (routes, keywords, found)), Row(20, (requests,))]
