"""What the tests share: a clean environment, and one real OpenSearch for the session.

``LREM_OS_TEST_URL`` names a node that runs already (and keeps running); without it one is started and stopped here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.fakes.ray_cluster import RayCluster

# A run says the same twice: LREM_OS_EXPLORE=N looks for new examples instead, N for each property. No deadline: a busy
# machine stalls for longer than hypothesis' 200 ms.
hypothesis.settings.register_profile("lrem-os", deadline=None, derandomize=True)
hypothesis.settings.load_profile("lrem-os")
if explore := os.environ.get("LREM_OS_EXPLORE"):
    hypothesis.settings.register_profile("lrem-os-explore", deadline=None, max_examples=int(explore))
    hypothesis.settings.load_profile("lrem-os-explore")


def pytest_configure() -> None:
    """Let an interrupt arrive: a shell's background job ignores it, and so would every program a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the configuration of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("LREM_OS__") or name == "LREM_OS_DEBUG":
            monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost,::1")


@pytest.fixture(scope="session")
def node_cache() -> Iterator[Path]:
    """A value for ``LREM_OS_HOME`` with nodes of its own, but the user's downloads: they are fetched once."""
    from lrem_os.node.home import make_folder, node_root

    folder = Path(tempfile.mkdtemp(prefix="lrem-os-test-")).resolve()
    folder.chmod(0o755)  # root's node runs as another user; pytest's own folders are closed to it
    for name in ("downloads", "distributions", "jdks"):
        make_folder(node_root() / name)
        (folder / name).symlink_to(node_root() / name)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def opensearch_url(node_cache: Path) -> Iterator[str]:
    """Where a real OpenSearch answers."""
    yield from running_node("LREM_OS_TEST_URL", node_cache, name="test")


@pytest.fixture(scope="session")
def elasticsearch_url(node_cache: Path) -> Iterator[str]:
    """Where a real Elasticsearch answers; ``LREM_OS_TEST_ELASTICSEARCH_URL`` names one that runs already."""
    yield from running_node(
        "LREM_OS_TEST_ELASTICSEARCH_URL", node_cache, name="elastic", engine="elasticsearch", heap_mb=512
    )


def running_node(variable: str, node_cache: Path, *, name: str, **settings: Any) -> Iterator[str]:
    """Yield the address that the environment names, or that of a node started here and deleted afterwards."""
    if url := os.environ.get(variable):
        yield url.rstrip("/")
        return
    from lrem_os.config import NodeSettings
    from lrem_os.node.local import reset_node, start_node
    from tests.fakes.ports import quiet_port

    node_settings = NodeSettings(name=f"{name}-{os.getpid()}", port=quiet_port(), **settings)
    # Only while the node is started and stopped: LREM_OS_HOME moves the models too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(node_cache))
        node = start_node(node_settings, fetch_java=True)
    yield node.url
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(node_cache))
        reset_node(node_settings)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of this machine, for the session: what is ingested through Ray in this process goes there."""
    from tests.fakes.ray_cluster import ray_cluster

    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def index_name(opensearch_url: str) -> Iterator[str]:
    """A name that no other test uses; every index whose name starts with it is deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with urllib.request.urlopen(f"{opensearch_url}/_cat/indices/{name}*?format=json&expand_wildcards=all") as answer:
        indices = [row["index"] for row in json.load(answer)]
    for index in indices:
        urllib.request.urlopen(urllib.request.Request(f"{opensearch_url}/{index}", method="DELETE")).close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
