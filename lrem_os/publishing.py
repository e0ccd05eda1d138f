"""A report into OpenSearch: templates, then documents through the writer that ingests catalogs; each is accounted for.

What the documents hold is decided in ``lrem_os.eval.publish``; nothing here looks into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from opensearchpy import OpenSearch

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.errors import IndexMismatch, InputError, PublishIncomplete
from lrem_os.eval import publish
from lrem_os.eval.datasets import parse_qrels, read_file
from lrem_os.eval.report_file import load_report
from lrem_os.ingest.writer import BulkWriter
from lrem_os.search import index as indices
from lrem_os.search.bulk import BulkItem, Outcome, bulk_batches, find_hashes, send_bulk, sort_outcome
from lrem_os.search.client import engine_of, server_info, translate_errors
from lrem_os.search.dialect import spoken
from lrem_os.search.fields import HASH_FIELD
from lrem_os.types import Document, Query

_PREFIX_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-.")
_LOOKED_UP = 1000  # ids in one look-up
_REASONS_SHOWN = 5

Progress = Callable[[str, int], None]
"""Told an index and the documents decided there."""


@dataclass(slots=True)
class Published:
    """What became of the documents of one index: ``documents == written + unchanged + failed``."""

    documents: int = 0
    written: int = 0
    unchanged: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published.

    Args:
        report: Its id in the documents.
        indices: Name → account.
        templates: Names of the index templates.
        dry_run: Nothing was sent.
    """

    report: str
    indices: dict[str, Published]
    templates: tuple[str, ...]
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as a value that JSON can hold."""
        return asdict(self)


def publish_report(
    settings: Settings,
    path: str | Path,
    *,
    prefix: str = publish.DEFAULT_PREFIX,
    qrels: str | Path | None = None,
    dry_run: bool = False,
    on_progress: Progress = lambda _index, _done: None,
) -> Publication:
    """Write a report into indices that Dashboards reads; a second time changes nothing.

    Args:
        settings: The configuration: the cluster, and how patient the writer is (``ingest``).
        path: ``report.json``, or its folder.
        prefix: Of the names of indices and templates.
        qrels: The judgments it was measured with; none: they are not published.
        dry_run: Read and count; send nothing.
        on_progress: Told index and documents decided.

    Raises:
        InputError: The report, the judgments or the prefix cannot be used.
        IndexMismatch: An index of that name is not what the template makes.
        SearchError: OpenSearch cannot be reached, or refuses the templates.
    """
    _check_prefix(prefix)
    report = load_report(path)
    publish.check_publishable(report, str(path))
    parts: dict[str, Iterable[Document]] = {
        "results": publish.result_documents(report, str(path)),
        "queries": publish.query_documents(report, str(path)),
    }
    if qrels is not None:
        file = read_file(qrels)
        # judgments may name a query by its text; a redacted report has none
        asked = [Query(qid, query["text"]) for qid, query in report["queries"].items() if query.get("text")]
        parts["judgments"] = list(publish.judgment_documents(report, parse_qrels(file, asked), file))
    templates = publish.build_templates(prefix)
    found = Publication(
        publish.report_id(report),
        {publish.index_name(prefix, kind): Published() for kind in parts},
        tuple(templates),
        dry_run,
    )
    if dry_run:
        for kind, documents in parts.items():
            found.indices[publish.index_name(prefix, kind)].documents = sum(1 for _ in documents)
        return found
    client = api.connect(settings)
    server_info(client)
    for name, body in templates.items():
        put_template(client, name, body)
    for kind, documents in parts.items():
        name = publish.index_name(prefix, kind)
        _open_index(client, name, templates[name])
        _write(client, settings, name, documents, found.indices[name], on_progress)
    return found


def check_complete(found: Publication) -> None:
    """Raise ``PublishIncomplete`` when OpenSearch refused documents; the others are there."""
    failed = {name: account for name, account in found.indices.items() if account.failed}
    if failed:
        counts = ", ".join(f"{account.failed} of {account.documents} in {name}" for name, account in failed.items())
        first = next(iter(failed.values())).reasons[0]
        raise PublishIncomplete(
            f"OpenSearch refused documents: {counts}; the first: {first}",
            hint="mend what it says, and publish again: what is there already is not written again",
        )


def put_template(client: OpenSearch, name: str, body: dict[str, Any]) -> None:
    """Create or replace a composable index template."""
    with translate_errors():
        client.indices.put_index_template(name=name, body=spoken(engine_of(client), body))


def _open_index(client: OpenSearch, name: str, template: dict[str, Any]) -> None:
    """Make an index, so that it can be looked up; refuse one that the template did not make."""
    state = indices.find_index(client, name)
    if state is None:
        indices.create_index(client, name, {})  # the template says the rest
    elif state.meta.get("mapping_hash") != publish.mapping_hash_of(template):
        raise IndexMismatch(
            f"index {name!r} was made by another version of lrem-os, or by something else",
            hint="delete it and publish its reports again, or choose another --prefix; nothing was written to it",
        )
    indices.refresh(client, name)  # what an earlier run wrote becomes visible to the look-up


def _write(
    client: OpenSearch,
    settings: Settings,
    name: str,
    documents: Iterable[Document],
    account: Published,
    on_progress: Progress,
) -> None:
    """Write what is new or has changed."""

    def send(batch: Sequence[BulkItem]) -> Outcome:
        return sort_outcome(batch, send_bulk(client, name, batch))

    def done(items: Sequence[BulkItem]) -> None:
        account.written += len(items)
        on_progress(name, account.written + account.unchanged + account.failed)

    def refused(item: BulkItem, reason: str) -> None:
        account.failed += 1
        if len(account.reasons) < _REASONS_SHOWN:
            account.reasons.append(f"{item.document.doc_id}: {reason}")

    writer_settings = settings.ingest.model_copy(update={"senders": 1})  # one sender: the counters need no lock
    with BulkWriter(send, writer_settings, on_done=done, on_refused=refused) as writer:
        for part in _chunks(documents):
            account.documents += len(part)
            known = find_hashes(client, name, [document.doc_id for document in part])
            new = [document for document in part if known.get(document.doc_id) != document.content_hash]
            account.unchanged += len(part) - len(new)
            batches = bulk_batches(
                map(_item, new), max_docs=settings.ingest.bulk_docs, max_bytes=settings.ingest.bulk_bytes
            )
            for batch in batches:
                writer.submit(batch)
            writer.drain()
            on_progress(name, account.written + account.unchanged + account.failed)
    indices.refresh(client, name)


def _item(document: Document) -> BulkItem:
    action = orjson.dumps({"index": {"_id": document.doc_id}})
    body = orjson.dumps({**document.source, HASH_FIELD: document.content_hash})
    return BulkItem(document, b"%b\n%b\n" % (action, body))


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while chunk := list(islice(iterator, _LOOKED_UP)):
        yield chunk


def _check_prefix(prefix: str) -> None:
    if not prefix or prefix[0] in "_-." or not set(prefix) <= _PREFIX_CHARS or len(prefix) > 200:
        raise InputError(
            f"the prefix {prefix!r} cannot begin the name of an index",
            hint="lower-case letters, digits, _, - and ., beginning with a letter or digit",
        )
