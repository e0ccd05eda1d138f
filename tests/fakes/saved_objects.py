"""What OpenSearch Dashboards makes of a saved object: the search that a panel sends, read back from the ``.ndjson``.

Written from Dashboards' own source (``data/common/search/aggs``, ``vis_type_vega``), and knowing nothing of the code
that made the objects: it reads what would be imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class PanelSearch:
    """One panel's request.

    Args:
        panel: Id of the visualisation or search.
        index: What is searched.
        body: As it is sent, without the time picker and the dashboard's filters.
        time_field: What the time picker moves.
        metrics: Ids of the aggregations that are numbers; empty: documents are shown.
    """

    panel: str
    index: str
    body: dict[str, Any]
    time_field: str
    metrics: tuple[str, ...] = ()

    def within(self, start: str, end: str, filters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the body under the time picker and filters, as Dashboards adds them."""
        clauses: list[Any] = [{"range": {self.time_field: {"gte": start, "lt": end}}}]
        clauses += [{"match_phrase": {name: value}} for name, value in (filters or {}).items()]
        return {**self.body, "query": {"bool": {"filter": [*clauses, self.body.get("query", {"match_all": {}})]}}}


def read_objects(data: bytes) -> dict[tuple[str, str], Object]:
    """Return the objects of a file by type and id."""
    rows = [json.loads(line) for line in data.decode().split("\n") if line]
    return {(row["type"], row["id"]): row for row in rows}


def searches(objects: Mapping[tuple[str, str], Object]) -> Iterator[PanelSearch]:
    """Yield the request of every panel that sends one."""
    for (kind, name), one in objects.items():
        if kind == "search":
            pattern = _pattern(objects, one)
            columns = one["attributes"]["columns"]
            [[sort, order]] = one["attributes"]["sort"]
            body = {"size": 500, "sort": [{sort: {"order": order}}], "query": _query(one), "_source": columns}
            yield PanelSearch(name, _title(pattern), body, _time(pattern))
        if kind != "visualization":
            continue
        state = json.loads(one["attributes"]["visState"])
        if state["type"] == "vega":
            url = json.loads(state["params"]["spec"])["data"]["url"]
            assert url["%context%"] is True
            yield PanelSearch(name, url["index"], url["body"], url["%timefield%"], ("rows",))
        elif state["type"] == "input_control_vis":
            for at, control in enumerate(state["params"]["controls"]):
                pattern = _referred(objects, one, control["indexPatternRefName"])
                aggs = {"1": {"terms": {"field": control["fieldName"], "size": control["options"]["size"]}}}
                body = {"size": 0, "aggs": aggs}
                yield PanelSearch(f"{name}[{at}]", _title(pattern), body, _time(pattern), ("1",))
        elif state["aggs"]:
            pattern = _pattern(objects, one)
            yield PanelSearch(
                name,
                _title(pattern),
                {"size": 0, "query": _query(one), **_aggs(state["aggs"])},
                _time(pattern),
                tuple(agg["id"] for agg in state["aggs"] if agg["schema"] == "metric" and agg["type"] != "count"),
            )


def fields_named(objects: Mapping[tuple[str, str], Object]) -> Iterator[tuple[str, str, str]]:
    """Yield panel, title of the index pattern, and every field that the panel aggregates, sorts, filters or shows."""
    for (kind, name), one in objects.items():
        if kind not in ("visualization", "search"):
            continue
        attributes = one["attributes"]
        state = json.loads(attributes["visState"]) if kind == "visualization" else {}
        for control in state.get("params", {}).get("controls", []):
            pattern = _referred(objects, one, control["indexPatternRefName"])
            yield name, _title(pattern), control["fieldName"]
        if state.get("type") == "vega":
            url = json.loads(state["params"]["spec"])["data"]["url"]
            yield name, url["index"], url["%timefield%"]
            for field in re.findall(r'"field": ?"([^"]+)"', json.dumps(url["body"])):
                yield name, url["index"], field
        if not any(ref["type"] == "index-pattern" for ref in one["references"]) or "controls" in state.get(
            "params", {}
        ):
            continue
        title = _title(_pattern(objects, one))
        for agg in state.get("aggs", []):
            for param in ("field", "sortField"):
                if param in agg["params"]:
                    yield name, title, agg["params"][param]
        for column in [*attributes.get("columns", []), *(field for field, _ in attributes.get("sort", []))]:
            yield name, title, column
        for field, *_ in _clauses(one):
            yield name, title, field


