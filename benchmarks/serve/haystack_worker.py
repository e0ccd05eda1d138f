"""Haystack's hybrid search under the same load: `python -m benchmarks.serve.haystack_worker JOB.json`.

Its own components as its documentation joins them, two retrievers and a `DocumentJoiner` with reciprocal rank fusion,
over an index of its own with the same documents and vectors; the query's vector is given. Clients are threads, each
with a pipeline of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Write the index where the job says so, run the load, print its outcome as JSON."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if job.get("fill"):
        _fill(job)
        print("{}")
        return
    found: list[list[float]] = [[] for _ in range(job["clients"])]
    pipelines = [_pipeline(job) for _ in found]
    vectors = np.load(job["vectors"]).tolist()
    for pipeline in pipelines:
        _ask(pipeline, job["texts"][0], vectors[0])
    started = time.perf_counter()
    until = started + job["seconds"]

    def client(number: int) -> None:
        at = number
        while time.perf_counter() < until:
            begun = time.perf_counter()
            hits = _ask(pipelines[number], job["texts"][at % len(vectors)], vectors[at % len(vectors)])
            found[number].append((time.perf_counter() - begun) * 1000)
            if not hits:
                raise SystemExit("Haystack found nothing")
            at += job["clients"]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = [one for each in found for one in each]
    print(json.dumps({"latencies_ms": took, "seconds": time.perf_counter() - started, "answers": {"200": len(took)}}))


def _store(job: dict[str, Any]) -> Any:
    from haystack_integrations.document_stores.opensearch import OpenSearchDocumentStore

    return OpenSearchDocumentStore(
        hosts=job["url"],
        index=job["index"],
        embedding_dim=job["dimension"],
        method={"name": "hnsw", "engine": "lucene", "space_type": "innerproduct", "parameters": {"m": 16}},
        timeout=120,
    )


def _fill(job: dict[str, Any]) -> None:
    from haystack import Document
    from haystack.document_stores.types import DuplicatePolicy

    vectors = np.load(job["item_vectors"]).tolist()
    rows = [json.loads(line) for line in Path(job["catalog"]).read_text(encoding="utf-8").splitlines()]
    documents = [
        Document(
            id=str(row["id"]), content=row["title"], meta={"description": row.get("description")}, embedding=vector
        )
        for row, vector in zip(rows, vectors, strict=True)
    ]
    _store(job).write_documents(documents, policy=DuplicatePolicy.OVERWRITE)


def _pipeline(job: dict[str, Any]) -> Any:
    from haystack import Pipeline
    from haystack.components.joiners import DocumentJoiner
    from haystack_integrations.components.retrievers.opensearch import (
        OpenSearchBM25Retriever,
        OpenSearchEmbeddingRetriever,
    )

    store = _store(job)
    pipeline = Pipeline()
    pipeline.add_component("bm25", OpenSearchBM25Retriever(document_store=store, top_k=job["candidates"]))
    pipeline.add_component("embedding", OpenSearchEmbeddingRetriever(document_store=store, top_k=job["candidates"]))
    pipeline.add_component("join", DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=job["top_k"]))
    pipeline.connect("bm25.documents", "join.documents")
    pipeline.connect("embedding.documents", "join.documents")
    return pipeline


def _ask(pipeline: Any, text: str, vector: list[float]) -> list[Any]:
    found = pipeline.run({"bm25": {"query": text}, "embedding": {"query_embedding": vector}})
    documents: list[Any] = found["join"]["documents"]
    return documents


if __name__ == "__main__":
    main()
