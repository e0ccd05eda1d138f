"""The ways to load that are compared. Each prepares its own objects, untimed, and returns the load itself.

Every peer gets what its documentation shows (Python lists of floats, its own document class) and is called once with
everything; nothing is tuned against it, refreshing after every batch is switched off where it would be on.
"""

from __future__ import annotations

import http.client
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.ingest.data import VECTOR_FIELD, GivenVectors, bench_settings
from benchmarks.ingest.node import Where, connect
from lrem_os.config import IngestSettings
from lrem_os.search.bulk import bulk_item
from lrem_os.types import Document, Vectors

Load = Callable[[], None]


class LoadFailed(Exception):
    """A load did not write everything."""


@dataclass(frozen=True, slots=True)
class Job:
    """One load.

    Args:
        url: The node.
        index: Name to write to.
        folder: The sample: ``catalog.jsonl``.
        documents: Its documents.
        vectors: Theirs, shape (N, D).
        options: Of the method.
    """

    url: str
    index: str
    folder: Path
    documents: Sequence[Document]
    vectors: Vectors
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to load.

    Args:
        title: In the table.
        package: The distribution it needs beside lrem-os' own; empty when none.
        prepare: Returns the load, ready to run.
        where: Where it puts a catalog field.
        creates_index: Whether the load makes the index itself.
    """

    title: str
    package: str
    prepare: Callable[[Job], Load]
    where: Where
    creates_index: bool = False


def _as_is(field: str) -> tuple[str, ...]:
    return (field,)


def _under_metadata(field: str) -> tuple[str, ...]:
    return (field,) if field == "title" else ("metadata", field)


def _title_as_content(field: str) -> tuple[str, ...]:
    return ("content",) if field == "title" else (field,)


def bulk_bodies(documents: Sequence[Document], vectors: Vectors, bulk_docs: int) -> list[bytes]:
    """Return ready bulk bodies of ``bulk_docs`` documents each."""
    lines = [bulk_item(document, vectors[row], VECTOR_FIELD).payload for row, document in enumerate(documents)]
    return [b"".join(lines[start : start + bulk_docs]) for start in range(0, len(lines), bulk_docs)]


def send_bodies(url: str, index: str, bodies: Sequence[bytes], senders: int) -> None:
    """Send ready bodies over ``senders`` connections with the standard library's HTTP client, nothing else done."""
    todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        todo.put(body)
    failures: list[str] = []
    headers = {"content-type": "application/x-ndjson"}

    def send() -> None:
        address = urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=120)
        while not failures:
            try:
                body = todo.get_nowait()
            except queue.Empty:
                return
            try:
                connection.request("POST", f"/{index}/_bulk?filter_path=errors", body=body, headers=headers)
                response = connection.getresponse()
                answer = response.read()
            except OSError as exc:
                failures.append(str(exc))
                return
            if response.status != 200 or answer != b'{"errors":false}':
                failures.append(f"{response.status} {answer[:300]!r}")

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise LoadFailed(failures[0])


def _limit(job: Job) -> Load:
    bodies = bulk_bodies(job.documents, job.vectors, job.options["bulk_docs"])
    return lambda: send_bodies(job.url, job.index, bodies, job.options["senders"])


def _actions(job: Job) -> list[dict[str, Any]]:
    return [
        {"_id": document.doc_id, "_source": {**document.source, VECTOR_FIELD: vector}}
        for document, vector in zip(job.documents, job.vectors.tolist(), strict=True)
    ]


def _streaming_bulk(job: Job) -> Load:
    from opensearchpy import OpenSearch, helpers

    actions, client = _actions(job), OpenSearch([job.url], timeout=120)
    return lambda: _consume(helpers.streaming_bulk(client, actions, index=job.index))


def _parallel_bulk(job: Job) -> Load:
    from opensearchpy import OpenSearch, helpers

    actions, client = _actions(job), OpenSearch([job.url], timeout=120)
    return lambda: _consume(helpers.parallel_bulk(client, actions, thread_count=4, index=job.index))


