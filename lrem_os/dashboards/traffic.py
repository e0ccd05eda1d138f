"""The dashboard *Traffic and routes*: what is asked, which way it goes, what that takes. Pure."""

from __future__ import annotations

from lrem_os.dashboards import aggs
from lrem_os.dashboards.layout import Row, dashboard, with_panels
from lrem_os.dashboards.objects import SavedObject, Source
from lrem_os.dashboards.panels import bars, controls, lines, note, number, pie, table, vega
from lrem_os.dashboards.sources import Sources

_TIME = "timestamp"
_BY_ROUTE = aggs.terms("lrem.route", "Route", schema="group", by="_key", size=5)
_MS_PER_HOUR = 3_600_000
_TEXT = """\
**Searches** with a clause of ours, as `lrem-os serve` records them with `serve.ubi`; `serve.ubi_sample` thins them out.

- **Share reasoned**: searches whose vector came from reasoning. **Budget**: `route.share` at that time; the router \
keeps the share at or below it.
- **Why**: `above_threshold` and `below_threshold` are the gate's, `allowed` and `denied` are rules, `forced`: the \
request named its route, or no router runs.
- **Degraded**: searches that got less than was wanted; the codes are in docs/serving.md. An `embedder_…` code means \
search by words alone.
- **Took**: from the request to the answer, OpenSearch included. p95: 95 % were faster.
- **From cache**: no model was asked.
- **Waited for reasoning**: what searches waited for the reasoner, in all. {price}
"""
_NO_PRICE = "No price is set: `lrem-os dashboards update --gpu-hour-price 1.20` shows one a thousand searches."
_PRICE = (
    "At {price:g} {currency} an hour of its machine that is the price shown. Searches of one batch share the machine,"
    " so the true price is at most this."
)


def build(
    prefix: str, sources: Sources, *, gpu_hour_price: float | None = None, currency: str = "USD"
) -> list[SavedObject]:
    """Return the panels, and then the dashboard.

    Args:
        prefix: Of the ids.
        sources: What is read.
        gpu_hour_price: Price of an hour of the machine that reasons; ``None``: time is shown in place of a price.
        currency: Of that price.
    """
    source, name = sources.searches, f"{prefix}-traffic"
    price = _NO_PRICE if gpu_hour_price is None else _PRICE.format(price=gpu_hour_price, currency=currency)
    text = note(f"{name}-note", "What the numbers mean", _TEXT.format(price=price))
    cost = _cost(name, sources, gpu_hour_price, currency)
    rows = [*_top(name, source, text), *_routes(name, source), *_times(name, source, cost)]
    page = dashboard(
        name,
        "lrem-os: Traffic and routes",
        "Which searches are reasoned about and why, what that takes, and what went wrong.",
        rows,
        since="now-24h",
    )
    return with_panels(page, rows)


def _top(name: str, source: Source, text: SavedObject) -> list[Row]:
    """Return what to choose, and what it comes to."""
    choose = controls(
        f"{name}-controls", "Filter", source, {"lrem.route": "Route", "lrem.type": "Type", "application": "Application"}
    )
    summary = number(
        f"{name}-summary",
        "In this time",
        source,
        [
            aggs.total("lrem.searches", "Searches"),
            aggs.avg("lrem.reasoned", "Reasoned"),
            aggs.avg("lrem.cached", "From cache"),
            aggs.avg("lrem.is_degraded", "Degraded"),
            aggs.avg("lrem.zero_results", "Without results"),
        ],
    )
    return [Row(13, (text, summary), (2, 3)), Row(7, (choose,))]


