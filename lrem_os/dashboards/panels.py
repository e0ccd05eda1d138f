"""Panels: one function a kind of chart, each returning the saved object of a visualisation. Pure.

Source: the sample data of OpenSearch Dashboards 2.19 and 3.x, which holds one of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lrem_os.dashboards.aggs import Agg
from lrem_os.dashboards.objects import (
    INDEX_REFERENCE,
    Reference,
    SavedObject,
    Source,
    packed,
    search_source,
)

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v5.json"
_LEGEND = {"addTooltip": True, "addLegend": True, "legendPosition": "right"}


def note(name: str, title: str, text: str) -> SavedObject:
    """Text in Markdown."""
    params = {"fontSize": 12, "openLinksInNewTab": True, "markdown": text}
    return _visualization(name, title, "markdown", params, (), None)


def number(name: str, title: str, source: Source, metrics: Sequence[Agg], *, query: str = "") -> SavedObject:
    """Numbers in large type."""
    metric = {
        "percentageMode": False,
        "useRanges": False,
        "colorSchema": "Green to Red",
        "metricColorMode": "None",
        "colorsRange": [{"from": 0, "to": 10_000}],
        "labels": {"show": True},
        "invertColors": False,
        "style": {"bgFill": "#000", "bgColor": False, "labelColor": False, "subText": "", "fontSize": 32},
    }
    params = {"addTooltip": True, "addLegend": False, "type": "metric", "metric": metric}
    return _visualization(name, title, "metric", params, metrics, source, query)


def table(
    name: str,
    title: str,
    source: Source,
    metrics: Sequence[Agg],
    buckets: Sequence[Agg],
    *,
    query: str = "",
    rows: int = 10,
) -> SavedObject:
    """Rows of buckets with their metrics, so many a page."""
    params = {
        "perPage": rows,
        "showPartialRows": False,
        "showMetricsAtAllLevels": False,
        "showTotal": False,
        "totalFunc": "sum",
        "percentageCol": "",
    }
    return _visualization(name, title, "table", params, [*metrics, *buckets], source, query)


def pie(name: str, title: str, source: Source, metric: Agg, bucket: Agg, *, query: str = "") -> SavedObject:
    """Parts of a whole."""
    labels = {"show": True, "values": True, "last_level": True, "truncate": 100}
    params = {"type": "pie", **_LEGEND, "isDonut": True, "labels": labels}
    return _visualization(name, title, "pie", params, [metric, bucket], source, query)


def bars(
    name: str,
    title: str,
    source: Source,
    metrics: Sequence[Agg],
    buckets: Sequence[Agg],
    *,
    query: str = "",
    axis: str = "",
    stacked: bool = True,
) -> SavedObject:
    """Bars: one series a metric and group."""
    return _xy("histogram", "stacked" if stacked else "normal", name, title, source, metrics, buckets, query, axis)


def lines(
    name: str,
    title: str,
    source: Source,
    metrics: Sequence[Agg],
    buckets: Sequence[Agg],
    *,
    query: str = "",
    axis: str = "",
) -> SavedObject:
    """Lines: one a metric and group."""
    return _xy("line", "normal", name, title, source, metrics, buckets, query, axis)


def vega(name: str, title: str, source: Source, spec: Mapping[str, Any], *, aggs: Mapping[str, Any]) -> SavedObject:
    """A Vega-Lite chart of an aggregation, under the dashboard's time picker and filters.

    Args:
        name: Of the object.
        title: Above the panel.
        source: What is read.
        spec: Mark, transform and encoding.
        aggs: The request; the rows are the buckets of the one that is called ``rows``.
    """
    url = {
        "%context%": True,
        "%timefield%": source.time_field,
        "index": source.title,
        "body": {"size": 0, "aggs": dict(aggs)},
    }
    data = {"url": url, "format": {"property": "aggregations.rows.buckets"}}
    params = {"spec": packed({"$schema": VEGA_LITE, "data": data, **spec})}
    return _visualization(name, title, "vega", params, (), None)


def controls(name: str, title: str, source: Source, fields: Mapping[str, str]) -> SavedObject:
    """Lists to choose values from, which filter the whole dashboard: field → label."""
    options = {"type": "terms", "multiselect": True, "dynamicOptions": True, "size": 10, "order": "desc"}
    lists = [
        {
            "id": f"{name}-{at}",
            "fieldName": field,
            "parent": "",
            "label": label,
            "type": "list",
            "options": options,
            "indexPatternRefName": f"control_{at}_index_pattern",
        }
        for at, (field, label) in enumerate(fields.items())
    ]
    params = {"controls": lists, "updateFiltersOnChange": True, "useTimeFilter": True, "pinFilters": False}
    references = [
        Reference(f"control_{at}_index_pattern", "index-pattern", source.object_id) for at in range(len(fields))
    ]
    return _visualization(name, title, "input_control_vis", params, (), None, references=references)


def documents(name: str, title: str, source: Source, columns: Sequence[str], *, query: str = "") -> SavedObject:
    """Documents themselves, the newest first; each can be opened."""
    attributes = {
        "description": "",
        "hits": 0,
        "columns": list(columns),
        "sort": [[source.time_field, "desc"]],
        "version": 1,
        "kibanaSavedObjectMeta": search_source(query),
    }
    return SavedObject("search", name, title, attributes, (_index_reference(source),))


def _xy(
    shape: Literal["histogram", "line"],
    mode: str,
    name: str,
    title: str,
    source: Source,
    metrics: Sequence[Agg],
    buckets: Sequence[Agg],
    query: str,
    axis: str,
) -> SavedObject:
    label = axis or str(metrics[0].params.get("customLabel", "Count"))
    series = [
        {
            "show": True,
            "type": shape,
            "mode": mode,
            "data": {"label": str(metric.params.get("customLabel", "Count")), "id": str(at)},
            "valueAxis": "ValueAxis-1",
            "drawLinesBetweenPoints": True,
            "lineWidth": 2,
            "interpolate": "linear",
            "showCircles": True,
        }
        for at, metric in enumerate(metrics, 1)
    ]
    params = {
        "type": shape,
        "grid": {"categoryLines": False},
        "categoryAxes": [_axis("CategoryAxis-1", "category", "bottom", {})],
        "valueAxes": [{**_axis("ValueAxis-1", "value", "left", {"text": label}), "name": "LeftAxis-1"}],
        "seriesParams": series,
        **_LEGEND,
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
        "thresholdLine": {"show": False, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
    }
    return _visualization(name, title, shape, params, [*metrics, *buckets], source, query)


def _axis(name: str, kind: str, position: str, title: Mapping[str, str]) -> dict[str, Any]:
    scale = {"type": "linear"} if kind == "category" else {"type": "linear", "mode": "normal"}
    labels = {"show": True, "filter": kind == "category", "truncate": 100}
    return {
        "id": name,
        "type": kind,
        "position": position,
        "show": True,
        "style": {},
        "scale": scale,
        "labels": labels if kind == "category" else {**labels, "rotate": 0},
        "title": dict(title),
    }


def _visualization(
    name: str,
    title: str,
    kind: str,
    params: Mapping[str, Any],
    aggs: Sequence[Agg],
    source: Source | None,
    query: str = "",
    *,
    references: Sequence[Reference] = (),
) -> SavedObject:
    state = {
        "title": title,
        "type": kind,
        "params": params,
        "aggs": [agg.to_dict(at) for at, agg in enumerate(aggs, 1)],
    }
    attributes = {
        "visState": packed(state),
        "uiStateJSON": "{}",
        "description": "",
        "version": 1,
        "kibanaSavedObjectMeta": search_source(query, has_index=source is not None),
    }
    own = () if source is None else (_index_reference(source),)
    return SavedObject("visualization", name, title, attributes, (*own, *references))


def _index_reference(source: Source) -> Reference:
    return Reference(INDEX_REFERENCE, "index-pattern", source.object_id)
