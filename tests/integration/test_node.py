"""``lrem-os node`` from the outside, with the real OpenSearch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.opensearch

HEAP = "--heap-mb=512"


class Cli:
    """Runs the command line with a cache of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *args: str, fails: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lrem_os", "node", *args],
            env=os.environ | {"LREM_OS_HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if fails == 0 else done.stdout + done.stderr

    def up(self, name: str, *args: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self("up", "--name", name, HEAP, "--json", "--fetch-java", *args))
        return values


@pytest.fixture(scope="module")
def cli(node_cache: Path) -> Iterator[Cli]:
    cli = Cli(node_cache)
    yield cli
    for name in ("one", "two"):
        cli("reset", "--name", name, "--yes")
    left = {path.name for path in (node_cache / "nodes").iterdir() if not path.name.startswith(".")}
    assert left.isdisjoint({"one", "two"})  # the session's own node may be among them


@pytest.fixture
def one(cli: Cli) -> dict[str, Any]:
    """The node of that name, running; ``up`` is harmless when it runs already."""
    return cli.up("one")


def request(url: str, method: str = "GET", body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    wanted = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(wanted, timeout=60) as answer:
        return json.load(answer)


def test_up_gives_a_node_that_outlives_the_command(one: dict[str, Any]) -> None:
    process = psutil.Process(one["pid"])
    assert process.is_running()
    assert process.uids().real != 0, "OpenSearch must not run as root"
    assert os.getsid(process.pid) != os.getsid(0)
    info = request(one["url"])
    assert info["version"]["number"] == "3.6.0"
    plugins = {row["component"] for row in request(f"{one['url']}/_cat/plugins?format=json")}
    assert plugins == {"opensearch-knn", "opensearch-neural-search"}
    heap = request(f"{one['url']}/_nodes/jvm")["nodes"]
    assert {node["jvm"]["mem"]["heap_max_in_bytes"] for node in heap.values()} == {512 * 2**20}


def test_up_twice_is_harmless(cli: Cli, one: dict[str, Any]) -> None:
    assert cli.up("one") == one
    assert one["url"] in cli("up", "--name", "one", HEAP)


def test_hybrid_search_works(one: dict[str, Any]) -> None:
    index = f"{one['url']}/products"
    vector = {"type": "knn_vector", "dimension": 2, "method": {"name": "hnsw", "engine": "lucene"}}
    mapping = {"properties": {"title": {"type": "text", "analyzer": "english"}, "v": vector}}
    request(index, "PUT", {"settings": {"index": {"knn": True, "number_of_replicas": 0}}, "mappings": mapping})
    for doc_id, title, values in (("a", "red bags", [1, 0]), ("b", "blue shoe", [0, 1])):
        request(f"{index}/_doc/{doc_id}?refresh=true", "PUT", {"title": title, "v": values})
    legs = [{"match": {"title": "bag"}}, {"knn": {"v": {"vector": [0.9, 0.1], "k": 2}}}]
    rrf = {"phase_results_processors": [{"score-ranker-processor": {"combination": {"technique": "rrf"}}}]}
    answer = request(f"{index}/_search", "POST", {"query": {"hybrid": {"queries": legs}}, "search_pipeline": rrf})
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["a", "b"]


def test_status_says_where_it_runs(cli: Cli, one: dict[str, Any]) -> None:
    status = json.loads(cli("status", "--name", "one", "--json"))
    assert status == {"running": True, "health": status["health"], **one}
    assert status["health"] in ("green", "yellow")
    assert one["url"] in cli("status", "--name", "one")
    assert json.loads(cli("status", "--name", "nobody", "--json", fails=1)) == {"name": "nobody", "running": False}


def test_logs_are_what_it_said(cli: Cli, one: dict[str, Any]) -> None:
    assert "started" in cli("logs", "--name", "one", "--lines", "500")
    assert len(cli("logs", "--name", "one", "--lines", "2").splitlines()) == 2
    assert "never started" in cli("logs", "--name", "nobody", fails=10)


def test_logs_can_be_followed(cli: Cli, one: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "lrem_os", "node", "logs", "--name", "one", "--lines", "1", "-f"]
    environ = os.environ | {"LREM_OS_HOME": str(cli.home)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        request(f"{one['url']}/followed", "PUT")
        assert any(b"followed" in line for line in iter(process.stdout.readline, b""))  # others may come first
        os.killpg(process.pid, 2)


def test_a_port_in_use_is_a_sentence(cli: Cli, one: dict[str, Any]) -> None:
    said = cli("up", "--name", "two", "--port", str(one["port"]), HEAP, fails=10)
    assert f"error: port {one['port']} is in use" in said


def test_two_nodes_run_side_by_side(cli: Cli, one: dict[str, Any]) -> None:
    two = cli.up("two")
    assert two["port"] != one["port"]
    assert two["pid"] != one["pid"]
    request(f"{one['url']}/only-in-one", "PUT")
    assert [row["index"] for row in request(f"{two['url']}/_cat/indices?format=json")] == []
    assert "stopped" in cli("down", "--name", "two")
    assert request(one["url"])["name"] == "one"


def test_data_survives_down_and_up(cli: Cli, one: dict[str, Any]) -> None:
    request(f"{one['url']}/kept/_doc/1", "PUT", {"title": "précieux"})
    assert "stopped" in cli("down", "--name", "one")
    assert has_ended(one["pid"])
    assert "was not running" in cli("down", "--name", "one")
    assert "does not run" in cli("status", "--name", "one", fails=1)
    again = cli.up("one")
    assert again["url"] == one["url"]
    assert request(f"{again['url']}/kept/_doc/1")["_source"] == {"title": "précieux"}


def test_data_survives_a_kill(cli: Cli, one: dict[str, Any]) -> None:
    request(f"{one['url']}/kept/_doc/2", "PUT", {"title": "also"})
    psutil.Process(one["pid"]).kill()
    while not has_ended(one["pid"]):
        time.sleep(0.01)
    again = cli.up("one")
    assert request(f"{again['url']}/kept/_doc/2")["_source"] == {"title": "also"}


def test_reset_asks_and_deletes(cli: Cli, one: dict[str, Any]) -> None:
    assert "say --yes" in cli("reset", "--name", "one", fails=2)
    assert request(one["url"])["name"] == "one"
    assert "data deleted" in cli("reset", "--name", "one", "--yes")
    assert has_ended(one["pid"])
    assert not (cli.home / "nodes" / "one").exists()
    assert "nothing to delete" in cli("reset", "--name", "one", "--yes")


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
