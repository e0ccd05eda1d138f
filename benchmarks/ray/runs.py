"""The runs: one catalog, one node of OpenSearch, three ways in; and what the index holds after each."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ingest.node import drop
from lrem_os.config import Settings
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.run import IngestOptions, ingest
from lrem_os.model.load import load_embedder
from lrem_os.search.bulk import list_ids
from lrem_os.search.client import connect
from tests.fakes.ray_cluster import RayCluster, ray_cluster


@dataclass
class Killer:
    """Kills a node of a Ray cluster, once."""

    cluster: RayCluster
    node: Any
    killed_at: dict[str, float] = field(default_factory=dict)

    def watch(self, tally: Tally, share: float) -> None:
        """Kill it when this share of the rows is decided."""
        if self.killed_at or tally.decided < share * tally.total:
            return
        self.killed_at = {"decided": tally.decided, "seconds": round(tally.seconds, 2)}
        self.cluster.kill_node(self.node)


@dataclass(frozen=True)
class Way:
    """One way in.

    Args:
        name: In the table.
        engine: ``local`` or ``ray``.
        kill: Whether the second node is killed on the way.
    """

    name: str
    engine: str
    kill: bool = False


WAYS = (
    Way("one process", "local"),
    Way("Ray, two nodes", "ray"),
    Way("Ray, two nodes, one killed", "ray", kill=True),
)


def run_all(catalog: Path, base: Settings, share: float) -> Iterator[dict[str, Any]]:
    """Load the catalog each way; yield rates, the account, and a digest of what the index holds."""
    yield _load(WAYS[0], catalog, base, share, None)
    with ray_cluster() as cluster:
        killer = Killer(cluster, cluster.add_node())
        for way in WAYS[1:]:
            yield _load(way, catalog, base, share, killer)


def _load(way: Way, catalog: Path, base: Settings, share: float, killer: Killer | None) -> dict[str, Any]:
    name = f"bench-ray-{way.engine}-{int(way.kill)}"
    index = base.index.model_copy(update={"name": name})
    settings = base.model_copy(update={"index": index, "ingest": base.ingest.model_copy(update={"engine": way.engine})})
    client = connect(settings.search)
    seen: list[tuple[float, int]] = []  # first and last time that documents came out, and how many had by then

    def watch(tally: Tally) -> None:
        if tally.indexed and (not seen or tally.indexed > seen[-1][1]):
            seen[1 if seen else 0 :] = [(tally.seconds, tally.indexed)]
        if way.kill and killer is not None:
            killer.watch(tally, share)

    drop(client, name)
    start = time.monotonic()
    embedder = load_embedder(settings.model) if way.engine == "local" else None
    with tempfile.TemporaryDirectory() as folder:
        options = IngestOptions(dead_letters=Path(folder) / "dead.jsonl")
        report = ingest(client, settings, embedder, [str(catalog)], options, on_progress=watch)
    seconds = time.monotonic() - start
    client.indices.refresh(index=name)
    held = digest(client, name)
    drop(client, name)
    return {
        "way": way.name,
        "seconds": round(seconds, 2),
        "first_indexed_s": round(seen[0][0], 2),
        "docs_per_s": round(report.read / seconds, 1),
        "docs_per_s_after_the_first": round((seen[-1][1] - seen[0][1]) / max(seen[-1][0] - seen[0][0], 1e-9), 1),
        "killed_at": dict(killer.killed_at) if killer is not None else {},
        "counts": counts(report),
        "adds_up": report.adds_up,
        "index": held,
    }


def counts(report: IngestReport) -> dict[str, int]:
    """Return the account of the rows."""
    return {name: getattr(report, name) for name in ("read", "indexed", "unchanged", "superseded", "failed")}


def digest(client: Any, name: str) -> dict[str, Any]:
    """Return the number of documents, and a hash of all their ids and contents, vectors included."""
    hashes = []
    for ids in list_ids(client, name, page=1000):
        for doc in client.mget(index=name, body={"ids": ids})["docs"]:
            body = doc["_source"]
            vector = hashlib.sha256(repr([round(value, 3) for value in body.pop("lrem_vector")]).encode()).hexdigest()
            hashes.append(f"{doc['_id']} {body['lrem_hash']} {vector}")
    text = "\n".join(sorted(hashes))
    return {"documents": len(hashes), "sha256": hashlib.sha256(text.encode()).hexdigest()}
