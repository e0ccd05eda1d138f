"""Several local nodes that make one cluster: to see what happens to a shop when one of them goes.

The first member has the cluster's name; the others are ``NAME-2``, ``NAME-3``, …. All are nodes as ``local.py`` runs
them, with a ``Seat`` in their state. A cluster of one is a node that is alone.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lrem_os.config import NodeSettings
from lrem_os.errors import NodeError, PortInUse
from lrem_os.node.home import NodeHome, locked, node_home, node_root
from lrem_os.node.launch import HOST, port_is_free
from lrem_os.node.local import (
    START_S,
    RunningNode,
    await_node,
    find_node,
    launch_node,
    node_health,
    reset_node,
    start_node,
    stop_node,
)
from lrem_os.node.progress import OnProgress, Progress, silent
from lrem_os.node.seat import Seat, member_names
from lrem_os.node.state import live_process, read_state

_TRANSPORT_PORTS = range(9300, 9400)
_PAUSE_S = 0.25
_ELECTION_S = 120.0  # seconds, on a machine that is not overloaded
_ALLOCATION = "cluster.routing.allocation.enable"


def start_nodes(
    settings: NodeSettings, *, with_ml: bool = False, fetch_java: bool = False, on_progress: OnProgress = silent
) -> tuple[RunningNode, ...]:
    """Start what does not run of a cluster; return all its nodes, ready and joined, the first one first.

    A node that was alone becomes the first of a cluster with its data; the others join it. Named by its own name, a
    member is started alone, and waits for the others.

    Args:
        settings: Name, number, version, heap, Java; ``port`` is the first node's, the others' follow it.
        with_ml: Add ML Commons.
        fetch_java: Fetch a Java when none is found.
        on_progress: Told what is being done.

    Raises:
        NodeError: One does not start or join, or the cluster has another number of nodes.
        JavaMissing: No Java 21 or newer.
        DownloadFailed: OpenSearch could not be fetched.
        PortInUse: The configured port is taken.
    """
    seat = _seat_of(settings)
    count = settings.nodes or (len(seat.members) if seat is not None else 1)
    options: dict[str, Any] = {"with_ml": with_ml, "fetch_java": fetch_java, "on_progress": on_progress}
    if _is_later_member(settings, seat) or (seat is None and count == 1):
        return (start_node(settings, **options),)
    with _cluster_lock(settings.name):
        seat = _new_seat(settings, seat, count)
        if (first := find_node(settings)) is not None and not first.cluster:
            on_progress(Progress(f"stopping node {settings.name}, to start it again as the first of {count}"))
            stop_node(settings)
        nodes = [launch_node(_member_settings(settings, seat, place), seat=seat, **options) for place in range(count)]
        try:
            for node in nodes:  # all at once: none is ready before most of them are there
                await_node(node, on_progress)
            _until(lambda: all_joined(nodes), f"{count} nodes have not found each other", settings.name)
        except (NodeError, KeyboardInterrupt):
            for name in seat.members:
                if (node_there := find_node(_named(settings, name))) is not None and not _number_of_nodes(node_there):
                    stop_node(_named(settings, name))
            raise
    return tuple(nodes)


def find_nodes(settings: NodeSettings) -> tuple[RunningNode, ...]:
    """Return the nodes of a cluster whose processes are alive, or the one node of this name. Raises ``NodeError``."""
    names = _names(settings)
    found = (find_node(_named(settings, name)) for name in names)
    return tuple(node for node in found if node is not None)


def local_hosts(settings: NodeSettings) -> tuple[str, ...]:
    """Return the URLs of all members, those too that are gone for now; nothing where none runs.

    Raises:
        NodeError: What is known of a node cannot be read.
    """
    if not find_nodes(settings):
        return ()
    states = [read_state(node_home(name)) for name in _names(settings)]
    return tuple(f"http://{HOST}:{state.port}" for state in states if state is not None)


def stop_nodes(settings: NodeSettings, *, only: bool = False) -> tuple[str, ...]:
    """Stop a cluster, or one node; the data stays. Returns the names of those that ran.

    Args:
        settings: The name; of the first: all its members are meant.
        only: The named one alone.

    Raises:
        NodeError: One does not end.
    """
    names = (settings.name,) if only else _names(settings)
    return tuple(name for name in names if stop_node(_named(settings, name)))


def reset_nodes(settings: NodeSettings) -> tuple[str, ...]:
    """Stop a cluster, or one node, and delete all it holds; return the names of those that held something.

    Raises:
        NodeError: The node is a later member of a cluster, which would miss it.
    """
    seat = _seat_of(settings)
    if _is_later_member(settings, seat) and seat is not None:
        raise NodeError(
            f"node {settings.name} is one of cluster {seat.cluster}, which may hold data nowhere else",
            hint=f"delete all of it: `lrem-os node reset --name {seat.cluster}`",
        )
    names = _names(settings)
    stop_nodes(settings)
    return tuple(name for name in reversed(names) if reset_node(_named(settings, name)))


def restart_nodes(settings: NodeSettings, *, on_progress: OnProgress = silent) -> tuple[RunningNode, ...]:
    """Restart a cluster's nodes one after the other, its manager last, so that it answers all the time.

    Before a node goes, copies of shards are kept from being made anew elsewhere; the next one goes when every shard has
    all its copies again. Answers go on for indices with a replica.

    Source: OpenSearch 3.6 documentation, "Rolling upgrade".

    Raises:
        NodeError: Not all nodes run, or one does not come back; or the cluster does not get green again.
    """
    names = _names(settings)
    nodes = list(find_nodes(settings))
    if len(nodes) < len(names):
        gone = ", ".join(sorted(set(names) - {node.name for node in nodes}))
        raise NodeError(f"not all nodes of {settings.name} run: {gone}", hint=f"lrem-os node up --name {settings.name}")
    if len(nodes) == 1:
        stop_node(settings)
        return (start_node(_as_it_was(settings, nodes[0]), with_ml="ml" in nodes[0].plugins, on_progress=on_progress),)
    with _cluster_lock(settings.name):
        manager = _manager(nodes[0])
        _allocate(nodes[0], None)  # a restart that was killed half-way left it so, and copies would never come
        for node in sorted(nodes, key=lambda node: node.name == manager):
            other = next(one for one in nodes if one.name != node.name)
            _until_whole(other, on_progress)
            on_progress(Progress(f"restarting node {node.name}"))
            _allocate(other, "primaries")
            try:
                stop_node(_named(settings, node.name))
                back = launch_node(_as_it_was(settings, node), on_progress=on_progress)
                await_node(back, on_progress)
                nodes[nodes.index(node)] = back
                _until(lambda: all_joined(nodes), f"{node.name} has not joined", settings.name)
            finally:
                _allocate(other, None)
            _until_whole(other, on_progress)
    return tuple(nodes)


def all_joined(nodes: Sequence[RunningNode]) -> bool:
    """Say whether each node sees all of them."""
    return all(_number_of_nodes(node) == len(nodes) for node in nodes)


def _seat_of(settings: NodeSettings) -> Seat | None:
    state = read_state(node_home(settings.name))
    return None if state is None else state.seat


def _is_later_member(settings: NodeSettings, seat: Seat | None) -> bool:
    return seat is not None and seat.cluster != settings.name


def _names(settings: NodeSettings) -> tuple[str, ...]:
    seat = _seat_of(settings)
    return (settings.name,) if seat is None or _is_later_member(settings, seat) else seat.members


def _named(settings: NodeSettings, name: str) -> NodeSettings:
    return settings.model_copy(update={"name": name, "nodes": None, "port": None})


def _as_it_was(settings: NodeSettings, node: RunningNode) -> NodeSettings:
    return _named(settings, node.name).model_copy(update={"port": node.port, "heap_mb": node.heap_mb})


def _member_settings(settings: NodeSettings, seat: Seat, place: int) -> NodeSettings:
    """Return a member's settings: the port follows the first one's, where that was said and it is free."""
    name = seat.members[place]
    state, port = read_state(node_home(name)), settings.port
    if place and state is not None:
        port = state.port
    elif place and port is not None:
        port = port + place if port_is_free(port + place) else None
    return _named(settings, name).model_copy(update={"port": port})


def _new_seat(settings: NodeSettings, seat: Seat | None, count: int) -> Seat:
    """Return the seat to start with: the one there was, with other ports where nobody runs and they are taken.

    Raises:
        NodeError: The cluster has another number of nodes, or a name is taken by a node that is alone.
        PortInUse: There are not enough free ports.
    """
    if seat is not None and len(seat.members) != count:
        raise NodeError(
            f"cluster {settings.name} has {len(seat.members)} nodes, not {count}",
            hint=f"`lrem-os node reset --name {settings.name}` deletes it with its data, to make another",
        )
    if seat is not None and find_nodes(settings):
        return seat
    names = member_names(settings.name, count)
    homes = [node_home(name) for name in names]
    if seat is None:
        for home in homes[1:]:
            if home.state.exists():
                raise NodeError(
                    f"there is a node {home.name} already, which is alone",
                    hint=f"choose another --name, or delete it: `lrem-os node reset --name {home.name}`",
                )
    together = seat.founded_together if seat is not None else not homes[0].state.exists()
    return Seat(names, _transport_ports(seat.transport_ports if seat is not None else (), count), together)


def _transport_ports(previous: Sequence[int], count: int) -> tuple[int, ...]:
    taken = set(_seated_ports())
    wanted = (*previous, *_TRANSPORT_PORTS)
    free = dict.fromkeys(port for port in wanted if port not in taken and port_is_free(port))
    if len(free) < count:
        raise PortInUse(f"of the ports {_TRANSPORT_PORTS[0]} to {_TRANSPORT_PORTS[-1]} fewer than {count} are free")
    return tuple(free)[:count]


def _seated_ports() -> Iterator[int]:
    """Yield the transport ports of clusters that run."""
    folder = node_root() / "nodes"
    for path in folder.iterdir() if folder.exists() else ():
        home = NodeHome(path)
        state = read_state(home) if path.is_dir() else None
        if state is not None and state.seat is not None and live_process(home, state.pid) is not None:
            yield from state.seat.transport_ports


def _ask(node: RunningNode, method: str, path: str, body: object = None) -> Any:
    """Return a node's answer as JSON; ``None`` where it has none."""
    connection = http.client.HTTPConnection(HOST, node.port, timeout=30)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status < 300 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _number_of_nodes(node: RunningNode) -> int:
    answer = _ask(node, "GET", "/_cluster/health?cluster_manager_timeout=5s")
    return int(answer["number_of_nodes"]) if answer else 0


