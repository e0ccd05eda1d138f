from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import NodeSettings
from lrem_os.errors import NodeError, PortInUse
from lrem_os.node import cluster
from lrem_os.node.home import NodeHome, make_folder, node_home
from lrem_os.node.launch import opensearch_yml
from lrem_os.node.local import RunningNode
from lrem_os.node.seat import Seat, member_names, seat_settings
from lrem_os.node.state import NodeState, read_state, write_state

SEAT = Seat(("trio", "trio-2", "trio-3"), (9301, 9302, 9303), founded_together=True)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path))


def remember(name: str, *, port: int = 9200, seat: Seat | None = None) -> NodeHome:
    """Have a node that ran once and is stopped."""
    home = node_home(name)
    make_folder(home.path)
    write_state(home, NodeState(None, port, "3.6.0", (), 512, "/java", seat))
    return home


def test_members_know_each_other_and_the_founders() -> None:
    settings = opensearch_yml(NodeHome(Path("/cache/nodes/trio-2")), port=9400, with_ml=False, seat=SEAT)
    assert settings["cluster.name"] == "lrem-os-trio"
    assert settings["node.name"] == "trio-2"
    assert settings["transport.port"] == 9302
    assert settings["discovery.seed_hosts"] == ["127.0.0.1:9301", "127.0.0.1:9302", "127.0.0.1:9303"]
    assert settings["cluster.initial_cluster_manager_nodes"] == ["trio", "trio-2", "trio-3"]
    assert settings["network.host"] == "127.0.0.1"
    assert "discovery.type" not in settings


def test_who_joins_a_cluster_that_exists_is_told_of_no_founders() -> None:
    joined = Seat(SEAT.members, SEAT.transport_ports, founded_together=False)
    assert "cluster.initial_cluster_manager_nodes" not in seat_settings(joined, "trio-3", "127.0.0.1")


def test_a_seat_is_remembered() -> None:
    home = remember("trio-2", seat=SEAT)
    state = read_state(home)
    assert state is not None
    assert state.seat == SEAT


def test_a_state_from_before_there_were_clusters_is_read() -> None:
    home = remember("old")
    home.state.write_text(home.state.read_text().replace(',\n  "seat": null', ""))
    state = read_state(home)
    assert state is not None
    assert state.seat is None


def test_a_new_cluster_is_founded_together_and_one_with_data_is_joined() -> None:
    made = cluster._new_seat(NodeSettings(name="trio"), None, 3)
    assert (made.members, made.founded_together) == (member_names("trio", 3), True)
    assert len(set(made.transport_ports)) == 3
    remember("trio")
    assert not cluster._new_seat(NodeSettings(name="trio"), None, 3).founded_together


def test_another_number_of_nodes_is_refused() -> None:
    with pytest.raises(NodeError, match="cluster trio has 3 nodes, not 2") as caught:
        cluster._new_seat(NodeSettings(name="trio"), SEAT, 2)
    assert "node reset --name trio" in (caught.value.hint or "")


def test_a_node_that_is_alone_is_not_made_a_member() -> None:
    remember("trio-2")
    with pytest.raises(NodeError, match="there is a node trio-2 already"):
        cluster._new_seat(NodeSettings(name="trio"), None, 3)


def test_the_transport_ports_of_the_last_start_are_kept_unless_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "port_is_free", lambda port: port != 9302)
    assert cluster._transport_ports(SEAT.transport_ports, 3) == (9301, 9303, 9300)
    monkeypatch.setattr(cluster, "port_is_free", lambda port: False)
    with pytest.raises(PortInUse, match="fewer than 3 are free"):
        cluster._transport_ports((), 3)


def test_a_later_member_cannot_be_deleted_alone() -> None:
    remember("trio-2", seat=SEAT)
    with pytest.raises(NodeError, match="trio-2 is one of cluster trio"):
        cluster.reset_nodes(NodeSettings(name="trio-2"))


