"""Starts the process: its configuration as plain values, then the process, then the wait until it answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lrem_os.errors import NodeError, PortInUse
from lrem_os.node.home import Account, NodeHome, disk_errors, write_whole
from lrem_os.node.program import Program, program_of
from lrem_os.node.seat import Seat, seat_settings

HOST = "127.0.0.1"
_OPENSEARCH = program_of("opensearch")
DEFAULT_PORT = 9200
_ML_SETTINGS = {
    "plugins.ml_commons.only_run_on_ml_node": False,
    "plugins.ml_commons.connector_access_control_enabled": False,
    "plugins.ml_commons.connector.private_ip_enabled": True,
    "plugins.ml_commons.trusted_connector_endpoints_regex": [r"^https?://(127\.0\.0\.1|localhost|\[::1\]):[0-9]+/.*$"],
    # a laptop's memory, heap or disk that is nearly full is no reason to answer no query
    "plugins.ml_commons.native_memory_threshold": 100,
    "plugins.ml_commons.jvm_heap_memory_threshold": 100,
    "plugins.ml_commons.disk_free_space_threshold": -1,
}
_NOISE = re.compile(  # stack frames, chatter, and headings that say nothing
    r"at |\.\.\. \d+ more|warning:|WARNING:|For complete error details|#$|(output|error):$"
    r"|\[[\d:T,-]+\]\[(TRACE|DEBUG|INFO |WARN )\]"
)

_SUMMARY = "uncaught exception in thread [main]"  # what follows it is the error once more, in short


def cluster_name(node: str) -> str:
    """Return the name that the node answers with, so that no other OpenSearch is taken for it."""
    return f"lrem-os-{node}"


def opensearch_yml(
    home: NodeHome, *, port: int, with_ml: bool, seat: Seat | None = None, program: Program = _OPENSEARCH
) -> dict[str, Any]:
    """Return the node's settings. ``path.data`` is on the command line, as the process's mark."""
    alone = {"discovery.type": "single-node", "transport.port": 0}  # nobody else talks to it: any free port
    return {
        "cluster.name": cluster_name(seat.cluster if seat else home.name),
        "node.name": home.name,
        "network.host": HOST,
        "http.port": port,
        **(seat_settings(seat, home.name, HOST) if seat else alone),
        "path.logs": str(home.logs),
        "path.repo": [str(home.beside(seat.cluster if seat else home.name).snapshots)],  # one for all members
        "cluster.routing.allocation.disk.threshold_enabled": False,  # a full laptop disk must not lock the indices
        **(_ML_SETTINGS if with_ml else {}),
        **program.settings,
    }


def jvm_options(template: str, home: NodeHome, *, heap_mb: int) -> str:
    """Return the distribution's JVM options, with our heap and with no file in the shared distribution.

    Args:
        template: The distribution's ``jvm.options``.
        home: Where dumps and error files go.
        heap_mb: Java heap, MiB.
    """
    dropped = re.compile(r"^(-Xm[sx]|.*-Xlog|.*(-XX:HeapDumpPath|-XX:ErrorFile)=)")
    kept = [line for line in template.splitlines() if not dropped.match(line)]
    ours = [
        f"-Xms{heap_mb}m",
        f"-Xmx{heap_mb}m",
        f"-XX:HeapDumpPath={home.logs}",
        f"-XX:ErrorFile={home.logs}/hs_err_pid%p.log",
    ]
    return "\n".join([*kept, *ours]) + "\n"


def write_config(
    home: NodeHome,
    distribution: Path,
    account: Account | None,
    *,
    port: int,
    with_ml: bool,
    heap_mb: int,
    seat: Seat | None = None,
    program: Program = _OPENSEARCH,
) -> None:
    """Write the node's configuration folder anew; what the node keeps there itself (its key store) stays."""
    source = distribution / "config"
    texts = {
        program.config_file: yaml.safe_dump(
            opensearch_yml(home, port=port, with_ml=with_ml, seat=seat, program=program), sort_keys=False
        ),
        "jvm.options": jvm_options((source / "jvm.options").read_text(), home, heap_mb=heap_mb),
        "log4j2.properties": (source / "log4j2.properties").read_text(),
    }
    for name, text in texts.items():
        write_whole(home.config / name, text, account)