def _consume(results: Iterator[tuple[bool, Any]]) -> None:
    for done, item in results:
        if not done:
            raise LoadFailed(str(item)[:300])


def _haystack(job: Job) -> Load:
    from haystack import Document as HaystackDocument
    from haystack_integrations.document_stores.opensearch import OpenSearchDocumentStore

    documents = [
        HaystackDocument(
            id=document.doc_id,
            content=document.source["title"],
            meta={name: value for name, value in document.source.items() if name not in ("id", "title")},
            embedding=vector,
        )
        for document, vector in zip(job.documents, job.vectors.tolist(), strict=True)
    ]
    store = OpenSearchDocumentStore(hosts=job.url, index=job.index, embedding_dim=job.vectors.shape[1], timeout=120)

    def load() -> None:
        store.write_documents(documents, refresh=False)  # "wait_for" would wait for a refresh that never comes

    return load


def _llama_index(job: Job) -> Load:
    from llama_index.core.schema import TextNode
    from llama_index.vector_stores.opensearch import OpensearchVectorClient, OpensearchVectorStore

    nodes = [
        TextNode(
            id_=document.doc_id,
            text=document.source["title"],
            metadata={name: value for name, value in document.source.items() if name != "title"},
            embedding=vector,
        )
        for document, vector in zip(job.documents, job.vectors.tolist(), strict=True)
    ]
    client = OpensearchVectorClient(
        job.url,
        job.index,
        job.vectors.shape[1],
        engine="lucene",
        embedding_field=VECTOR_FIELD,
        text_field="title",
        timeout=120,
    )
    store = OpensearchVectorStore(client)
    return lambda: _discard(store.add(nodes))


def _langchain(job: Job) -> Load:
    from langchain_community.vectorstores import OpenSearchVectorSearch

    store = OpenSearchVectorSearch(job.url, job.index, None, engine="lucene", timeout=120)
    texts = [document.source["title"] for document in job.documents]
    metadatas = [
        {name: value for name, value in document.source.items() if name != "title"} for document in job.documents
    ]
    pairs = list(zip(texts, job.vectors.tolist(), strict=True))
    ids = [document.doc_id for document in job.documents]
    names = {"vector_field": VECTOR_FIELD, "text_field": "title", "engine": "lucene", "bulk_size": len(pairs)}
    return lambda: _discard(store.add_embeddings(pairs, metadatas=metadatas, ids=ids, **names))


def _discard(_result: object) -> None:
    return None


def _lrem_os(job: Job) -> Load:
    from lrem_os.ingest.run import IngestOptions, ingest

    settings = bench_settings(job.index)
    settings = settings.model_copy(update={"ingest": IngestSettings(**job.options)})
    embedder = GivenVectors([document.text for document in job.documents], job.vectors)
    client = connect(job.url, senders=settings.ingest.senders)

    def load() -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = IngestOptions(dead_letters=Path(folder) / "dead.jsonl")
            report = ingest(client, settings, embedder, [str(job.folder / "catalog.jsonl")], options)
        if report.indexed != len(job.documents) or not report.adds_up:
            raise LoadFailed(f"{report.indexed} of {len(job.documents)} documents were indexed")

    return load


METHODS = {
    "limit": Method("pre-serialised bodies", "", _limit, _as_is),
    "limit2": Method("pre-serialised bodies", "", _limit, _as_is),
    "streaming_bulk": Method("opensearch-py streaming_bulk", "opensearch-py", _streaming_bulk, _as_is),
    "parallel_bulk": Method("opensearch-py parallel_bulk, 4 threads", "opensearch-py", _parallel_bulk, _as_is),
    "haystack": Method("Haystack write_documents", "opensearch-haystack", _haystack, _title_as_content),
    "llama_index": Method("LlamaIndex add", "llama-index-vector-stores-opensearch", _llama_index, _under_metadata),
    "langchain": Method("LangChain add_embeddings", "langchain-community", _langchain, _under_metadata),
    "lrem_os": Method("lrem-os, from the JSONL file", "", _lrem_os, _as_is, creates_index=True),
}
LIMITS = ("limit", "limit2")
