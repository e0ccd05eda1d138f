"""Every panel on a real node: after `dashboards install`, the demo's steps, and a day of traffic, each has data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch

from lrem_os import api
from lrem_os.cli import cli
from lrem_os.config import SearchSettings, Settings, load_settings
from lrem_os.config_dashboards import DashboardsSettings
from lrem_os.dashboards.build import Wanted, build_objects
from lrem_os.dashboards.install import install, remove
from lrem_os.dashboards.objects import to_ndjson
from lrem_os.demo.tour import sample_files
from lrem_os.errors import Unsupported
from lrem_os.ingest.recording import RECORDS
from lrem_os.ingest.run import IngestOptions
from lrem_os.publishing import publish_report
from lrem_os.search.client import connect
from tests.fakes.dashboards import FakeDashboards
from tests.fakes.eval_report import eval_report
from tests.fakes.saved_objects import PanelSearch, read_objects, searches
from tests.fakes.traffic import DAY, bulk_lines, day, nights

pytestmark = pytest.mark.opensearch

OURS = ("ubi_queries", "ubi_events", RECORDS, "lrem-os-eval-results", "lrem-os-eval-queries")
OBJECTS = read_objects(to_ndjson(build_objects(Wanted(gpu_hour_price=1.2))))
PANELS = {search.panel: search for search in searches(OBJECTS)}
LONG_AGO, FAR_OFF = "2020-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"


@pytest.fixture(scope="module")
def client(opensearch_url: str) -> OpenSearch:
    return connect(SearchSettings(hosts=(opensearch_url,)))


@pytest.fixture(scope="module")
def filled(
    client: OpenSearch, opensearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeDashboards]:
    """A cluster after install, a catalog with faulty rows, an evaluation and a day; and the Dashboards beside it."""
    clear(client)
    folder = tmp_path_factory.mktemp("dashboards")
    with FakeDashboards() as dashboards:
        settings = settings_of(opensearch_url, dashboards)
        install(settings)
        with sample_files() as files:
            bad = folder / "bad.jsonl"
            bad.write_text('{"id": "x1"}\n{"id": "x2", "title": "lamp", "price": "cheap"}\n')
            for turn in range(2):  # the second finds all unchanged
                letters = IngestOptions(dead_letters=folder / f"{turn}.dead.jsonl")
                api.ingest_catalog(settings, [str(files.catalog), str(bad)], letters)
            evaluate(opensearch_url, files.queries, files.qrels, folder)
        report = folder / "made-up.json"
        measures = ("ndcg@10", "judged@10", "hitrate@10")
        report.write_bytes(orjson.dumps(eval_report(measures=measures, num_queries=40)))
        publish_report(settings, report)
        answer = client.bulk(body=bulk_lines(chain(day(), nights())), params={"refresh": "true"})
        assert not answer["errors"], answer["items"][0]
        client.indices.refresh(index=",".join(OURS))
        yield dashboards
        remove(settings)
    clear(client)


def clear(client: OpenSearch) -> None:
    for name in (*OURS, "test-dashboards-v*"):
        client.indices.delete(index=name, params={"ignore_unavailable": "true"})


def settings_of(url: str, dashboards: FakeDashboards, **more: Any) -> Settings:
    return load_settings(
        None, ["model.name=fake:16", "index.name=test-dashboards", f"search.hosts={url}"]
    ).settings.model_copy(update={"dashboards": DashboardsSettings(url=dashboards.url, **more)})


def evaluate(url: str, queries: Path, qrels: Path, folder: Path) -> None:
    """Measure and publish as the demo's user would."""
    given = ["--set", f"search.hosts={url}", "--set", "model.name=fake:16", "--set", "index.name=test-dashboards"]
    out = str(folder / "out")
    runs = ["--runs", "bm25,hybrid", "--baseline", "bm25", "--queries", str(queries), "--qrels", str(qrels)]
    for arguments in (["eval", *runs, "--report", out, *given], ["eval", "publish", out, *given]):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output


