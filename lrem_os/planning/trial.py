"""An index of its own, made, measured and deleted: what OpenSearch and the service cost here."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
from opensearchpy import OpenSearch
from pydantic import BaseModel, SecretStr

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.errors import ServiceError
from lrem_os.extras import require
from lrem_os.ingest.run import IngestOptions
from lrem_os.model.fake import FakeEmbedder
from lrem_os.planning.calibration import Calls, Cluster
from lrem_os.planning.service import running_service
from lrem_os.query_plugin.retriever import DirectRetriever
from lrem_os.query_plugin.routing.probe import ask_probe
from lrem_os.search import index as indices
from lrem_os.search.client import translate_errors

Progress = Callable[[str], None]

_SEARCHES = 150
_MOST_ROUNDS = 15  # of so many searches, until a JVM that has just started has compiled what it needs
_SETTLED = 0.95
_PROBES = 20
_PROBE_SIZES = (1, 4, 16)
_KEPT = 21  # search times: evenly drawn quantiles
_REQUESTS = 300
_VECTOR_FILES = ("vec", "vem", "vemf", "vex")


@dataclass(frozen=True, slots=True)
class Trial:
    """A filled index.

    Args:
        settings: That name it, with a model that costs nothing.
        client: Of its cluster.
        items: Products in it.
        seconds: That loading took.
    """

    settings: Settings
    client: OpenSearch
    items: int
    seconds: float


@contextlib.contextmanager
def trial_index(
    settings: Settings, rows: Sequence[dict[str, Any]], number: int, dimension: int, on_progress: Progress
) -> Iterator[Trial]:
    """Fill an index with products, whose vectors are made of their words; delete it at the end.

    Args:
        settings: Of the cluster and the index.
        rows: Repeated under other ids where they are fewer than wanted.
        number: Of products.
        dimension: Of the vectors.
        on_progress: Told what is done.
    """
    name = f"lrem-os-plan-{uuid.uuid4().hex[:8]}"
    trial = settings.model_copy(
        update={
            "index": settings.index.model_copy(update={"name": name, "shards": 1, "replicas": 0}),
            "model": settings.model.model_copy(update={"name": f"fake:{dimension}", "backend": "transformers"}),
        }
    )
    client = api.connect(trial)
    on_progress(f"OpenSearch: {number:,} products")
    try:
        with tempfile.TemporaryDirectory(prefix="lrem-os-plan-") as folder:
            file = Path(folder) / "catalog.jsonl"
            file.write_bytes(b"".join(_lines(rows, number, settings.catalog.id)))
            options = IngestOptions(dead_letters=Path(folder) / "failed.jsonl")
            begun = time.perf_counter()
            report = api.ingest_catalog(trial, [str(file)], options, embedder=FakeEmbedder(dimension))
            seconds = time.perf_counter() - begun
        with translate_errors():
            client.indices.forcemerge(index=report.index, params={"max_num_segments": 1})
            client.indices.refresh(index=report.index)
        yield Trial(trial, client, report.indexed, seconds)
    finally:
        for state in indices.list_versions(client, name):
            with translate_errors():
                client.indices.delete(index=state.name)


def _lines(rows: Sequence[dict[str, Any]], number: int, id_field: str) -> Iterator[bytes]:
    for at in range(number):
        yield orjson.dumps(rows[at % len(rows)] | {id_field: f"{at}"}) + b"\n"


def measure_cluster(trial: Trial, queries: Sequence[str], on_progress: Progress) -> Cluster:
    """Return what OpenSearch does with the index once it is warm, one search at a time."""
    on_progress("OpenSearch: searches")
    retriever = api.open_retriever(trial.settings, "hybrid", with_source=False)
    times, cpu_s = when_settled(lambda: _search(retriever, trial.client, queries))
    vectors, others = _bytes(trial.client, retriever.index)
    quantiles = np.quantile(times, np.linspace(0.01, 0.99, _KEPT))
    return Cluster(
        items=trial.items,
        bulk_per_s=trial.items / trial.seconds,
        cores=_cores(trial.client),
        search_ms=tuple(round(float(value) * 1000, 3) for value in quantiles),
        search_cpu_ms=max(cpu_s / _SEARCHES * 1000, 0.01),
        probe=_probe(retriever, trial, queries),
        vector_bytes=max(vectors / trial.items, 1.0),
        other_bytes=max(others / trial.items, 1.0),
    )


def _search(retriever: DirectRetriever, client: OpenSearch, queries: Sequence[str]) -> tuple[list[float], float]:
    """Return the seconds of each of some searches, and the CPU of all of them."""
    before, times = _cpu_s(client), []
    for number in range(_SEARCHES):
        begun = time.perf_counter()
        retriever.search(queries[number % len(queries)], top_k=10)
        times.append(time.perf_counter() - begun)
    return times, _cpu_s(client) - before


def when_settled(measure: Callable[[], tuple[list[float], float]]) -> tuple[list[float], float]:
    """Return what is measured once two rounds in a row have not become cheaper."""
    least, idle = math.inf, 0
    for _ in range(_MOST_ROUNDS):
        times, cpu_s = measure()
        idle = idle + 1 if cpu_s > _SETTLED * least else 0
        least = min(least, cpu_s)
        if idle == 2:
            break
    return times, cpu_s


def _probe(retriever: DirectRetriever, trial: Trial, queries: Sequence[str]) -> Calls:
    embedder = FakeEmbedder(int(trial.settings.model.name.partition(":")[2]))
    points = []
    for size in _PROBE_SIZES:
        times = []
        for turn in range(2 * _PROBES):
            texts = [queries[(turn * size + number) % len(queries)] for number in range(size)]
            vectors = embedder.embed_queries(texts)
            begun = time.perf_counter()
            ask_probe(retriever.client, retriever.index, retriever.setup, texts, vectors)
            times.append(time.perf_counter() - begun)
        points.append((size, median(times[_PROBES:])))  # the first ones warm it up
    return Calls(points=tuple(points))


def _cpu_s(client: OpenSearch) -> float:
    """Return the CPU time that all nodes have used."""
    with translate_errors():
        nodes = client.nodes.stats(metric="process")["nodes"]
    return sum(float(node["process"]["cpu"]["total_in_millis"]) for node in nodes.values()) / 1000


def _cores(client: OpenSearch) -> int:
    with translate_errors():
        nodes = client.nodes.info(metric="os")["nodes"]
    return sum(int(node["os"]["allocated_processors"]) for node in nodes.values())


def _bytes(client: OpenSearch, index: str) -> tuple[float, float]:
    """Return the disk of vectors and graph, and of all else."""
    with translate_errors():
        stats = client.indices.stats(
            index=index, metric="segments,store", params={"include_segment_file_sizes": "true"}
        )["_all"]["primaries"]
    files = stats["segments"].get("file_sizes", {})
    vectors = sum(float(files[kind]["size_in_bytes"]) for kind in files if kind.lower() in _VECTOR_FILES)
    return vectors, float(stats["store"]["size_in_bytes"]) - vectors


def measure_service(trial: Trial, query: str) -> float:
    """Return the CPU of the service in milliseconds, for a request whose vector is in its cache.

    Raises:
        DependencyMissing: The extra ``node`` is not installed.
        ServiceError: It does not start; the message is its own, such as a missing extra.
    """
    psutil: Any = require("psutil", extra="node")
    own = {key: value for key, value in os.environ.items() if not key.startswith("LREM_OS__")}
    with (
        tempfile.TemporaryDirectory(prefix="lrem-os-plan-") as folder,
        running_service(_written(trial.settings), Path(folder), own) as (url, pid),
    ):
        body = json.dumps({"query": {"neural": {trial.settings.index.vector_field: {"query_text": query, "k": 10}}}})
        path = f"/{trial.settings.index.name}/_search"
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=60)
        process = psutil.Process(pid)
        before = 0.0
        for number in range(_REQUESTS + 20):
            if number == 20:
                before = _process_s(process)
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            told = answer.read()
            if answer.status != 200:
                raise ServiceError(f"the service answered {answer.status}: {told[:200]!r}")
        connection.close()
        return max((_process_s(process) - before) / _REQUESTS * 1000, 0.01)


def _process_s(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _written(settings: Settings) -> dict[str, Any]:
    """Return what the service needs of a configuration, as YAML takes it."""

    def section(model: BaseModel) -> dict[str, Any]:
        values = model.model_dump(mode="json")
        secrets = {name: value for name in values if isinstance(value := getattr(model, name), SecretStr)}
        return values | {name: value.get_secret_value() for name, value in secrets.items()}

    found = {name: section(getattr(settings, name)) for name in ("search", "node", "catalog", "index")}
    return found | {"model": {"name": settings.model.name}}
