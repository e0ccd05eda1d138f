"""The local node: start, find, stop, reset."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrem_os.config import NodeSettings
from lrem_os.errors import JavaMissing, NodeError
from lrem_os.node.distribution import ensure_distribution
from lrem_os.node.home import (
    Account,
    NodeHome,
    can_reach,
    check_root,
    disk_errors,
    locked,
    node_account,
    node_home,
    node_root,
    prepare_home,
)
from lrem_os.node.java import Java, fetch_java, find_java
from lrem_os.node.launch import (
    HOST,
    choose_port,
    health,
    port_is_free,
    spawn,
    wait_until_ready,
    write_config,
)
from lrem_os.node.program import check_asked, program_of
from lrem_os.node.progress import OnProgress, Progress, silent
from lrem_os.node.seat import Seat
from lrem_os.node.state import NodeState, end_process, live_process, read_state, write_state
from lrem_os.types import Engine

START_S = 550.0  # 10 to 15 s on an idle laptop, minutes on a busy one; a process that ends is noticed at once
MIN_FREE_BYTES = 300 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node whose process is alive.

    Args:
        name: Its name.
        url: Where it answers.
        pid: Its process.
        port: HTTP port.
        version: Of OpenSearch, or Elasticsearch.
        plugins: What was asked for beyond k-NN and neural-search: ``ml``.
        heap_mb: Java heap, MiB.
        java_home: The Java it runs on.
        home: Its folder.
        cluster: Name of the cluster that it is a member of; empty: it is alone.
        engine: What it runs.
    """

    name: str
    url: str
    pid: int
    port: int
    version: str
    plugins: tuple[str, ...]
    heap_mb: int
    java_home: str
    home: Path
    cluster: str = ""
    engine: Engine = "opensearch"


def find_node(settings: NodeSettings) -> RunningNode | None:
    """Return the node of this name if its process is alive (it may still be starting). Raises ``NodeError``."""
    home = node_home(settings.name)
    state = read_state(home)
    if state is None or live_process(home, state.pid) is None:
        return None
    return _running(home, state)


def node_health(node: RunningNode) -> str:
    """Return ``green``, ``yellow``, ``red``, or ``no answer``: it is starting, or stuck."""
    return health(node.cluster or node.name, node.port) or "no answer"


def start_node(
    settings: NodeSettings, *, with_ml: bool = False, fetch_java: bool = False, on_progress: OnProgress = silent
) -> RunningNode:
    """Start the node, or return it if it runs already; ready for requests when this returns.

    A node that had ML Commons keeps it. One that runs without is restarted when it is asked for now.

    Args:
        settings: Name, version, port, heap, Java.
        with_ml: Add ML Commons.
        fetch_java: Fetch a Java when none is found.
        on_progress: Told what is being done.

    Raises:
        JavaMissing: No Java 21 or newer.
        DownloadFailed: OpenSearch could not be fetched.
        PortInUse: The configured port is taken.
        NodeError: It does not start; the message holds what it said.
    """
    running = launch_node(settings, with_ml=with_ml, fetch_java=fetch_java, on_progress=on_progress)
    await_node(running, on_progress)
    return running


def launch_node(
    settings: NodeSettings,
    *,
    with_ml: bool = False,
    fetch_java: bool = False,
    seat: Seat | None = None,
    on_progress: OnProgress = silent,
) -> RunningNode:
    """Start the node's process, as ``start_node`` does, without waiting for it to answer.

    Args:
        settings: Name, version, port, heap, Java.
        with_ml: Add ML Commons.
        fetch_java: Fetch a Java when none is found.
        seat: Its place in a cluster; ``None``: the one it had at its last start, if any.
        on_progress: Told what is being done.

    Raises:
        JavaMissing: No Java 21 or newer.
        DownloadFailed: OpenSearch could not be fetched.
        PortInUse: The configured port is taken.
        NodeError: It cannot be started.
    """
    if os.name != "posix":
        raise NodeError("the local node needs Linux or macOS", hint="point search.hosts at an OpenSearch that runs")
    check_asked(program_of(settings.engine), with_ml=with_ml, in_cluster=seat is not None)
    home = node_home(settings.name)
    check_root(node_root())
    with _node_lock(home):
        state = read_state(home)
        running = find_node(settings)
        plugins = _plugins(state, with_ml)
        if running is not None and running.plugins == plugins:
            _check_same(running, settings, on_progress)
            return running
        _check_data_version(state, settings)
        if running is not None:
            on_progress(Progress("stopping the node, to start it again with ML Commons"))
            _stop(home, state)
        return _start(settings, plugins, fetch_java, seat or (state.seat if state else None), on_progress)