def test_reset_deletes_all_members() -> None:
    for name in SEAT.members:
        remember(name, seat=SEAT)
    assert cluster.reset_nodes(NodeSettings(name="trio")) == ("trio-3", "trio-2", "trio")
    assert not any(node_home(name).path.exists() for name in SEAT.members)


def test_a_cluster_that_is_not_whole_is_not_restarted() -> None:
    for name in SEAT.members:
        remember(name, seat=SEAT)
    with pytest.raises(NodeError, match="not all nodes of trio run: trio, trio-2, trio-3"):
        cluster.restart_nodes(NodeSettings(name="trio"))


class Trio:
    """Three nodes that run as far as ``restart_nodes`` can tell; ``done`` is what it did to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.deaf = 0  # so many requests get no answer
        self.lost: str | None = None  # does not come back
        for name in SEAT.members:
            remember(name, seat=SEAT)
        nodes = [self.node(name) for name in SEAT.members]
        monkeypatch.setattr(cluster, "find_nodes", lambda settings: nodes)
        monkeypatch.setattr(cluster, "node_health", lambda node: "green")
        monkeypatch.setattr(cluster, "stop_node", lambda settings: self.done.append(f"stop {settings.name}"))
        monkeypatch.setattr(cluster, "launch_node", self.launch)
        monkeypatch.setattr(cluster, "await_node", lambda node, on_progress: None)
        monkeypatch.setattr(cluster, "_ask", self.ask)
        monkeypatch.setattr(cluster, "_PAUSE_S", 0.0)

    @staticmethod
    def node(name: str) -> RunningNode:
        return RunningNode(name, "http://127.0.0.1:1", 1, 1, "3.6.0", (), 512, "/java", Path("/"), "trio")

    def launch(self, settings: NodeSettings, **_: object) -> RunningNode:
        if settings.name == self.lost:
            raise NodeError("it does not come back")
        self.done.append(f"start {settings.name}")
        return self.node(settings.name)

    def ask(self, node: RunningNode, method: str, path: str, body: Any = None) -> Any:
        if path.startswith("/_cat/cluster_manager"):
            return [{"node": "trio"}]
        if path.startswith("/_cluster/health"):
            return {"number_of_nodes": 3}
        if self.deaf:
            self.deaf -= 1
            return None
        self.done.append(f"place {body['persistent'][cluster._ALLOCATION]}")
        return {}


def test_nodes_are_restarted_one_by_one_and_the_manager_last(monkeypatch: pytest.MonkeyPatch) -> None:
    trio = Trio(monkeypatch)
    trio.deaf = 2  # a manager is being elected: asked again
    cluster.restart_nodes(NodeSettings(name="trio"))
    expected = ["place None"]
    for name in ("trio-2", "trio-3", "trio"):
        expected += ["place primaries", f"stop {name}", f"start {name}", "place None"]
    assert trio.done == expected


def test_copies_are_made_again_though_a_node_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trio = Trio(monkeypatch)
    trio.lost = "trio-2"
    with pytest.raises(NodeError, match="it does not come back"):
        cluster.restart_nodes(NodeSettings(name="trio"))
    assert trio.done == ["place None", "place primaries", "stop trio-2", "place None"]


def test_where_no_member_runs_there_is_no_host() -> None:
    for place, name in enumerate(SEAT.members):
        remember(name, port=9200 + place, seat=SEAT)
    assert cluster.local_hosts(NodeSettings(name="trio")) == ()


def test_the_ports_of_the_others_follow_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "port_is_free", lambda port: port != 9501)
    settings = NodeSettings(name="trio", port=9500)
    assert [cluster._member_settings(settings, SEAT, place).port for place in range(3)] == [9500, None, 9502]
    remember("trio-3", port=9777, seat=SEAT)
    assert cluster._member_settings(settings, SEAT, 2).port == 9777