def _routes(name: str, source: Source) -> list[Row]:
    """Return which way searches went, and why."""
    routes = bars(f"{name}-routes", "Searches by route", source, [aggs.count("Searches")], [_over_time(), _BY_ROUTE])
    share = lines(
        f"{name}-share",
        "Share reasoned, and its budget",
        source,
        [aggs.avg("lrem.reasoned", "Reasoned"), aggs.avg("lrem.budget", "Budget")],
        [_over_time()],
        axis="Share of the searches",
    )
    why = pie(
        f"{name}-why", "Why a route was taken", source, aggs.count("Searches"), aggs.terms("lrem.why", "Why", size=8)
    )
    scores = lines(
        f"{name}-scores",
        "Score of the gate, and its threshold",
        source,
        [aggs.avg("lrem.score", "Score"), aggs.avg("lrem.threshold", "Threshold")],
        [_over_time()],
        axis="Mean",
    )
    degraded = bars(
        f"{name}-degraded",
        "Degraded, by reason",
        source,
        [aggs.count("Searches")],
        [_over_time(), aggs.terms("lrem.degraded", "Reason", schema="group", size=12)],
        query="lrem.is_degraded: 1",
    )
    return [Row(13, (routes, share)), Row(13, (why, scores, degraded))]


def _times(name: str, source: Source, cost: SavedObject) -> list[Row]:
    """Return what it took."""
    latency = lines(
        f"{name}-latency",
        "Latency by route",
        source,
        [aggs.percentiles("lrem.took_ms", "ms", [50, 95])],
        [_over_time(), _BY_ROUTE],
        axis="Milliseconds",
    )
    stages = table(
        f"{name}-stages",
        "Where the time goes, by route (mean, ms)",
        source,
        [
            aggs.count("Searches"),
            aggs.percentiles("lrem.took_ms", "Took", [50, 95, 99]),
            aggs.avg("lrem.search_ms", "OpenSearch"),
            aggs.avg("lrem.embed_ms", "Embedder"),
            aggs.avg("lrem.route_ms", "Router"),
            aggs.avg("lrem.reason_ms", "Reasoner"),
            aggs.avg("lrem.queue_ms", "Queue"),
        ],
        [aggs.terms("lrem.route", "Route", schema="bucket", size=5)],
    )
    cache = lines(
        f"{name}-cache",
        "From cache, by route",
        source,
        [aggs.avg("lrem.cached", "From cache")],
        [_over_time(), _BY_ROUTE],
        axis="Share of the searches",
    )
    reasoning = bars(
        f"{name}-reasoning",
        "Waited for reasoning (ms in all), and tokens written",
        source,
        [aggs.total("lrem.reason_ms", "ms"), aggs.total("lrem.reasoning_tokens", "Tokens")],
        [_over_time()],
        axis="In all",
        stacked=False,
    )
    return [Row(13, (latency, stages)), Row(13, (cache, reasoning, cost))]


def _cost(name: str, sources: Sources, gpu_hour_price: float | None, currency: str) -> SavedObject:
    """Return the chart of what a thousand searches cost, or take of the reasoner's time where no price is known."""
    by_time = {
        "rows": {
            "auto_date_histogram": {"field": _TIME, "buckets": 48},
            "aggs": {"reason": {"sum": {"field": "lrem.reason_ms"}}, "searches": {"sum": {"field": "lrem.searches"}}},
        }
    }
    per_search = "datum.reason.value / max(datum.searches.value, 1)"
    if gpu_hour_price is None:
        title, formula = "Waited for reasoning, seconds a thousand searches", f"{per_search}"
    else:
        title = f"Price of a thousand searches, {currency}"
        formula = f"1000 * {per_search} * {gpu_hour_price!r} / {_MS_PER_HOUR}"
    spec = {
        "mark": {"type": "area", "line": True, "opacity": 0.4, "tooltip": True},
        "transform": [{"calculate": formula, "as": "value"}],
        "encoding": {
            "x": {"field": "key", "type": "temporal", "axis": {"title": None}},
            "y": {"field": "value", "type": "quantitative", "axis": {"title": title}},
        },
    }
    return vega(f"{name}-cost", title, sources.searches, spec, aggs=by_time)


def _over_time() -> aggs.Agg:
    return aggs.over_time(_TIME)
