"""User Behavior Insights in a real OpenSearch: queries and clicks, page by page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch

from lrem_os.cli import cli
from lrem_os.config import SearchSettings
from lrem_os.errors import IndexMissing
from lrem_os.eval.datasets import read_qrels, read_queries, text_id
from lrem_os.search.client import connect
from lrem_os.search.pages import read_pages
from lrem_os.types import Query

pytestmark = pytest.mark.opensearch

# as the plugin's queries-mapping.json and events-mapping.json have them, as far as they are read
KEYWORD = {"type": "keyword"}
QUERIES = {"timestamp": {"type": "date"}, "query_id": KEYWORD, "user_query": KEYWORD, "client_id": KEYWORD}
EVENTS = {"timestamp": {"type": "date"}, "query_id": KEYWORD, "action_name": KEYWORD}


@pytest.fixture
def client(opensearch_url: str) -> OpenSearch:
    return connect(SearchSettings(hosts=(opensearch_url,)))


def write(client: OpenSearch, index: str, properties: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    client.indices.create(index=index, body={"mappings": {"properties": properties}})
    lines = "".join(json.dumps(line) + "\n" for row in rows for line in ({"index": {}}, row))
    assert client.bulk(index=index, body=lines, params={"refresh": "true"})["errors"] is False


def asked(search: str, text: str | None, when: str) -> dict[str, Any]:
    return {"query_id": search, "user_query": text, "timestamp": when, "client_id": "someone"}


def event(action: str, search: str, doc: str, ordinal: int) -> dict[str, Any]:
    attributes = {"object": {"object_id": doc}, "position": {"ordinal": ordinal}}
    return {
        "action_name": action,
        "query_id": search,
        "timestamp": "2026-01-05T10:00:00Z",
        "event_attributes": attributes,
    }


def test_pages_hold_every_document_once_though_all_are_of_one_moment(client: OpenSearch, index_name: str) -> None:
    rows = [asked(f"s{number}", str(number), "2026-01-05T10:00:00Z") for number in range(25)]
    write(client, index_name, QUERIES, rows)
    query = {"range": {"timestamp": {"gte": "2026-01-01", "lt": "2026-02-01"}}}
    pages = list(read_pages(client, index_name, query, fields=["user_query"], time_field="timestamp", page=10))
    assert [len(page) for page in pages] == [10, 10, 5]
    assert Counter(row["user_query"] for page in pages for row in page) == Counter(map(str, range(25)))
    assert all(row.keys() == {"user_query"} for page in pages for row in page)


def test_an_index_that_is_missing_is_named(client: OpenSearch, index_name: str) -> None:
    with pytest.raises(IndexMissing, match=index_name):
        list(read_pages(client, index_name, {"match_all": {}}, fields=["x"], time_field="timestamp"))


def test_a_window_of_queries_becomes_a_file_of_queries(
    client: OpenSearch, opensearch_url: str, index_name: str, tmp_path: Path
) -> None:
    rows = [asked("s1", "Red bag", "2026-01-05T10:00:00Z"), asked("s2", "red  bag", "2026-01-06T10:00:00Z")]
    rows += [asked("s3", "sofa", "2026-01-31T23:59:59Z"), asked("s4", "sofa", "2026-02-01T00:00:00Z")]
    write(client, index_name, QUERIES, [*rows, asked("s5", None, "2026-01-05T10:00:00Z")])
    out = tmp_path / "q.jsonl"
    source = f"ubi:2026-01-01..2026-02-01@{index_name}"
    arguments = ["eval", "queries", source, "--out", str(out), "--json", "--set", f"search.hosts={opensearch_url}"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert read_queries(out) == (Query(text_id("red bag"), "Red bag", "", 2.0), Query(text_id("sofa"), "sofa"))
    assert json.loads(result.stdout)["searches"] == 3


def test_clicks_of_both_indices_become_judgments(
    client: OpenSearch, opensearch_url: str, index_name: str, tmp_path: Path
) -> None:
    searches = [asked(f"s{number}", "bag", "2026-01-05T10:00:00Z") for number in range(30)]
    events = [
        event("impression", f"s{number}", doc, place) for number in range(30) for place, doc in ((1, "a"), (2, "b"))
    ]
    events += [event("click", f"s{number}", "b", 2) for number in range(15)]
    events += [event("click", "s0", "a", 1), event("hover", "s0", "a", 1)]
    write(client, f"{index_name}-queries", QUERIES, searches)
    write(client, f"{index_name}-events", EVENTS, events)
    out = tmp_path / "qrels.txt"
    source = f"ubi:2026-01-01..2026-02-01@{index_name}-queries,{index_name}-events"
    options = ["--method", "ctr", "--thresholds", "0.1", "--json", "--set", f"search.hosts={opensearch_url}"]
    result = CliRunner().invoke(cli, ["eval", "clicks", source, "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    assert read_qrels(out) == {text_id("bag"): {"a": 0, "b": 1}}
    summary = json.loads(result.stdout)
    assert (summary["impressions"], summary["clicks"], summary["other_events"]) == (60, 16, 1)


def test_queries_of_an_index_are_evaluated_with_their_frequencies(
    client: OpenSearch, opensearch_url: str, index_name: str, tmp_path: Path
) -> None:
    texts = ("bag", "Bag", "bag", "sofa")
    write(client, index_name, QUERIES, [asked(f"s{at}", text, f"2026-01-0{at + 1}") for at, text in enumerate(texts)])
    bag, sofa = text_id("bag"), text_id("sofa")
    (tmp_path / "quepid.csv").write_text("query,docid,rating\nbag,a,1\nsofa,b,1\n")
    (tmp_path / "run.trec").write_text(f"{bag} Q0 a 1 2 x\n{sofa} Q0 z 1 2 x\n")
    arguments = ["eval", "--runs", str(tmp_path / "run.trec"), "--queries", f"ubi:all@{index_name}"]
    arguments += ["--qrels", str(tmp_path / "quepid.csv"), "--measures", "mrr@10", "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--set", f"search.hosts={opensearch_url}"])
    assert result.exit_code == 0, result.output
    run = json.loads(result.stdout)["runs"]["run"]
    assert run["overall"]["mrr@10"]["mean"] == 0.5
    assert run["weighted"]["mrr@10"]["mean"] == 0.75
