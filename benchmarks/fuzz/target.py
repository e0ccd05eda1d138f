"""What is fuzzed: `lrem-os serve` in a process of its own before a real node, with an engine whose model is a fake."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.model.fake import FakeEmbedder
from lrem_os.planning.service import running_service
from tests.corpus import search_bodies

DIMENSION = 8
_GAUGE = re.compile(rb"^(lrem_[a-z_]+(?:\{[^}]*\})?) ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class State:
    """What the service holds at a moment at which nobody asks.

    Args:
        rss_mib: Resident memory.
        tasks: Of its event loop.
        running: Requests under way, the one that asks among them.
        connections: TCP connections of the process.
        files: Open files.
        threads: Threads.
    """

    rss_mib: float
    tasks: int
    running: int
    connections: int
    files: int
    threads: int


@dataclass(frozen=True)
class Target:
    """A service that runs."""

    url: str
    index: str
    node: str
    process: psutil.Process

    def state(self) -> State:
        """Return what it holds now."""
        page = httpx.get(f"{self.url}/metrics", timeout=60).content
        gauges = {name.decode(): float(value) for name, value in _GAUGE.findall(page)}
        return State(
            rss_mib=round(self.process.memory_info().rss / 2**20, 1),
            tasks=int(gauges["lrem_tasks"]),
            running=int(gauges["lrem_requests_running"]),
            connections=len(self.process.net_connections("tcp")),
            files=self.process.num_fds(),
            threads=self.process.num_threads(),
        )


def vector_of(text: str) -> list[float]:
    """Return what the service's model gives a query."""
    vector: list[float] = FakeEmbedder(DIMENSION).embed_queries([text])[0].tolist()
    return vector


@contextmanager
def running(node: str, folder: Path) -> Iterator[Target]:
    """Make an index, start the service; end and delete both afterwards.

    Args:
        node: URL of OpenSearch.
        folder: For the configuration and what the service says.
    """
    index = f"fuzz-{uuid.uuid4().hex[:8]}"
    values: dict[str, Any] = {
        "search": {"hosts": [node]},
        "index": {"name": index},
        "model": {"name": f"fake:{DIMENSION}"},
        "reasoning": {"name": "fake:"},
        # a small cache is full soon, and what grows afterwards is no cache
        "serve": {"ubi": True, "cache_size": 200, "max_depth": 100, "max_body_bytes": 1_000_000},
    }
    _make_index(node, index, Settings.model_validate(values), folder)
    behaviour = ("ubi_queries", "ubi_events")
    made = [name for name in behaviour if httpx.head(f"{node}/{name}", timeout=60).status_code == 404]
    try:
        with running_service(values, folder) as (url, pid):
            yield Target(url, index, node, psutil.Process(pid))
    finally:
        for name in (index, *made):
            httpx.delete(f"{node}/{name}?ignore_unavailable=true", timeout=60)


def _make_index(node: str, index: str, settings: Settings, folder: Path) -> None:
    """Make the index of the search bodies, as one that `lrem-os ingest` made for this model."""
    catalog = folder / "catalog.jsonl"
    catalog.write_text('{"id": "p", "title": "bag"}\n', encoding="utf-8")
    api.ingest_catalog(settings, [str(catalog)])
    with httpx.Client(base_url=node, timeout=60) as client:
        [(made, mappings)] = client.get(f"/{index}/_mapping").raise_for_status().json().items()  # behind an alias
        body = search_bodies.index_body()
        body["mappings"]["_meta"] = mappings["mappings"]["_meta"]
        client.delete(f"/{made}").raise_for_status()
        client.put(f"/{index}", json=body).raise_for_status()
        lines = {"content-type": "application/x-ndjson"}
        load = client.post(f"/{index}/_bulk?refresh=true", content=search_bodies.bulk(vector_of), headers=lines)
        if load.raise_for_status().json()["errors"]:
            raise RuntimeError(load.text[:500])