def run(client: OpenSearch, search: PanelSearch, filters: dict[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = client.search(
        index=search.index, body=search.within(LONG_AGO, FAR_OFF, filters), params={"ignore_unavailable": "true"}
    )
    return found


def values_of(node: Any, number: str) -> Iterator[Any]:
    """Yield every value that an aggregation has, in whatever bucket."""
    if isinstance(node, dict):
        for name, inner in node.items():
            if name == number and isinstance(inner, dict):
                if "value" in inner:
                    yield inner["value"]
                elif "hits" in inner:
                    yield from (hit.get("fields") or hit.get("_source") or None for hit in inner["hits"]["hits"])
                elif "values" in inner:
                    yield from (pair["value"] for pair in inner["values"])
                elif "buckets" in inner:
                    yield len(inner["buckets"]) or None
            yield from values_of(inner, number)
    elif isinstance(node, list):
        for inner in node:
            yield from values_of(inner, number)


def num_buckets(node: Any) -> int:
    """Return how many buckets of the innermost level hold documents."""
    buckets = [inner["buckets"] for inner in node.values() if isinstance(inner, dict) and "buckets" in inner]
    return sum(num_buckets(bucket) or 1 for many in buckets for bucket in many if bucket.get("doc_count"))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_data(filled: FakeDashboards, client: OpenSearch, panel: str) -> None:
    search = PANELS[panel]
    answer = run(client, search)
    assert answer["_shards"]["failed"] == 0, answer["_shards"]
    assert answer["hits"]["total"]["value"] > 0
    if "aggs" not in search.body:
        shown = search.body["_source"]
        sources = [hit["_source"] for hit in answer["hits"]["hits"]]
        for column in shown:
            assert any(has(source, column) for source in sources), f"no document has {column}"
        return
    if any("buckets" in agg for agg in answer["aggregations"].values()):
        assert num_buckets(answer["aggregations"]) > 1
    for number in search.metrics:
        found = [value for value in values_of(answer["aggregations"], number) if value not in (None, "NaN")]
        assert found, f"aggregation {number} is empty"


def has(source: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(source, dict) or part not in source:
            return False
        source = source[part]
    return True


BEHAVIOUR = [name for name in PANELS if name.startswith(("lrem-os-traffic", "lrem-os-queries"))]


@pytest.mark.parametrize("panel", BEHAVIOUR)
def test_a_filter_on_the_route_keeps_what_belongs_to_it(filled: FakeDashboards, client: OpenSearch, panel: str) -> None:
    route = "reasoned" if panel == "lrem-os-queries-keywords" else "direct"
    everything, part = (run(client, PANELS[panel], filters) for filters in (None, {"lrem.route": route}))
    assert 0 < part["hits"]["total"]["value"] < everything["hits"]["total"]["value"]


def test_clicks_stay_with_their_search_under_a_filter(filled: FakeDashboards, client: OpenSearch) -> None:
    rows = [row for _, _, row in day()]
    for route in ("direct", "reasoned"):
        clicks = sum(row["lrem"].get("clicks", 0) for row in rows if row["lrem"]["route"] == route)
        asked = sum(row["lrem"].get("searches", 0) for row in rows if row["lrem"]["route"] == route)
        answer = run(client, PANELS["lrem-os-queries-summary"], {"lrem.route": route})["aggregations"]
        assert (answer["1"]["value"], answer["2"]["value"]) == (asked, clicks)
        assert clicks > 0


def test_the_recent_searches_are_rows_of_search_and_clicks(filled: FakeDashboards, client: OpenSearch) -> None:
    records = {row["query_id"]: row for index, _, row in day() if index == "ubi_queries"}
    clicks = [row["query_id"] for index, _, row in day() if index == "ubi_events" and row["action_name"] == "click"]
    buckets = run(client, PANELS["lrem-os-queries-recent"])["aggregations"]["9"]["buckets"]
    assert len(buckets) == 100
    times = [bucket["1"]["value"] for bucket in buckets]
    assert times == sorted(times, reverse=True)
    for bucket in buckets:
        record = records[bucket["key"]]
        [hit] = bucket["2"]["hits"]["hits"]
        assert hit["_source"]["user_query"] == record["user_query"]
        assert bucket["8"]["value"] == clicks.count(bucket["key"])
        assert bucket["6"]["value"] == pytest.approx(record["lrem"]["took_ms"], rel=1e-5)


def test_the_day_is_counted_as_it_was(filled: FakeDashboards, client: OpenSearch) -> None:
    records = [row["lrem"] for index, _, row in day() if index == "ubi_queries"]
    answer = run(client, PANELS["lrem-os-traffic-summary"])["aggregations"]
    assert answer["1"]["value"] == len(records)
    for number, name in (("2", "reasoned"), ("3", "cached"), ("4", "is_degraded"), ("5", "zero_results")):
        told = [record[name] for record in records if name in record]
        assert 0 < sum(told) < len(told)
        assert answer[number]["value"] == pytest.approx(sum(told) / len(told))
    within = PANELS["lrem-os-traffic-summary"].within(DAY.isoformat(), DAY.replace(hour=12).isoformat())
    half = client.search(index="ubi_queries", body=within)
    assert half["hits"]["total"]["value"] == len(records) / 2


def test_ingests_are_accounted_for(filled: FakeDashboards, client: OpenSearch) -> None:
    rows = [hit["_source"] for hit in client.search(index=RECORDS, body={"size": 50})["hits"]["hits"]]
    own = [row for row in rows if row["alias"] == "test-dashboards"]
    first, second = sorted((row for row in own if row["kind"] == "ingest"), key=lambda row: row["@timestamp"])
    assert (first["read"], first["indexed"], first["failed"]) == (402, 400, 2)
    assert (second["unchanged"], second["indexed"]) == (400, 0)
    assert first["documents"] == first["vectors"] == second["vectors"] == 400
    failures = [row for row in own if row["kind"] == "failure" and row["ingest"] == first["ingest"]]
    assert sum(row["count"] for row in failures) == 2
    assert {row["fingerprint"] for row in own} == {first["fingerprint"]}
    assert len(first["fingerprint"]) == 16


def test_install_a_second_time_changes_nothing(filled: FakeDashboards, opensearch_url: str) -> None:
    writes = len(filled.writes)
    again = install(settings_of(opensearch_url, filled))
    assert (again.created, again.updated, again.different) == ([], [], [])
    assert len(again.unchanged) == len(OBJECTS)
    assert len(filled.writes) == writes


def test_retention_is_refused_where_the_cluster_cannot_do_it(filled: FakeDashboards, opensearch_url: str) -> None:
    with pytest.raises(Unsupported, match="no Index State Management"):
        install(settings_of(opensearch_url, filled, retention="30d"))


def test_an_index_that_the_plugin_made_gets_our_fields(
    filled: FakeDashboards, client: OpenSearch, opensearch_url: str
) -> None:
    """Last, for it begins the behaviour records anew."""
    settings = settings_of(opensearch_url, filled)
    remove(settings)
    client.indices.delete(index="ubi_queries")
    theirs = {"timestamp": {"type": "date"}, "query_attributes": {"type": "flat_object"}}
    client.indices.create(index="ubi_queries", body={"mappings": {"dynamic": False, "properties": theirs}})
    client.index(index="ubi_queries", body={"query_id": "old"}, params={"refresh": "true"})
    assert any("what was recorded before now is on no panel" in note for note in install(settings).notes)
    client.bulk(body=bulk_lines(iter([next(iter(day()))])), params={"refresh": "true"})
    answer = run(client, PANELS["lrem-os-traffic-summary"])["aggregations"]
    assert answer["1"]["value"] == 1