def await_node(node: RunningNode, on_progress: OnProgress = silent) -> None:
    """Wait until the node answers. Raises ``NodeError``; a node that does not answer in time is stopped."""
    home = node_home(node.name)
    with _node_lock(home):
        _wait(home, node, on_progress)


def stop_node(settings: NodeSettings) -> bool:
    """Stop the node; its data stays. Returns whether it was running. Raises ``NodeError``."""
    home = node_home(settings.name)
    if not home.path.exists():
        return False
    with _node_lock(home):
        return _stop(home, read_state(home))


def reset_node(settings: NodeSettings) -> bool:
    """Stop the node and delete all it holds. Returns whether there was anything. Raises ``NodeError``."""
    home = node_home(settings.name)
    if not home.path.exists():
        return False
    with _node_lock(home):
        _stop(home, read_state(home))
        with disk_errors(home.path):
            shutil.rmtree(home.path)
    return True


def log_file(settings: NodeSettings) -> Path:
    """Return the file with what the node printed since its last start. Raises ``NodeError``: it never ran."""
    console = node_home(settings.name).console
    if not console.exists():
        raise NodeError(f"node {settings.name} has no log: it was never started", hint="lrem-os node up")
    return console


def usable_java(settings: NodeSettings, account: Account | None = None) -> Java:
    """Return the Java that the node would run on. Raises ``JavaMissing``."""
    return find_java(
        settings.java_home,
        environ=os.environ,
        fetched=node_root() / "jdks",
        may_run=lambda path: can_reach(path, account),
    )


def _start(
    settings: NodeSettings,
    plugins: tuple[str, ...],
    may_fetch_java: bool,
    seat: Seat | None,
    on_progress: OnProgress,
) -> RunningNode:
    home, root, account = node_home(settings.name), node_root(), node_account()
    try:
        java = usable_java(settings, account)
    except JavaMissing:
        if not may_fetch_java or settings.java_home is not None:
            raise
        with disk_errors(root):
            fetch_java(root / "jdks", on_progress)
        java = usable_java(settings, account)
    with_ml, program = "ml" in plugins, program_of(settings.engine)
    distribution = ensure_distribution(
        settings.version,
        with_ml=with_ml,
        downloads=root / "downloads",
        distributions=root / "distributions",
        engine=settings.engine,
        on_progress=on_progress,
    )
    prepare_home(home, account)
    _check_space(home)
    with locked(root / "nodes" / ".ports"):  # two nodes that start at the same time must not choose the same port
        previous = read_state(home)
        taken = _ports_of_others(home)
        port = choose_port(
            settings.port, previous.port if previous else None, lambda port: port not in taken and port_is_free(port)
        )
        options: dict[str, Any] = {"port": port, "with_ml": with_ml, "heap_mb": settings.heap_mb, "seat": seat}
        write_config(home, distribution, account, program=program, **options)
        pid = spawn(home, distribution, java.home, account, program)
        state = NodeState(pid, port, settings.version, plugins, settings.heap_mb, str(java.home), seat, settings.engine)
        write_state(home, state)
    on_progress(Progress(f"starting {program.title} {state.version} on port {port} with Java {java.version}"))
    return _running(home, state)


