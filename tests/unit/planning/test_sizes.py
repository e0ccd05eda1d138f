from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.planning.sizes import GB, STORAGES, Node, configured_storage, footprint, search_cpu_ms


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [  # OpenSearch documentation: "Methods and engines" and "Binary quantization", their examples
        ("faiss", 1.267),
        ("faiss 8x", 0.282),
        ("faiss 16x", 0.211),
        ("faiss on disk (32x)", 0.176),
    ],
)
def test_memory_is_what_the_documentation_computes(name: str, gigabytes: float) -> None:
    memory = STORAGES[name].memory_bytes(256, 16) * 1_000_000 / GB
    assert memory == pytest.approx(gigabytes, abs=0.0006)


def test_the_configuration_chooses_a_storage() -> None:
    assert configured_storage("lucene", on_disk=False).name == "lucene"
    assert configured_storage("faiss", on_disk=False).bits == 32
    assert configured_storage("faiss", on_disk=True).bits == 1


def test_a_node_keeps_half_of_what_the_heap_leaves_for_vectors() -> None:
    node = Node(memory_gb=100)  # the example of knn.memory.circuit_breaker.limit: 32 GB heap, 50 % of 68 GB
    assert node.heap_bytes == 32 * GB
    assert node.vector_bytes == pytest.approx(34 * GB)
    assert Node(memory_gb=8).heap_bytes == 4 * GB


def test_a_footprint() -> None:
    found = footprint(10_000_000, STORAGES["lucene"], dimension=384, m=16, other_bytes=1000, replicas=1, shard_gb=10)
    assert found.primary_bytes == pytest.approx(10_000_000 * (1.1 * (4 * 384 + 8 * 16) + 1000))
    assert found.shards == math.ceil(found.primary_bytes / (10 * GB)) == 3
    assert found.disk_bytes == 2 * found.primary_bytes
    assert found.rebuild_bytes == 4 * found.primary_bytes
    assert found.memory_bytes == pytest.approx(2 * 10_000_000 * 1.1 * (4 * 384 + 8 * 16))
    assert found.nodes_for_memory(Node(memory_gb=64)) == math.ceil(found.memory_bytes / (16 * GB))


@given(
    st.integers(1, 10**9),
    st.sampled_from(sorted(STORAGES)),
    st.integers(2, 4096),
    st.integers(0, 3),
    st.integers(1, 50),
)
def test_more_needs_more(items: int, name: str, dimension: int, replicas: int, shard_gb: int) -> None:
    def taken(items: int, replicas: int) -> tuple[float, float, int]:
        found = footprint(
            items, STORAGES[name], dimension=dimension, m=16, other_bytes=500, replicas=replicas, shard_gb=shard_gb
        )
        assert found.primary_bytes <= found.shards * shard_gb * GB * (1 + 1e-9)
        return found.memory_bytes, found.disk_bytes, found.shards

    once, twice, copied = taken(items, replicas), taken(2 * items, replicas), taken(items, replicas + 1)
    assert all(more >= less for less, more in zip(once, twice, strict=True))
    assert copied[:2] > once[:2]
    assert copied[2] == once[2]


def test_stronger_compression_needs_less_memory() -> None:
    memory = [STORAGES[name].memory_bytes(768, 16) for name in ("faiss", "faiss fp16", "faiss byte", "faiss 8x")]
    assert memory == sorted(memory, reverse=True)


def test_a_search_costs_each_shard_and_grows_with_the_logarithm() -> None:
    assert search_cpu_ms(10, 1000, 1000, 1) == pytest.approx(10)
    assert search_cpu_ms(10, 1000, 4000, 4) == pytest.approx(40)
    assert search_cpu_ms(10, 1000, 1_000_000, 1) == pytest.approx(20)
    assert search_cpu_ms(10, 1000, 10, 1) == pytest.approx(10)  # a smaller one is not cheaper: it was not measured
