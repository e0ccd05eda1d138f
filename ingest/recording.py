"""An ingest's account as documents that Dashboards can draw, and their way into the cluster.

They are written where the index template ``lrem-os-ingest`` is installed (``lrem-os dashboards install``), and nowhere
else: an ingest makes no index that nobody asked for. One document tells of the ingest, one of each reason why rows
failed. What goes wrong with them is logged; the catalog is loaded all the same.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from opensearchpy import OpenSearch

from lrem_os.errors import SearchError
from lrem_os.ingest.report import IngestReport
from lrem_os.search import index as indices
from lrem_os.search.client import translate_errors

RECORDS = "lrem-os-ingest"
"""Name of the index, and of its template."""

_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_FLOAT = {"type": "float"}
_LONG = {"type": "long"}
MAPPING: Mapping[str, Any] = {
    "dynamic": False,
    "properties": {
        "@timestamp": {"type": "date"},
        **dict.fromkeys(("kind", "ingest", "alias", "index", "model", "fingerprint", "code"), _KEYWORD),
        **dict.fromkeys(("read", "indexed", "unchanged", "superseded", "failed", "deleted"), _LONG),
        **dict.fromkeys(("documents", "vectors", "count"), _LONG),
        **dict.fromkeys(("seconds", "docs_per_s", "embed_s", "embed_wait_s", "send_wait_s"), _FLOAT),
        "published": {"type": "boolean"},
    },
}
_COUNTS = ("read", "indexed", "unchanged", "superseded", "failed", "deleted")
_TIMES = ("seconds", "docs_per_s", "embed_s", "embed_wait_s", "send_wait_s")

_log = logging.getLogger(__name__)


def record_ingest(client: OpenSearch, report: IngestReport, vector_field: str) -> bool:
    """Write an account where it is wanted; return whether it is there. Raises nothing for a fault of the cluster.

    Args:
        client: The connection.
        report: The account.
        vector_field: Whose vectors are counted.
    """
    try:
        with translate_errors():
            asked = {"ignore": [400, 401, 403, 404, 405]}  # perhaps nobody may ask: then nobody installed it either
            if not client.indices.exists_index_template(name=RECORDS, params=asked):
                return False
    except SearchError as exc:
        _log.debug("whether ingests are recorded could not be asked: %s", exc)
        return False
    try:
        state = indices.require_index(client, report.index)
        documents, vectors = _count(client, report.index, None), _count(client, report.index, vector_field)
        rows = ingest_documents(report, state.meta, documents=documents, vectors=vectors)
        body = b"".join(
            orjson.dumps({"index": {"_id": f"{row['ingest']}-{at}"}}) + b"\n" + orjson.dumps(row) + b"\n"
            for at, row in enumerate(rows)
        )
        with translate_errors():
            answer = client.bulk(body=body, index=RECORDS, params={"filter_path": "errors,items.*.error"})
    except SearchError as exc:
        _log.warning("the ingest is done, but its account could not be written to %s: %s", RECORDS, exc)
        return False
    if answer.get("errors"):
        _log.warning("the ingest is done, but OpenSearch refused its account in %s: %s", RECORDS, answer["items"])
    return not answer.get("errors")


def ingest_documents(
    report: IngestReport,
    meta: Mapping[str, Any],
    *,
    documents: int,
    vectors: int,
    when: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return the documents of one ingest.

    Args:
        report: Its account.
        meta: ``_meta.lrem`` of the index that was written.
        documents: In the index now.
        vectors: Documents in it that have one.
        when: In place of now.
    """
    common = {
        "@timestamp": (when or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "ingest": uuid.uuid4().hex,
        "alias": report.alias,
        "index": report.index,
        "model": meta.get("identity", {}).get("model", "unknown"),
        "fingerprint": meta.get("fingerprint", "unknown"),
    }
    account = {
        **{name: getattr(report, name) for name in (*_COUNTS, *_TIMES)},
        "documents": documents,
        "vectors": vectors,
        "published": report.published,
    }
    failures = [{"kind": "failure", "code": code, "count": count} for code, count in sorted(report.failures.items())]
    return [common | {"kind": "ingest"} | account, *(common | failure for failure in failures)]


def record_template() -> dict[str, Any]:
    """Return what the index is made with: the part of an index template that is not its pattern."""
    return {"settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"}, "mappings": dict(MAPPING)}


def _count(client: OpenSearch, index: str, field: str | None) -> int:
    body = None if field is None else {"query": {"exists": {"field": field}}}
    with translate_errors():
        return int(client.count(index=index, body=body)["count"])