def _wait(home: NodeHome, node: RunningNode, on_progress: OnProgress) -> None:
    """Wait for a node to be ready; one that is interrupted or too slow is stopped, so that nothing half-made runs."""
    cluster = node.cluster or node.name
    if health(cluster, node.port) in ("yellow", "green"):
        return
    on_progress(Progress(f"waiting for node {node.name} at {node.url}"))
    try:
        wait_until_ready(
            home,
            node.port,
            is_alive=lambda: live_process(home, node.pid) is not None,
            timeout_s=START_S,
            cluster=cluster,
        )
    except (NodeError, KeyboardInterrupt):
        if health(cluster, node.port) is None:  # a red cluster stays up: somebody may want to look at it
            _stop(home, read_state(home))
        raise


def _stop(home: NodeHome, state: NodeState | None) -> bool:
    if state is None:
        return False
    process = live_process(home, state.pid)
    if process is not None:
        end_process(process)
    write_state(home, replace(state, pid=None))
    return process is not None


def _running(home: NodeHome, state: NodeState) -> RunningNode:
    if state.pid is None:
        raise NodeError(f"node {home.name} has no process")
    return RunningNode(
        name=home.name,
        url=f"http://{HOST}:{state.port}",
        pid=state.pid,
        port=state.port,
        version=state.version,
        plugins=state.plugins,
        heap_mb=state.heap_mb,
        java_home=state.java_home,
        home=home.path,
        cluster=state.seat.cluster if state.seat else "",
        engine=state.engine,
    )


def _plugins(state: NodeState | None, with_ml: bool) -> tuple[str, ...]:
    return ("ml",) if with_ml or (state is not None and "ml" in state.plugins) else ()


def _check_same(running: RunningNode, settings: NodeSettings, on_progress: OnProgress) -> None:
    """Refuse to answer with a node on another port or of another version than was asked for."""
    hint = f"`lrem-os node down --name {running.name}` first"
    if settings.port is not None and settings.port != running.port:
        raise NodeError(f"node {running.name} already runs on port {running.port}, not {settings.port}", hint=hint)
    if (settings.engine, settings.version) != (running.engine, running.version):
        title = program_of(running.engine).title
        raise NodeError(f"node {running.name} already runs {title} {running.version}", hint=hint)
    if settings.heap_mb != running.heap_mb:
        on_progress(Progress(f"node {running.name} runs with {running.heap_mb} MiB of heap; to change it, {hint}"))


def _check_data_version(state: NodeState | None, settings: NodeSettings) -> None:
    if state is not None and state.engine != settings.engine:
        title = program_of(state.engine).title
        raise NodeError(
            f"node {settings.name} holds data of {title}, not {program_of(settings.engine).title}",
            hint="give the new one a name of its own (--name), or delete the data:"
            f" `lrem-os node reset --name {settings.name}`",
        )
    if state is not None and _numbers(state.version) > _numbers(settings.version):
        raise NodeError(
            f"node {settings.name} holds data of {program_of(state.engine).title} {state.version},"
            f" which {settings.version} cannot read",
            hint=f"set node.version to {state.version}, or delete the data: "
            f"`lrem-os node reset --name {settings.name}`",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _check_space(home: NodeHome) -> None:
    free = shutil.disk_usage(home.path).free
    if free < MIN_FREE_BYTES:
        raise NodeError(
            f"no space: {free // 2**20} MiB free on the disk of {home.path}, {MIN_FREE_BYTES // 2**20} needed",
            hint="free some, or set LREM_OS_HOME to a folder on another disk",
        )


def _ports_of_others(home: NodeHome) -> set[int]:
    """Ports of the other living nodes, which may not listen yet."""
    others = [NodeHome(path) for path in home.path.parent.iterdir() if path.is_dir() and path != home.path]
    states = [(other, read_state(other)) for other in others]
    return {state.port for other, state in states if state is not None and live_process(other, state.pid)}


@contextmanager
def _node_lock(home: NodeHome) -> Iterator[None]:
    """Let one command at a time change a node; the lock lies beside its folder, which ``reset`` deletes."""
    with locked(home.path.parent / f".{home.name}.lock"):
        yield