def _until_whole(node: RunningNode, on_progress: OnProgress) -> None:
    """Wait until every shard has all its copies."""
    if node_health(node) != "green":
        on_progress(Progress("waiting until every shard has all its copies"))
        _until(lambda: node_health(node) == "green", "shards lack copies", node.cluster)


def _manager(node: RunningNode) -> str:
    answer = _ask(node, "GET", "/_cat/cluster_manager?format=json")
    return str(answer[0]["node"]) if answer else ""


def _allocate(node: RunningNode, which: str | None) -> None:
    """Say which shards may be placed; ``None``: all, as by default. Tried again while a manager is being elected."""
    change = {"persistent": {_ALLOCATION: which}}
    what = f"node {node.name} did not take a setting ({_ALLOCATION}: {which})"
    _until(lambda: _ask(node, "PUT", "/_cluster/settings", change) is not None, what, node.cluster, _ELECTION_S)


def _until(happened: Callable[[], bool], what: str, name: str, limit_s: float | None = None) -> None:
    limit_s = START_S if limit_s is None else limit_s
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            raise NodeError(f"cluster {name}: {what} after {limit_s:.0f} s", hint=f"`lrem-os node logs --name {name}`")
        time.sleep(_PAUSE_S)


@contextmanager
def _cluster_lock(name: str) -> Iterator[None]:
    with locked(node_root() / "nodes" / f".{name}.cluster.lock"):
        yield
