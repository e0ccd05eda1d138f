"""Clients that are none of ours, unchanged before the service: curl, and OpenSearch's own for JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.search_bodies import TEXT
from tests.fakes.engine import vector_of
from tests.fakes.served import Ways, two_ways

pytestmark = pytest.mark.opensearch

CLIENTS = Path(__file__).parents[1] / "clients"
JSON = ("-H", "content-type: application/json")
NEAR = {"query": {"neural": {"lrem_vector": {"query_text": TEXT, "k": 5}}}, "_source": ["title"]}


@pytest.fixture(scope="module")
def ways(opensearch_url: str) -> Iterator[Ways]:
    yield from two_ways(opensearch_url)


def curl(url: str, *options: str, data: bytes | None = None) -> tuple[int, Any]:
    """Return status and JSON of what curl gets; without `took`."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    own = ["-q", "--noproxy", "*", "--silent", "--show-error", "--max-time", "120", "-w", "\n%{http_code}"]
    command = ["curl", *own, *options, url]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    value = json.loads(body) if body else None
    for one in [value, *value.get("responses", ())] if value else []:
        one.pop("took", None)
    return int(status), value


PLAIN = json.dumps({"query": {"match": {"title": "bag"}}, "size": 2})
LARGE = json.dumps({"query": {"terms": {"brand": [f"brand {at} {'x' * 200}" for at in range(6000)]}}})
SAME: dict[str, tuple[str, tuple[str, ...], bytes | None]] = {
    "get": ("/_search?size=2&sort=price:desc&pretty", (), None),
    "post": ("/_search", (*JSON, "-d", PLAIN), None),
    "get with a body": ("/_search", ("-X", "GET", *JSON, "-d", PLAIN), None),
    "no content type": ("/_search", ("-d", PLAIN), None),
    "compressed": ("/_search", ("--compressed", *JSON, "-d", PLAIN), None),
    "http 1.0": ("/_search", ("--http1.0", *JSON, "-d", PLAIN), None),
    "in chunks": (
        "/_search",
        ("-X", "POST", "-H", "transfer-encoding: chunked", *JSON, "--data-binary", "@-"),
        PLAIN.encode(),
    ),
    "100-continue": ("/_search", ("-H", "expect: 100-continue", *JSON, "--data-binary", "@-"), LARGE.encode()),
    "msearch": ("/_msearch", (*JSON, "--data-binary", "@-"), f"{{}}\n{PLAIN}\n{{}}\n{{}}\n".encode()),
    "wrong": ("/_search", (*JSON, "-d", '{"query":{"unknown":{}}}'), None),
    "no json": ("/_search", (*JSON, "-d", "{"), None),
}


@pytest.mark.parametrize("what", SAME)
def test_curl_gets_what_opensearch_says(ways: Ways, what: str) -> None:
    path, options, data = SAME[what]
    straight, through = (
        curl(f"{str(client.base_url).rstrip('/')}/{ways.index}{path}", *options, data=data)
        for client in (ways.straight, ways.through)
    )
    assert through == straight
    assert through[0] == (406 if what == "no content type" else 400 if what in ("wrong", "no json") else 200)


def test_curl_asks_with_a_clause_of_ours(ways: Ways) -> None:
    service = str(ways.through.base_url).rstrip("/")
    url = f"{service}/{ways.index}"
    status, found = curl(f"{url}/_search", *JSON, "-d", json.dumps(NEAR))
    assert (status, found["ext"]["lrem"]["route"], len(found["hits"]["hits"])) == (200, "direct", 5)
    status, found = curl(f"{url}/_search?q=red+leather+bag&size=3", "--compressed")
    assert (status, len(found["hits"]["hits"])) == (200, 3)
    assert curl(f"{url}/_search?scroll=1m")[0] == 400
    assert curl(f"{url}-secret/_search")[0] == 403
    assert curl(f"{url}/_search", "-X", "OPTIONS")[0] == 405
    assert curl(f"{service}/live", "--http1.0")[0] == 200


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the script and the client that it needs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "search.mjs"):
        shutil.copy(CLIENTS / name, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch the JavaScript client in five minutes")
    if done.returncode:
        pytest.skip(f"npm cannot fetch the JavaScript client: {done.stderr.strip()[-300:]}")
    return folder


def test_the_javascript_client_changes_its_host_and_nothing_else(ways: Ways, javascript: Path) -> None:
    urls = [str(client.base_url).rstrip("/") for client in (ways.through, ways.straight)]
    done = subprocess.run(
        ["node", "search.mjs", *urls, ways.index],
        cwd=javascript,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    straight = ways.straight.post(
        f"/{ways.index}/_search",
        json={"query": {"knn": {"lrem_vector": {"vector": list(vector_of(TEXT)), "k": 5}}}},
    )
    assert told == {
        "searches": 3,
        "msearch": 3,
        "route": "direct",
        "ids": [hit["_id"] for hit in straight.json()["hits"]["hits"]],
        "error": "parsing_exception",
    }