def choose_port(configured: int | None, previous: int | None, is_free: Callable[[int], bool]) -> int:
    """Return the port to use: the configured one, else the one used before, else 9200 or the next free one.

    Raises:
        PortInUse: The configured port, or every one that could be taken, belongs to another process.
    """
    if configured is not None:
        if is_free(configured):
            return configured
        raise PortInUse(
            f"port {configured} is in use by another process",
            hint="choose another (--port, node.port), or leave node.port unset to get a free one",
        )
    ports = list(range(DEFAULT_PORT, DEFAULT_PORT + 100))
    for port in ports if previous is None else [previous, *ports]:
        if is_free(port):
            return port
    raise PortInUse(f"the ports {DEFAULT_PORT} to {DEFAULT_PORT + 99} are all in use", hint="choose one: --port")


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if probe.connect_ex((HOST, port)) == 0:  # on macOS a port that is served on all addresses can still be bound
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger; that is no server
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def spawn(
    home: NodeHome, distribution: Path, java_home: Path, account: Account | None, program: Program = _OPENSEARCH
) -> int:
    """Start the process on its own, so that it outlives the caller, and return its id.

    A shell stands between so that the process is nobody's child: it leaves no zombie behind in a caller that lives on.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        **program.environment(java_home=str(java_home), config=str(home.config), temporary=str(home.temporary)),
    }
    script = '"$@" </dev/null >&2 & echo $!'
    command = ["/bin/sh", "-c", script, "sh", str(distribution / "bin" / program.engine), home.marker]
    with disk_errors(home.console):
        if home.console.exists():
            os.replace(home.console, home.console.with_suffix(".log.1"))
        with home.console.open("wb") as console:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=console,
                cwd=distribution,  # the agent's path is relative to it
                env=environment,
                start_new_session=True,
                check=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
    return int(done.stdout)


def wait_until_ready(
    home: NodeHome,
    port: int,
    *,
    is_alive: Callable[[], bool],
    timeout_s: float,
    pause_s: float = 0.25,
    cluster: str | None = None,
) -> None:
    """Return once the node answers and its cluster is yellow or green.

    Raises:
        NodeError: It ended, or time is over.
        PortInUse: Another process took the port first.
    """
    deadline = time.monotonic() + timeout_s
    status = None
    while time.monotonic() < deadline:
        if not is_alive():
            raise start_failure(home.console.read_text(errors="replace"), home, port)
        status = health(cluster or home.name, port)
        if status in ("yellow", "green"):
            return
        time.sleep(pause_s)
    if status == "red":
        raise NodeError(
            f"node {home.name} runs at http://{HOST}:{port}, but its cluster stays red: an index cannot be opened",
            hint=f"GET /_cluster/allocation/explain says why; `lrem-os node reset --name {home.name}` starts anew",
        )
    raise NodeError(
        f"node {home.name} did not answer within {timeout_s:.0f} s", hint=f"`lrem-os node logs --name {home.name}`"
    )


def health(cluster: str, port: int) -> str | None:
    """Return ``red``, ``yellow`` or ``green``; ``None`` when this node does not answer (yet)."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)  # no proxy is asked, whatever the environment says
    try:
        connection.request("GET", "/_cluster/health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(answer, Mapping) or answer.get("cluster_name") != cluster_name(cluster):
        return None
    return str(answer.get("status"))


def start_failure(log: str, home: NodeHome, port: int) -> NodeError:
    """Return the error that tells why the process ended, from what it printed."""
    if "BindHttpException" in log or "Address already in use" in log:
        return PortInUse(f"port {port} is in use by another process", hint="choose another: --port, node.port")
    if "No space left on device" in log:
        return NodeError(f"no space left on the disk of {home.data}", hint="free some, or move LREM_OS_HOME")
    if "insufficient memory for the Java Runtime" in log:
        return NodeError("not enough memory for the node's heap", hint="choose a smaller one: --heap-mb, node.heap_mb")
    lines = "\n".join(f"    {line}" for line in telling_lines(log.splitlines()))
    return NodeError(
        f"the node ended while it started; the last it said:\n{lines}",
        hint=f"all of it: `lrem-os node logs --name {home.name}`",
    )


def telling_lines(lines: Iterable[str], limit: int = 8) -> list[str]:
    """Return the last lines that tell something; the very last ones where none does."""
    texts = [line.strip()[:300] for line in lines if line.strip()]
    telling = [text for text in texts if not _NOISE.match(text)]
    if _SUMMARY in telling:
        telling = telling[telling.index(_SUMMARY) + 1 :]
    return list(dict.fromkeys(telling or texts))[-limit:]
