"""One measurement in a process of its own: `python -m benchmarks.ingest.worker '{"kind": …}'` prints one JSON object.

A fresh process per run keeps heaps, threads and connections of one library out of another's numbers.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.ingest.data import bench_settings, load_documents, load_vectors
from benchmarks.ingest.methods import METHODS, Job, bulk_bodies, send_bodies
from benchmarks.ingest.node import connect, cpu_seconds, create_index, drop, find_problems, settle
from lrem_os.types import Embedder

_WARM_UP_TEXTS = 64


@dataclass(slots=True)
class Spent:
    """What a measured stretch took; filled in when it ends."""

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    node_cpu_s: float = 0.0
    others_cores: float = 0.0


def measure(work: Callable[[], object], node_cpu: Callable[[], float], job: Mapping[str, Any]) -> Spent:
    """Run ``work`` once; return wall time, CPU time of this process and of the node, and the cores others kept busy."""
    gc.collect()
    gc.freeze()  # what was prepared is not the measured code's to collect
    settle(job.get("patience_s", 0.0))
    node_before, busy_before = node_cpu(), _busy_s()
    cpu_before, start = time.process_time(), time.perf_counter()
    work()
    seconds, client_cpu_s = time.perf_counter() - start, time.process_time() - cpu_before
    node_cpu_s, busy_s = node_cpu() - node_before, _busy_s() - busy_before
    return Spent(seconds, client_cpu_s, node_cpu_s, max(0.0, busy_s - client_cpu_s - node_cpu_s) / seconds)


def run_load(job: Mapping[str, Any]) -> dict[str, Any]:
    """Load the sample one way into a new index, until all of it is searchable; check what arrived; delete it."""
    method = METHODS[job["method"]]
    try:
        found = version(method.package) if method.package else ""
    except PackageNotFoundError:
        return {"missing": method.package}
    folder = Path(job["folder"])
    documents, vectors = load_documents(folder), load_vectors(folder)
    client = connect(job["url"])
    drop(client, job["index"])
    load = method.prepare(Job(job["url"], job["index"], folder, documents, vectors, dict(job.get("options", {}))))

    def work() -> None:
        if not method.creates_index:
            create_index(client, job["index"], vectors.shape[1], method.where)
        load()
        client.indices.refresh(index=job["index"], params={"request_timeout": 300})

    try:
        spent = measure(work, lambda: cpu_seconds(client), job)
        problems = find_problems(client, job["index"], documents, vectors, method.where)
    finally:
        drop(client, job["index"])
    return _answer(spent, len(documents)) | {"problems": problems, "version": found}


def run_sweep(job: Mapping[str, Any]) -> dict[str, Any]:
    """Load part of the sample with each of several settings of the limit; the first one twice, to warm up."""
    folder = Path(job["folder"])
    documents, vectors = load_documents(folder, job["num"]), load_vectors(folder)
    client = connect(job["url"])
    rates = []
    for senders, bulk_docs in [job["grid"][0], *job["grid"]]:
        bodies = bulk_bodies(documents, vectors, bulk_docs)
        drop(client, job["index"])
        settle(job["patience_s"])
        start = time.perf_counter()
        create_index(client, job["index"], vectors.shape[1], METHODS["limit"].where)
        send_bodies(job["url"], job["index"], bodies, senders)
        client.indices.refresh(index=job["index"], params={"request_timeout": 300})
        rates.append([senders, bulk_docs, len(documents) / (time.perf_counter() - start)])
    drop(client, job["index"])
    return {"rates": rates[1:]}


def run_embedder(job: Mapping[str, Any]) -> dict[str, Any]:
    """Embed the sample's texts, window by window as ingest does, with nothing else running."""
    documents = load_documents(Path(job["folder"]))
    settings = bench_settings(job["index"])
    embedder = _load_embedder(job["model"])
    texts = [document.text for document in documents]
    embedder.embed_items(texts[:_WARM_UP_TEXTS])

    def work() -> None:
        for window in _windows(texts, settings.ingest.window):
            embedder.embed_items(window)

    return _answer(measure(work, lambda: 0.0, job), len(texts))


