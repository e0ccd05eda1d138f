"""Bytes: vectors in memory and on disk, shards, nodes. Pure formulas; docs/plan.md has them with their sources."""

from __future__ import annotations

import math
from dataclasses import dataclass

GB = 1e9

_OVERHEAD = 1.1  # OpenSearch documentation, "Methods and engines", HNSW memory estimation
_LINK_BYTES = 8  # per link and vector, the same formula
_BREAKER = 0.5  # knn.memory.circuit_breaker.limit: of what the heap leaves
_MOST_HEAP = 32 * GB  # compressed object pointers end there
_FULL = 0.8  # of a disk; cluster.routing.allocation.disk.watermark.low is 0.85


@dataclass(frozen=True, slots=True)
class Storage:
    """How an engine keeps vectors for its searches.

    Args:
        name: As it is called here.
        bits: Of one dimension in memory.
        copies: Of the vector on disk, beside what is searched: the full one that is rescored with and given back.
        setting: What chooses it.
    """

    name: str
    bits: int
    copies: int
    setting: str

    def memory_bytes(self, dimension: int, m: int) -> float:
        """Return the memory for one vector and its links, ``1.1 × (bits/8 × D + 8 m)``.

        >>> round(STORAGES["faiss"].memory_bytes(256, 16) * 1_000_000 / GB, 2)
        1.27
        """
        return _OVERHEAD * (self.bits / 8 * dimension + _LINK_BYTES * m)

    def disk_bytes(self, dimension: int, m: int) -> float:
        """Return the disk for one vector and its links: what is searched, and the full vectors beside it."""
        return self.memory_bytes(dimension, m) + self.copies * 4 * dimension


STORAGES = {
    storage.name: storage
    for storage in (
        Storage("lucene", 32, 0, "index.engine: lucene"),
        Storage("lucene 4x", 8, 1, "lucene, encoder sq: not made by lrem-os"),
        Storage("faiss", 32, 1, "index.engine: faiss"),
        Storage("faiss fp16", 16, 1, "faiss, encoder sq: not made by lrem-os"),
        Storage("faiss byte", 8, 0, "faiss, data_type byte: not made by lrem-os"),
        Storage("faiss 8x", 4, 1, "faiss, compression_level 8x: not made by lrem-os"),
        Storage("faiss 16x", 2, 1, "faiss, compression_level 16x: not made by lrem-os"),
        Storage("faiss on disk (32x)", 1, 1, "index.engine: faiss, index.on_disk: true"),
    )
}


def configured_storage(engine: str, *, on_disk: bool) -> Storage:
    """Return the storage that the configuration chooses."""
    return STORAGES["faiss on disk (32x)" if on_disk else engine]


@dataclass(frozen=True, slots=True)
class Node:
    """A data node.

    Args:
        memory_gb: Of the machine.
        cores: Likewise.
        disk_gb: Likewise.
    """

    memory_gb: float = 64.0
    cores: int = 16
    disk_gb: float = 1000.0

    @property
    def heap_bytes(self) -> float:
        """Half of the memory, at most 32 GB."""
        return min(self.memory_gb * GB / 2, _MOST_HEAP)

    @property
    def vector_bytes(self) -> float:
        """Memory for vectors: half of what the heap leaves; the other half caches the text index."""
        return (self.memory_gb * GB - self.heap_bytes) * _BREAKER

    @property
    def usable_disk_bytes(self) -> float:
        """Disk that may be filled."""
        return self.disk_gb * GB * _FULL


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an index takes.

    Args:
        items: Products.
        copies: Primaries and replicas together: 1 and the replicas.
        memory_bytes: Of all copies' vectors.
        primary_bytes: Disk of the primaries.
        shards: Primary shards.
    """

    items: int
    copies: int
    memory_bytes: float
    primary_bytes: float
    shards: int

    @property
    def disk_bytes(self) -> float:
        """Disk of all copies."""
        return self.primary_bytes * self.copies

    @property
    def rebuild_bytes(self) -> float:
        """Disk while `ingest --recreate` builds a version beside the live one, replicas of both at the end."""
        return 2 * self.disk_bytes

    def nodes_for_memory(self, node: Node) -> int:
        """Return the nodes whose memory holds the vectors."""
        return math.ceil(self.memory_bytes / node.vector_bytes)

    def nodes_for_disk(self, node: Node) -> int:
        """Return the nodes whose disks hold the index while it is rebuilt."""
        return math.ceil(self.rebuild_bytes / node.usable_disk_bytes)


def footprint(
    items: int, storage: Storage, *, dimension: int, m: int, other_bytes: float, replicas: int, shard_gb: float
) -> Footprint:
    """Return what an index takes.

    Args:
        items: Products.
        storage: Of the vectors.
        dimension: Of a vector.
        m: Links, ``index.m``.
        other_bytes: Disk for all of a product but its vector.
        replicas: Copies beside the primaries.
        shard_gb: A primary shard is no larger.
    """
    primary = items * (storage.disk_bytes(dimension, m) + other_bytes)
    memory = items * storage.memory_bytes(dimension, m) * (1 + replicas)
    return Footprint(items, 1 + replicas, memory, primary, max(1, math.ceil(primary / (shard_gb * GB))))


def search_cpu_ms(measured_ms: float, measured_items: int, items: int, shards: int) -> float:
    """Return the CPU of all nodes for one search, from what it was in one smaller shard.

    Every shard is searched, and the work in one grows with the logarithm of its size (HNSW: Malkov and Yashunin,
    2018, § 4.2). What the text leg adds for common words in a large shard is not in it.

    >>> search_cpu_ms(10.0, 1000, 1_000_000, 1)
    20.0
    """
    in_shard = max(items / shards, 2)
    return shards * measured_ms * max(1.0, math.log(in_shard) / math.log(max(measured_items, 2)))
