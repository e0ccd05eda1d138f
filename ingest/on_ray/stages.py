"""What runs on the nodes: a function that reads, an actor that embeds, an actor that writes.

Any of them may run twice for the same rows, on another node after the first was lost: reading and embedding give the
same again, and a document is written under its own id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import lrem_os
from lrem_os.config import CatalogSettings, IngestSettings, SearchSettings
from lrem_os.errors import IndexMismatch, RayError
from lrem_os.extras import require
from lrem_os.ingest.deadletter import Letter
from lrem_os.ingest.on_ray.cluster import Pool
from lrem_os.ingest.on_ray.tables import (
    INDEXED,
    ROWS,
    VERDICTS,
    checked_table,
    failed,
    letters_by_line,
    open_documents,
    table,
)
from lrem_os.ingest.port import OpenSearchPort
from lrem_os.ingest.sources import Source
from lrem_os.ingest.stages import Checked, check_rows, embed_documents, given_up, read_stretches
from lrem_os.ingest.writer import BulkWriter
from lrem_os.search.bulk import BulkItem, bulk_batches, bulk_item
from lrem_os.search.client import connect
from lrem_os.types import Embedder

ray: Any = require("ray", extra="ray")


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage is told.

    Args:
        search: The cluster.
        index: To write.
        catalog: Which field means what.
        settings: Sizes and patience.
        vector_field: Where the embedding goes.
        sources: The input.
        superseded: Reference to: by number of the file, by line, which row replaces it.
        lookup: Whether the index may hold some of it already.
        version: Of lrem-os, on every node.
    """

    search: SearchSettings
    index: str
    catalog: CatalogSettings
    settings: IngestSettings
    vector_field: str
    sources: Sequence[Source]
    superseded: Any
    lookup: bool
    version: str

    @property
    def labels(self) -> list[str]:
        """Names of the files in reports."""
        return [source.label for source in self.sources]

    def port(self) -> OpenSearchPort:
        """Return the index, connected from here."""
        return OpenSearchPort(connect(self.search), self.index, self.settings.max_wait_s)


def read_files(numbers: Any, job: Job) -> Iterator[Any]:
    """Yield the rows of files by stretches, checked and looked up.

    Args:
        numbers: Table with the column ``source``: which files.
        job: The run.

    Raises:
        DatasetError: A file cannot be read on.
        SearchError: The look-up failed.
    """
    check_version(job.version)
    superseded = ray.get(job.superseded)
    port = job.port() if job.lookup else None
    yield table([], ROWS)  # a file without rows has columns all the same
    for number in numbers.column("source").to_pylist():
        source = job.sources[number]
        for stretch in read_stretches(source, max_rows=job.settings.window):
            checked = check_rows(
                stretch.rows,
                source.label,
                superseded.get(number, {}),
                job.catalog,
                max_chars=job.settings.max_text_chars,
            )
            yield checked_table(checked, number, _hashes(port, checked))


class EmbedRows:
    """An actor with a model of its own.

    Args:
        make: Returns the model.
        identity: What the index says of the model: vectors of any other must not get in.
        pool: What it may use.
        job: The run.
    """

    def __init__(self, make: Callable[[], Embedder], identity: Mapping[str, Any], pool: Pool, job: Job) -> None:
        self._make, self._identity, self._pool, self._job = make, identity, pool, job
        self._idle_since = time.monotonic()

    @cached_property
    def _embedder(self) -> Embedder:  # not loaded above: of an error there Ray keeps the text alone
        check_version(self._job.version)
        keep_to(self._pool)
        embedder = self._make()
        if dict(embedder.identity) != dict(self._identity):
            raise IndexMismatch(
                f"a node of the Ray cluster has another model than the others: {dict(embedder.identity)},"
                f" where the index is for {dict(self._identity)}",
                hint="pin model.revision and model.dtype, so that every node loads the same",
            )
        return embedder

    def __call__(self, rows: Any) -> Any:
        """Return the rows with vectors, where they are not decided yet.

        Raises:
            IndexMismatch: On this node it is another model.
            ModelError: It could not be loaded.
            RayError: On this node it is another lrem-os.
        """
        embedder, start = self._embedder, time.monotonic()
        positions, documents = open_documents(rows, self._job.labels)
        columns = rows.to_pylist()
        if documents:
            embedded = embed_documents(documents, embedder)
            given = letters_by_line(embedded.letters)
            vectors = iter(embedded.vectors)
            for position, document in zip(positions, documents, strict=True):
                letter = given.get((document.path, document.line))
                columns[position] |= failed(letter) if letter else {"vector": next(vectors).tobytes()}
        if columns:
            columns[0] |= {"embed_s": time.monotonic() - start, "idle_s": start - self._idle_since}
        self._idle_since = time.monotonic()
        return table(columns, ROWS)