def _aggs(aggs: list[Object]) -> dict[str, Any]:
    """Nest the buckets in their order; metrics hang below the last, and where a bucket sorts by one."""
    metrics = {agg["id"]: body for agg in aggs if agg["schema"] == "metric" and (body := _metric(agg)) is not None}
    inner: dict[str, Any] = {"aggs": metrics} if metrics else {}
    for agg in reversed([agg for agg in aggs if agg["schema"] != "metric"]):
        params = agg["params"]
        if agg["type"] == "date_histogram":
            assert params["interval"] == "auto"
            body: dict[str, Any] = {
                "date_histogram": {"field": params["field"], "fixed_interval": "30m", "min_doc_count": 1}
            }
        else:
            assert agg["type"] == "terms"
            by = params["orderBy"]
            is_count = any(one["id"] == by and one["type"] == "count" for one in aggs)
            order = {"_count" if is_count else by: params["order"]}
            body = {"terms": {"field": params["field"], "size": params["size"], "order": order}}
        below = dict(inner)
        by = str(params.get("orderBy", "")).split(".")[0]
        if by in metrics:
            below = {"aggs": {**inner.get("aggs", {}), by: metrics[by]}}
        inner = {"aggs": {agg["id"]: {**body, **below}}}
    return inner


def _metric(agg: Object) -> dict[str, Any] | None:
    params = agg["params"]
    if agg["type"] == "count":
        return None
    if agg["type"] == "percentiles":
        return {"percentiles": {"field": params["field"], "percents": params["percents"], "keyed": False}}
    if agg["type"] == "top_hits":
        assert params["aggregate"] == "concat"
        sort = [{params["sortField"]: {"order": params["sortOrder"]}}]
        field = params["field"]
        return {
            "top_hits": {
                "docvalue_fields": [{"field": field}],
                "_source": field,
                "size": params["size"],
                "sort": sort,
            }
        }
    assert agg["type"] in ("avg", "sum", "max", "min")
    return {agg["type"]: {"field": params["field"]}}


def _query(one: Object) -> dict[str, Any]:
    """Return the filter of a panel as Dashboards translates its language, as far as the panels use it."""
    clauses: list[Any] = []
    for field, operator, value in _clauses(one):
        if operator == ":":
            clauses.append({"match_phrase" if value.startswith('"') else "match": {field: value.strip('"')}})
        else:
            clauses.append({"range": {field: {"lt" if operator == "<" else "gt": float(value)}}})
    return {"bool": {"filter": clauses}} if clauses else {"match_all": {}}


def _clauses(one: Object) -> list[tuple[str, str, str]]:
    text = json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
    found = []
    for part in text.split(" and ") if text else []:
        match = re.fullmatch(r'([\w.@]+) ?(:|<|>) ?("[^"]+"|[\w.]+)', part)
        assert match, f"a filter that this reader does not know: {part}"
        found.append((match[1], match[2], match[3]))
    return found


def _pattern(objects: Mapping[tuple[str, str], Object], one: Object) -> Object:
    source = json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    return _referred(objects, one, source["indexRefName"])


def _referred(objects: Mapping[tuple[str, str], Object], one: Object, name: str) -> Object:
    [ref] = [ref for ref in one["references"] if ref["name"] == name]
    return objects[ref["type"], ref["id"]]


def _title(pattern: Object) -> str:
    title: str = pattern["attributes"]["title"]
    return title


def _time(pattern: Object) -> str:
    name: str = pattern["attributes"]["timeFieldName"]
    return name
