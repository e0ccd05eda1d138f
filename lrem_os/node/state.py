"""What is known of a node between two commands: a small file, and the process that it names."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lrem_os.errors import NodeError
from lrem_os.extras import require
from lrem_os.node.home import NodeHome, write_whole
from lrem_os.node.seat import Seat
from lrem_os.types import Engine

if TYPE_CHECKING:
    import psutil

EXEC_S = 1.0  # far longer than an exec takes
STOP_S = 60.0  # OpenSearch flushes its indices before it ends
KILL_S = 15.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node was started last.

    Args:
        pid: Its process; ``None`` after it was stopped.
        port: HTTP port.
        version: OpenSearch version that wrote the data.
        plugins: Short names of what was asked for beyond k-NN and neural-search: ``ml``.
        heap_mb: Java heap, MiB.
        java_home: The Java it runs on.
        seat: Its place among several; ``None``: it is alone.
        engine: What it runs.
    """

    pid: int | None
    port: int
    version: str
    plugins: tuple[str, ...]
    heap_mb: int
    java_home: str
    seat: Seat | None = None
    engine: Engine = "opensearch"


def read_state(home: NodeHome) -> NodeState | None:
    """Return what was written last; ``None`` when the node never ran.

    Raises:
        NodeError: The file cannot be read or understood.
    """
    try:
        values = json.loads(home.state.read_text(encoding="utf-8"))
        return NodeState(**values | {"plugins": tuple(values["plugins"]), "seat": _seat(values.get("seat"))})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise NodeError(
            f"{home.state} cannot be read: {exc}",
            hint=f"if no node runs, delete that file; `lrem-os node reset --name {home.name}` deletes the data too",
        ) from exc


def _seat(values: Mapping[str, Any] | None) -> Seat | None:
    if values is None:
        return None
    return Seat(tuple(values["members"]), tuple(values["transport_ports"]), bool(values["founded_together"]))


def write_state(home: NodeHome, state: NodeState) -> None:
    """Remember how the node was started. Raises ``NodeError``."""
    write_whole(home.state, json.dumps(asdict(state), indent=2) + "\n")


def live_process(home: NodeHome, pid: int | None) -> psutil.Process | None:
    """Return the node's process; ``None`` when it ended, even if another process has its id by now.

    The proof is the command line: it holds this node's data folder, from the moment the process exists. (A start time
    would move with the clock, and the process changes its program twice while it starts.)
    """
    if pid is None:
        return None
    library = require("psutil", extra="node")
    try:
        process: psutil.Process = library.Process(pid)
        ours = home.marker in _command_line(process) and process.status() != library.STATUS_ZOMBIE
    except library.Error:  # gone, a zombie, or of a user whose processes we may not see: not ours
        return None
    return process if ours else None


def _command_line(process: psutil.Process) -> list[str]:
    """Return the command line; while a process changes its program, the system shows an empty one for a moment."""
    library = require("psutil", extra="node")
    deadline = time.monotonic() + EXEC_S
    while not (words := process.cmdline()) and process.status() != library.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return list(words)


def end_process(process: psutil.Process) -> None:
    """Ask the process to end, and kill it when it does not.

    Raises:
        NodeError: It belongs to another user, or does not die.
    """
    library = require("psutil", extra="node")
    try:
        process.terminate()  # psutil does not signal a process whose id was given to another meanwhile
        if not _ends_within(process, STOP_S):
            process.kill()
            if not _ends_within(process, KILL_S):
                raise NodeError(f"process {process.pid} does not end, not even when killed")
    except library.NoSuchProcess:
        return
    except library.AccessDenied as exc:
        raise NodeError(f"process {process.pid} belongs to another user: only that user can stop it") from exc


def _ends_within(process: psutil.Process, timeout_s: float) -> bool:
    """Wait for the end. A zombie has ended: in a container there may be nobody to take its exit status."""
    library = require("psutil", extra="node")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.status() == library.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
