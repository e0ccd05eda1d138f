"""Start, find, stop and reset, with a stand-in for OpenSearch that starts at once (the real one: tests/integration)."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lrem_os.config import NodeSettings
from lrem_os.errors import JavaMissing, NodeError, PortInUse
from lrem_os.node import local
from lrem_os.node.java import Java
from lrem_os.node.local import find_node, log_file, node_health, reset_node, start_node, stop_node
from lrem_os.node.progress import Progress
from lrem_os.node.state import read_state

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys, yaml
from http.server import BaseHTTPRequestHandler, HTTPServer

settings = yaml.safe_load((pathlib.Path(os.environ["OPENSEARCH_PATH_CONF"]) / "opensearch.yml").read_text())
data = pathlib.Path(sys.argv[1].removeprefix("-Epath.data="))
if (data / "broken").exists():
    sys.exit("uncaught exception in thread [main]\\nIllegalStateException: the data is broken")
print("started", flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"cluster_name": settings["cluster.name"], "status": "green"}}).encode())


HTTPServer(("127.0.0.1", settings["http.port"]), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    distribution = tmp_path / "distribution"
    (distribution / "bin").mkdir(parents=True)
    (distribution / "config").mkdir()
    (distribution / "bin" / "opensearch").write_text(STAND_IN)
    (distribution / "bin" / "opensearch").chmod(0o755)
    for name in ("jvm.options", "log4j2.properties"):
        (distribution / "config" / name).write_text("")
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(local, "node_account", lambda: None)
    monkeypatch.setattr(local, "ensure_distribution", lambda version, **rest: distribution)
    monkeypatch.setattr(local, "find_java", lambda configured, **rest: Java(tmp_path, 25, "test"))
    yield tmp_path / "home"
    for folder in (tmp_path / "home" / "nodes").glob("[!.]*"):
        stop_node(NodeSettings(name=folder.name))


def settings(**values: object) -> NodeSettings:
    return NodeSettings.model_validate({"port": free_port()} | values)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_node_that_never_ran() -> None:
    assert find_node(settings()) is None
    assert stop_node(settings()) is False
    assert reset_node(settings()) is False
    with pytest.raises(NodeError, match="never started"):
        log_file(settings())


def test_up_twice_and_down_twice() -> None:
    wanted = settings()
    told: list[Progress] = []
    first = start_node(wanted, on_progress=told.append)
    assert first.url == f"http://127.0.0.1:{wanted.port}"
    assert node_health(first) == "green"
    assert any("starting OpenSearch 3.6.0" in progress.message for progress in told)
    told.clear()
    assert start_node(wanted, on_progress=told.append) == first == find_node(wanted)
    assert told == []
    assert stop_node(wanted) is True
    assert has_ended(first.pid)
    assert find_node(wanted) is None
    assert stop_node(wanted) is False


def test_the_process_is_nobodys_child() -> None:
    node = start_node(settings())
    assert psutil.Process(node.pid) not in psutil.Process().children(recursive=True)


def test_without_a_port_two_nodes_get_two_and_keep_them() -> None:
    one, two = NodeSettings(name="one"), NodeSettings(name="two")
    ports = [start_node(one).port, start_node(two).port]
    assert len(set(ports)) == 2
    stop_node(one)
    stop_node(two)
    assert [start_node(two).port, start_node(one).port] == ports[::-1]


def test_a_port_in_use_is_refused_and_nothing_is_left_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wanted = settings(port=server.getsockname()[1])
        with pytest.raises(PortInUse, match=f"port {wanted.port} is in use"):
            start_node(wanted)
    assert find_node(wanted) is None


def test_another_port_than_the_running_one_is_refused() -> None:
    running = start_node(settings())
    with pytest.raises(NodeError, match=f"already runs on port {running.port}, not") as caught:
        start_node(settings())
    assert "node down" in str(caught.value.hint)


def test_another_version_than_the_running_one_is_refused() -> None:
    wanted = settings()
    start_node(wanted)
    with pytest.raises(NodeError, match=r"already runs OpenSearch 3\.6\.0"):
        start_node(wanted.model_copy(update={"version": "3.7.0"}))


def test_another_heap_than_the_running_one_is_only_told() -> None:
    wanted = settings()
    running = start_node(wanted)
    told: list[Progress] = []
    assert start_node(wanted.model_copy(update={"heap_mb": 2048}), on_progress=told.append) == running
    assert "runs with 1024 MiB of heap" in told[0].message


def test_ml_commons_is_added_to_a_running_node_and_stays() -> None:
    wanted = settings()
    plain = start_node(wanted)
    assert plain.plugins == ()
    with_ml = start_node(wanted, with_ml=True)
    assert with_ml.plugins == ("ml",)
    assert with_ml.pid != plain.pid
    assert has_ended(plain.pid)
    assert start_node(wanted) == with_ml
    stop_node(wanted)
    assert start_node(wanted).plugins == ("ml",)


def test_data_of_a_newer_version_is_refused_before_anything_starts() -> None:
    wanted = settings()
    start_node(wanted)
    stop_node(wanted)
    with pytest.raises(NodeError, match=r"holds data of OpenSearch 3\.6\.0, which 3\.5\.0 cannot read") as caught:
        start_node(wanted.model_copy(update={"version": "3.5.0"}))
    assert "node.version to 3.6.0" in str(caught.value.hint)
    assert start_node(wanted.model_copy(update={"version": "3.10.0"})).version == "3.10.0"


def test_a_name_stays_with_what_it_was_given_to() -> None:
    wanted = settings()
    start_node(wanted)
    other = wanted.model_copy(update={"engine": "elasticsearch", "version": "9.5.3"})
    with pytest.raises(NodeError, match=r"already runs OpenSearch 3\.6\.0"):
        start_node(other)
    stop_node(wanted)
    with pytest.raises(NodeError, match="holds data of OpenSearch, not Elasticsearch") as caught:
        start_node(other)
    assert "--name" in str(caught.value.hint)


def test_a_node_that_dies_while_starting_says_why(stand_in: Path) -> None:
    wanted = settings()
    (stand_in / "nodes" / "default" / "data").mkdir(parents=True)
    (stand_in / "nodes" / "default" / "data" / "broken").touch()
    with pytest.raises(NodeError, match=r"ended while it started.*\n    IllegalStateException: the data is broken"):
        start_node(wanted)
    assert find_node(wanted) is None
    assert "the data is broken" in log_file(wanted).read_text()


def test_a_node_that_was_killed_is_started_again_with_its_data(stand_in: Path) -> None:
    wanted = settings()
    killed = start_node(wanted)
    (killed.home / "data" / "index").write_text("precious")
    psutil.Process(killed.pid).kill()
    while not has_ended(killed.pid):
        time.sleep(0.01)
    assert find_node(wanted) is None
    again = start_node(wanted)
    assert again.pid != killed.pid
    assert (again.home / "data" / "index").read_text() == "precious"
    assert (again.home / "console.log.1").exists()


def test_a_recycled_process_id_is_neither_found_nor_stopped() -> None:
    wanted = settings()
    node = start_node(wanted)
    stop_node(wanted)
    state = (node.home / "node.json").read_text()
    with psutil.Popen([sys.executable, "-c", "input()"], stdin=-1) as stranger:
        (node.home / "node.json").write_text(state.replace('"pid": null', f'"pid": {stranger.pid}'))
        assert find_node(wanted) is None
        assert stop_node(wanted) is False
        assert stranger.poll() is None
        stranger.kill()


def test_an_interrupted_start_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **rest: object) -> None:
        raise KeyboardInterrupt

    wanted = settings()
    with monkeypatch.context() as patch:
        patch.setattr(local, "wait_until_ready", interrupt)
        patch.setattr(local, "health", lambda name, port: None)
        with pytest.raises(KeyboardInterrupt):
            start_node(wanted)
    assert find_node(wanted) is None


def test_reset_stops_and_deletes(stand_in: Path) -> None:
    wanted = settings()
    node = start_node(wanted)
    assert reset_node(wanted) is True
    assert has_ended(node.pid)
    assert not node.home.exists()
    assert start_node(wanted).pid != node.pid


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 5 * 2**20))
    with pytest.raises(NodeError, match="no space: 5 MiB free"):
        start_node(settings())


def test_java_is_fetched_only_when_asked_for_and_missing(monkeypatch: pytest.MonkeyPatch, stand_in: Path) -> None:
    fetched: list[Path] = []

    def find(configured: Path | None, **rest: object) -> Java:
        if not fetched:
            raise JavaMissing("no Java found")
        return Java(fetched[0], 21, "fetched")

    monkeypatch.setattr(local, "find_java", find)
    monkeypatch.setattr(local, "fetch_java", lambda folder, on_progress: fetched.append(folder))
    wanted = settings()
    with pytest.raises(JavaMissing):
        start_node(wanted)
    assert fetched == []
    start_node(wanted, fetch_java=True)
    assert fetched == [stand_in / "jdks"]
    state = read_state(local.node_home("default"))
    assert state is not None
    assert state.java_home == str(fetched[0])


def test_a_configured_java_that_is_wrong_is_not_replaced_by_a_fetched_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(configured: Path | None, **rest: object) -> Java:
        raise JavaMissing(f"node.java_home is {configured}")

    monkeypatch.setattr(local, "find_java", find)
    monkeypatch.setattr(local, "fetch_java", lambda folder, on_progress: pytest.fail("fetched"))
    with pytest.raises(JavaMissing, match=r"node\.java_home is /java"):
        start_node(settings(java_home="/java"), fetch_java=True)