def run_embedding_ingest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Ingest the sample with the model, from the file to a searchable index."""
    from lrem_os.ingest.run import IngestOptions, ingest

    folder = Path(job["folder"])
    settings = bench_settings(job["index"])
    embedder = _load_embedder(job["model"])
    texts = [document.text for document in load_documents(folder)]
    embedder.embed_items(texts[:_WARM_UP_TEXTS])
    client = connect(job["url"], senders=settings.ingest.senders)
    drop(client, job["index"])
    options = IngestOptions(dead_letters=folder / f"{os.getpid()}.dead.jsonl")
    reports = []
    try:
        spent = measure(
            lambda: reports.append(ingest(client, settings, embedder, [str(folder / "catalog.jsonl")], options)),
            lambda: cpu_seconds(client),
            job,
        )
        count = int(client.count(index=job["index"])["count"])
    finally:
        drop(client, job["index"])
    report = reports[0]
    problems = [] if count == len(texts) and report.adds_up else [f"{count} of {len(texts)} documents are there"]
    waits = {"embed_s": report.embed_s, "embed_wait_s": report.embed_wait_s, "send_wait_s": report.send_wait_s}
    return _answer(spent, len(texts)) | waits | {"problems": problems}


def run_scale(job: Mapping[str, Any]) -> dict[str, Any]:
    """Ingest a synthetic catalog with the fake embedder; the parent watches this process' memory."""
    from benchmarks.ingest.sinks import ingest_to_null
    from lrem_os.ingest.run import IngestOptions, ingest
    from lrem_os.model.fake import FakeEmbedder

    settings, embedder, catalog = bench_settings(job["index"]), FakeEmbedder(job["dimension"]), Path(job["catalog"])
    dead_letters = catalog.with_suffix(".dead.jsonl")
    if job["sink"] == "null":
        spent = measure(lambda: ingest_to_null(settings, embedder, catalog, dead_letters), lambda: 0.0, job)
        return _answer(spent, job["num"]) | {"problems": []}
    client = connect(job["url"], senders=settings.ingest.senders)
    drop(client, job["index"])
    options = IngestOptions(dead_letters=dead_letters)
    try:
        spent = measure(
            lambda: _check(ingest(client, settings, embedder, [str(catalog)], options).indexed, job["num"]),
            lambda: cpu_seconds(client),
            job,
        )
        count = int(client.count(index=job["index"])["count"])
    finally:
        drop(client, job["index"])
    problems = [] if count == job["num"] else [f"{count} of {job['num']} documents are there"]
    return _answer(spent, job["num"]) | {"problems": problems}


def _busy_s() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _check(indexed: int, wanted: int) -> None:
    if indexed != wanted:
        raise SystemExit(f"{indexed} of {wanted} documents were indexed")


def _load_embedder(name: str | None) -> Embedder:
    from lrem_os.config import ModelSettings
    from lrem_os.model.load import load_embedder

    return load_embedder(ModelSettings(name=name) if name else ModelSettings())


def _windows(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _answer(spent: Spent, num: int) -> dict[str, Any]:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "num": num,
        "seconds": spent.seconds,
        "docs_per_s": num / spent.seconds,
        "client_cpu_s": spent.client_cpu_s,
        "node_cpu_s": spent.node_cpu_s,
        "others_cores": spent.others_cores,
        "peak_rss_mib": peak_kib / 1024,
    }


KINDS = {
    "load": run_load,
    "sweep": run_sweep,
    "embedder": run_embedder,
    "embedding_ingest": run_embedding_ingest,
    "scale": run_scale,
}


def main() -> None:
    """Run the job given as JSON in the first argument; print the answer as the last line."""
    warnings.simplefilter("ignore")  # of the libraries compared with, about themselves
    job = orjson.loads(sys.argv[1])
    answer = KINDS[job["kind"]](job)
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")


if __name__ == "__main__":
    main()
