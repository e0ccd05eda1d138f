"""An ingest through a Ray cluster: a node killed while it runs, errors of the nodes, a cluster of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lrem_os.config import IngestSettings
from lrem_os.config_ray import RaySettings
from lrem_os.errors import AccessDenied, SearchUnavailable
from lrem_os.ingest.report import Tally
from tests.fakes.embedder import GatedEmbedder
from tests.fakes.opensearch import FakeOpenSearch, Fault
from tests.fakes.ray_cluster import RayCluster
from tests.fakes.rows import by_id, counts, many, row
from tests.fakes.shop import Shop, fake_shop

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_PRODUCTS = 2000


@pytest.fixture
def shop(ray_cluster: RayCluster, tmp_path: Path) -> Iterator[tuple[FakeOpenSearch, Shop]]:
    with fake_shop(tmp_path) as (fake, shop):
        shop.engine = "ray"
        shop.ray = RaySettings(cpus=1, embedders=2, block_bytes=10_000)
        shop.ingest_settings = IngestSettings(window=50, bulk_docs=25, max_wait_s=300)
        yield fake, shop


def test_a_node_that_is_killed_takes_nothing_with_it(
    ray_cluster: RayCluster, shop: tuple[FakeOpenSearch, Shop]
) -> None:
    _, stand = shop
    node, gate = ray_cluster.add_node(), stand.folder / "gate"
    killed: list[int] = []

    def kill(tally: Tally) -> None:
        log = stand.folder / f"{stand.runs}.embedded.jsonl"
        nodes = {json.loads(line)["parent"] for line in log.read_bytes().splitlines()} if log.exists() else set()
        if not killed and len(nodes) > 1:  # both have begun
            killed.append(tally.decided)
            ray_cluster.kill_node(node)
            gate.touch()

    stand.on_progress = kill
    stand.embedder = GatedEmbedder(gate)
    rows = [*many(NUM_PRODUCTS), row("p0", "the later one"), row("bad", "x", price="12 EUR")]
    report = stand.ingest(rows)
    assert killed
    assert killed[0] < NUM_PRODUCTS  # there was something left to do
    assert counts(report) == (NUM_PRODUCTS, 0, 1, 1)
    assert stand.rows() == by_id([*rows[1:NUM_PRODUCTS], rows[NUM_PRODUCTS]])
    assert len({call["parent"] for call in embedded(stand)}) > 1
    assert stand.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}


def test_what_a_node_raises_is_raised_here(shop: tuple[FakeOpenSearch, Shop]) -> None:
    fake, stand = shop
    fake.fault = lambda request: Fault(status=403) if request.path.endswith("/_bulk") else None
    with pytest.raises(AccessDenied, match="denies access"):
        stand.ingest(many(10))
    fake.fault = lambda request: Fault(status=503) if request.path.endswith("/_bulk") else None
    stand.ingest_settings = IngestSettings(max_wait_s=1)
    with pytest.raises(SearchUnavailable):
        stand.ingest(many(10))
    assert stand.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
    fake.fault = lambda _request: None
    assert counts(stand.ingest(many(10))) == (10, 0, 0, 0)


def test_a_cluster_of_its_own_is_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(
        "".join(f'{{"id": "p{number}", "title": "t {number}"}}\n' for number in range(50))
    )
    (tmp_path / "t").mkdir()
    with FakeOpenSearch() as fake:
        values = {
            "search.hosts": f"[{fake.url}]",
            "model.name": "fake:8",
            "index.name": "shop",
            "ray.object_store_mb": "80",
        }
        overrides = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "lrem_os", "ingest", "c.jsonl", "--engine", "ray", "--json", *overrides]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        family: set[psutil.Process] = set()
        while process.poll() is None:
            family |= set(psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.2)
        out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    report = json.loads(out)
    assert (report["indexed"], report["adds_up"], report["published"]) == (50, True, True)
    assert len(family) > 2  # its own cluster
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert all(line.startswith(b"ingest: ") for line in err.splitlines()), err.decode()  # no word of Ray's own


def embedded(stand: Shop) -> list[dict[str, object]]:
    log = stand.folder / f"{stand.runs}.embedded.jsonl"
    return [json.loads(line) for line in log.read_bytes().splitlines()]
