"""What a Dashboards panel asks of the published indices, asked of a real node: every field that it would group by,
average or filter on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from opensearchpy import OpenSearch

from lrem_os import api
from lrem_os.config import SearchSettings, Settings
from lrem_os.eval.datasets import read_file
from lrem_os.eval.publish import build_templates
from lrem_os.publishing import Publication, publish_report
from tests.fakes.eval_report import MEASURES, eval_report

pytestmark = pytest.mark.opensearch


@pytest.fixture
def settings(opensearch_url: str) -> Settings:
    return Settings(search=SearchSettings(hosts=(opensearch_url,)))


@pytest.fixture
def client(settings: Settings, index_name: str) -> Iterator[OpenSearch]:
    opened = api.connect(settings)
    try:
        yield opened
    finally:
        for name in build_templates(index_name):
            opened.indices.delete_index_template(name=name, ignore=404)
        opened.close()


@pytest.fixture
def published(settings: Settings, client: OpenSearch, index_name: str, tmp_path: Path) -> Publication:
    return publish(settings, index_name, tmp_path)


def publish(settings: Settings, prefix: str, folder: Path) -> Publication:
    (folder / "qrels.txt").write_text("q000 0 a 2\nq000 0 b 0\nq001 0 a 1\n")
    report = eval_report(num_queries=40)
    report["card"]["checksums"] = {"qrels": f"sha256:{read_file(folder / 'qrels.txt').sha256}"}
    (folder / "report.json").write_bytes(orjson.dumps(report))
    return publish_report(settings, folder, prefix=prefix, qrels=folder / "qrels.txt")


def aggregate(client: OpenSearch, index: str, aggs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.search(index=index, body={"size": 0, "aggs": aggs})["aggregations"]
    return found


def test_every_field_is_aggregatable(client: OpenSearch, published: Publication) -> None:
    for name in published.indices:
        caps = client.field_caps(index=name, fields="*")["fields"]
        aggregatable = {field for field, kinds in caps.items() if all(kind["aggregatable"] for kind in kinds.values())}
        shown = {field for field in caps if not field.startswith("_")}
        # text is grouped by its .keyword, a flat_object is looked at, the hash is our own
        exempt = {field for field in shown if field.split(".")[0] in {"card", "lrem_hash", "value", "delta"}}
        assert shown - aggregatable - exempt == {"query"} & shown
        if name.endswith("queries"):
            assert {f"value.{measure}" for measure in MEASURES} <= aggregatable
            assert {f"delta.{measure}" for measure in MEASURES} <= aggregatable
            assert "query.keyword" in aggregatable


def test_a_panel_gets_its_numbers(client: OpenSearch, published: Publication, index_name: str) -> None:
    report = eval_report(num_queries=40)
    body = {
        "size": 0,
        "query": {"bool": {"filter": [{"term": {"dimension": "overall"}}, {"term": {"measure": "ndcg@10"}}]}},
        "aggs": {"runs": {"terms": {"field": "run"}, "aggs": {"mean": {"avg": {"field": "mean"}}}}},
    }
    buckets = client.search(index=f"{index_name}-results", body=body)["aggregations"]["runs"]["buckets"]
    assert {bucket["key"]: round(bucket["mean"]["value"], 5) for bucket in buckets} == {
        run: round(result["overall"]["ndcg@10"]["mean"], 5) for run, result in report["runs"].items()
    }
    queries = f"{index_name}-queries"
    by_route = aggregate(
        client,
        queries,
        {"routes": {"terms": {"field": "route"}, "aggs": {"slow": {"percentiles": {"field": "latency_ms"}}}}},
    )["routes"]["buckets"]
    assert sum(bucket["doc_count"] for bucket in by_route) == 4 * 40
    assert all(bucket["slow"]["values"]["95.0"] > 0 for bucket in by_route)
    over_time = aggregate(
        client, queries, {"days": {"date_histogram": {"field": "@timestamp", "calendar_interval": "1d"}}}
    )
    assert [bucket["doc_count"] for bucket in over_time["days"]["buckets"]] == [160]
    deltas = aggregate(client, queries, {"delta": {"stats": {"field": "delta.ndcg@10"}}})["delta"]
    assert deltas["count"] == 3 * 40
    words = aggregate(client, queries, {"words": {"terms": {"field": "keywords"}}})["words"]["buckets"]
    assert words
    grades = aggregate(client, f"{index_name}-judgments", {"grades": {"terms": {"field": "grade"}}})["grades"][
        "buckets"
    ]
    assert {bucket["key"]: bucket["doc_count"] for bucket in grades} == {0: 1, 1: 1, 2: 1}


def test_a_second_time_changes_nothing(
    settings: Settings, client: OpenSearch, published: Publication, index_name: str, tmp_path: Path
) -> None:
    before = {name: versions(client, name) for name in published.indices}
    again = publish(settings, index_name, tmp_path)
    assert {name: (one.written, one.failed) for name, one in again.indices.items()} == dict.fromkeys(
        again.indices, (0, 0)
    )
    assert {name: versions(client, name) for name in published.indices} == before
    assert all(before.values())


def versions(client: OpenSearch, index: str) -> dict[str, int]:
    body = {"size": 1000, "version": True, "_source": False}
    hits = client.search(index=index, body=body)["hits"]["hits"]
    return {hit["_id"]: hit["_version"] for hit in hits}