class WriteRows:
    """An actor that sends bulk requests, several at a time, as the engine of one process does.

    Args:
        job: The run.
        senders: Requests on their way at once at most.
    """

    def __init__(self, job: Job, senders: int) -> None:
        self._job, self._senders = job, senders
        self._refused: list[Letter] = []

    @cached_property
    def _writer(self) -> BulkWriter:
        check_version(self._job.version)
        port = self._job.port()
        return BulkWriter(
            port.send,
            self._job.settings.model_copy(update={"senders": self._senders}),
            on_done=lambda _items: None,
            on_refused=self._refuse,
            probe=lambda item: port.find_hashes([item.document.doc_id]),
        )

    def __call__(self, rows: Any) -> Any:
        """Return the verdicts, when every row has one.

        Raises:
            RayError: On this node it is another lrem-os.
            SearchError: OpenSearch refuses, or stays away for too long.
        """
        writer = self._writer
        positions, documents = open_documents(rows, self._job.labels)
        vectors = rows.column("vector").to_pylist()
        columns = rows.select(VERDICTS.names).to_pylist()
        items = (
            bulk_item(document, np.frombuffer(vectors[position], dtype=np.float32), self._job.vector_field)
            for position, document in zip(positions, documents, strict=True)
        )
        settings = self._job.settings
        for batch in bulk_batches(items, max_docs=settings.bulk_docs, max_bytes=settings.bulk_bytes):
            writer.submit(batch)
        writer.drain()
        refused = letters_by_line(self._refused)
        self._refused.clear()
        for position, document in zip(positions, documents, strict=True):
            letter = refused.get((document.path, document.line))
            columns[position] |= failed(letter) if letter else {"state": INDEXED}
        return table(columns, VERDICTS)

    def _refuse(self, item: BulkItem, reason: str) -> None:
        self._refused.append(given_up(item.document, "refused", reason))


def describe_model(make: Callable[[], Embedder], pool: Pool, version: str) -> tuple[int, dict[str, Any]]:
    """Return dimension and identity of the model as a node of the cluster loads it."""
    check_version(version)
    keep_to(pool)
    embedder = make()
    return embedder.dimension, dict(embedder.identity)


def check_version(expected: str) -> None:
    """Raise ``RayError`` where this node has another lrem-os than the machine of the command."""
    if lrem_os.__version__ != expected:
        raise RayError(
            f"a node of the Ray cluster has lrem-os {lrem_os.__version__}, the command is {expected}",
            hint="install the same version on every node",
        )


def keep_to(pool: Pool) -> None:
    """Let what is loaded from now on use the threads of the pool, and a GPU only where the pool has any."""
    os.environ["OMP_NUM_THREADS"] = str(pool.threads)
    if not pool.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _hashes(port: OpenSearchPort | None, checked: Checked) -> dict[str, str]:
    if port is None or not checked.documents:
        return {}
    return port.find_hashes([document.doc_id for document in checked.documents])
