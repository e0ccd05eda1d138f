"""A Ray cluster on this machine for tests: a head, and nodes that come and go."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from lrem_os.ingest.on_ray.cluster import ENVIRONMENT

_STORE = 80 * 2**20
_ATTEMPTS = 4


class RayCluster:
    """What ``ray.cluster_utils`` starts; the tests' process is connected to it."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> Any:
        """Start a second node with one CPU; return it when the head knows it."""
        node = with_patience(lambda: self._cluster.add_node(num_cpus=1, object_store_memory=_STORE))
        self._cluster.wait_for_nodes()
        return node

    def kill_node(self, node: Any) -> None:
        """Kill everything that runs on a node, at once."""
        self._cluster.remove_node(node, allow_graceful=False)


def with_patience(start: Callable[[], Any]) -> Any:
    """Start something of Ray, which gives up after 30 seconds: on a busy machine that is soon."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return start()
        except Exception as exc:
            if "timed out" not in str(exc):
                raise
    return start()


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a head with one CPU and connect to it; afterwards nothing of it is left."""
    folder = tempfile.mkdtemp(prefix="lrem-")
    os.environ.update(ENVIRONMENT)
    (Path(tempfile.gettempdir()) / "ray").mkdir(
        exist_ok=True
    )  # cluster_utils notes its address there, whatever temp_dir
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": _STORE, "include_dashboard": False, "temp_dir": folder}
    cluster = with_patience(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
        yield RayCluster(cluster)
    finally:
        nodes = [one for one in psutil.Process().children() if one.name() == "raylet"]
        ours = [worker for node in nodes for worker in node.children(recursive=True)]
        ray.shutdown()
        cluster.shutdown()
        for process in psutil.wait_procs(ours, timeout=5)[1]:
            process.kill()  # a worker may outlive the node that is pulled from under it
        shutil.rmtree(folder, ignore_errors=True)
