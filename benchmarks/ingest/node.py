"""What the benchmark asks of the node beside the load: indices, CPU seconds, and proof that everything arrived."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import psutil
from opensearchpy import OpenSearch

from benchmarks.ingest.data import VECTOR_FIELD, bench_settings
from lrem_os.config import SearchSettings
from lrem_os.search import client as search_client
from lrem_os.search.mappings import build_mapping
from lrem_os.types import Document, Vectors

PREFIX = "bench-"
_NUM_CHECKED = 20
_CALM_S = 0.5
_CALM_PERCENT = 10.0  # of all cores

Where = Callable[[str], tuple[str, ...]]
"""From a catalog field to its path in a method's documents."""


def connect(url: str, *, senders: int = 8) -> OpenSearch:
    """Return a client as ``lrem_os.api.connect`` makes it."""
    return search_client.connect(SearchSettings(), default_url=url, pool_size=max(10, senders + 2))


def create_index(client: OpenSearch, name: str, dimension: int, where: Where) -> None:
    """Create an index with lrem-os' own mapping, its fields moved to where a method puts them, and no refresh."""
    settings = bench_settings(name)
    properties: dict[str, Any] = {}
    for field, mapping in build_mapping(settings.catalog, settings.index, dimension)["properties"].items():
        level = properties
        *parents, last = (field,) if field == VECTOR_FIELD else where(field)
        for parent in parents:
            level = level.setdefault(parent, {"type": "object", "dynamic": False, "properties": {}})["properties"]
        level[last] = mapping
    index = {"knn": True, "number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
    body = {"settings": {"index": index}, "mappings": {"dynamic": False, "properties": properties}}
    client.indices.create(index=name, body=body)


def drop(client: OpenSearch, name: str) -> None:
    """Delete an index of the benchmark, and its versions."""
    if not name.startswith(PREFIX):
        raise ValueError(f"{name!r} is not the benchmark's to delete")
    found = client.indices.get(index=f"{name},{name}-v*", params={"ignore_unavailable": "true"})
    for index in found:
        client.indices.delete(index=index)


def cpu_seconds(client: OpenSearch) -> float:
    """Return the CPU time that the node's process has used."""
    nodes = client.nodes.stats(metric="process")["nodes"]
    return sum(float(node["process"]["cpu"]["total_in_millis"]) for node in nodes.values()) / 1000


def settle(patience_s: float) -> None:
    """Wait until the machine is calm: what the last load left behind is done, and nobody else works; or time is up."""
    give_up = time.monotonic() + patience_s
    while psutil.cpu_percent(interval=_CALM_S) > _CALM_PERCENT and time.monotonic() < give_up:
        continue


def find_problems(
    client: OpenSearch, name: str, documents: Sequence[Document], vectors: Vectors, where: Where
) -> list[str]:
    """Return what is wrong with a loaded index: the count, or any of twenty documents drawn at random.

    A document must come back with every field of the catalog and the very float32 vector that went in.
    """
    count = int(client.count(index=name)["count"])
    problems = [f"{count} documents, not {len(documents)}"] if count != len(documents) else []
    drawn = random.Random(len(documents)).sample(range(len(documents)), min(_NUM_CHECKED, len(documents)))
    answer = client.mget(body={"ids": [documents[idx].doc_id for idx in drawn]}, index=name)
    for idx, found in zip(drawn, answer["docs"], strict=True):
        if reason := _difference(found.get("_source"), documents[idx], vectors[idx], where):
            problems.append(f"document {documents[idx].doc_id}: {reason}")
    return problems


def _difference(stored: Mapping[str, Any] | None, document: Document, vector: Vectors, where: Where) -> str | None:
    if stored is None:
        return "missing"
    for field, value in document.source.items():
        if (got := _at(stored, where(field))) != value:
            return f"{field} is {str(got)[:60]!r}, not {str(value)[:60]!r}"
    if not np.array_equal(np.asarray(stored.get(VECTOR_FIELD, []), dtype=np.float32), vector):
        return "the vector is not the one that was sent"
    return None


def _at(stored: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = stored
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
