"""The Ray cluster of a run: joined, or started here and gone afterwards; and how many actors fit in."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from lrem_os.config_ray import RaySettings
from lrem_os.errors import RayError
from lrem_os.extras import require

_MOST_THREADS = 8
_HEADROOM = 0.5
"""Part of its CPUs that an embedder reserves: the rest is where the actors of a lost node find room."""
_LONGEST_FOLDER = 35  # with a session's name and a socket's the path stays below 107, the kernel's limit
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # it would be 15: embedding is what the machine is there for
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread of Ray Data that outlives its cluster would start another
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # C++ lines about lost workers: what matters is told as an error of ours
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns otherwise; an embedder without a GPU hides them itself
}
"""What Ray reads when it starts; what the user has set stays."""
_KNOCK_S = 10.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The actors that embed.

    Args:
        size: How many.
        threads: Of each.
        gpus: Of each; a part of one is shared.
        places: Nodes to start them on, in turn: no node gets two while another has none.
    """

    size: int
    threads: int
    gpus: float
    places: tuple[str, ...] = ()

    @property
    def resources(self) -> dict[str, float]:
        """What Ray is to reserve for one."""
        return {"num_cpus": self.threads * _HEADROOM, "num_gpus": self.gpus}


@contextmanager
def joined(settings: RaySettings) -> Iterator[None]:
    """Be connected to a Ray cluster: one that the caller has joined already, a running one, or a new one.

    Raises:
        DependencyMissing: The extra ``ray`` is not installed.
        RayError: The cluster cannot be reached or started.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray: Any = require("ray", extra="ray")
    require("ray.data", extra="ray")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        options: dict[str, Any] = {"address": settings.address}
        if settings.address is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lrem-", dir=_short_folder()))
            options = {
                "address": "local",
                "object_store_memory": settings.object_store_mb * 2**20,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        elif settings.address != "auto":
            _knock(settings.address)
        stack.callback(ray.shutdown)
        try:
            with _without_stderr():
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except Exception as exc:  # a node that does not start in time is a bare Exception
            raise RayError(
                f"no Ray cluster on {settings.address or 'this machine'}: {_first_line(exc)}",
                hint="is the machine busy? Try again, or start one with `ray start --head` and set ray.address",
            ) from exc
        yield


def _knock(address: str) -> None:
    """Raise ``RayError`` where nobody listens: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, ValueError, OverflowError) as exc:
        raise RayError(
            f"no Ray cluster at {address}: {exc}", hint="ray.address is HOST:PORT of `ray start --head` (6379 is usual)"
        ) from exc


def alive_nodes() -> dict[str, Mapping[str, float]]:
    """Return the resources of every node that is alive, by its id."""
    ray: Any = require("ray", extra="ray")
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def this_machine() -> dict[str, float]:
    """Return the resource that keeps a task on the machine of this process."""
    ray: Any = require("ray", extra="ray")
    return {f"node:{ray.util.get_node_ip_address()}": 0.001}


def plan_pool(settings: RaySettings, nodes: Mapping[str, Mapping[str, float]], *, on_gpu: bool) -> Pool:
    """Return how many embedders of which size a cluster gets.

    Args:
        settings: What the user says; the rest follows from the nodes.
        nodes: Their resources, by id: ``CPU`` and, where there are any, ``GPU``.
        on_gpu: Whether the model may run on a GPU.

    Raises:
        RayError: No node has room for one.
    """
    cpus = [node["CPU"] for node in nodes.values() if node.get("CPU", 0) >= 1]
    most_gpus = max((node.get("GPU", 0) for node in nodes.values()), default=0)
    gpus = float(on_gpu and most_gpus >= 1) if settings.gpus is None else settings.gpus
    threads = settings.cpus or min([_MOST_THREADS, *map(int, cpus)])
    if not cpus or max(cpus) < threads or most_gpus < gpus:
        raise RayError(
            f"no node of the Ray cluster has room for an embedder of {threads} CPUs and {gpus:g} GPUs:"
            f" there are {', '.join(_describe(node) for node in nodes.values()) or 'no nodes'}",
            hint="lower ray.cpus or ray.gpus, or add a node",
        )
    what, each = ("GPU", gpus) if gpus else ("CPU", threads)
    room = {name: int(node.get(what, 0) // each) for name, node in nodes.items()}
    places = tuple(name for turn in range(max(room.values())) for name, number in room.items() if number > turn)
    return Pool(settings.embedders or len(places), threads, gpus, places)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Hide what Ray's C++ says of its own start; what goes wrong there is raised as well."""
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _describe(node: Mapping[str, float]) -> str:
    return f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs"


def _short_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_FOLDER - len("/lrem-xxxxxxxx") else "/tmp"  # noqa: S108


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
