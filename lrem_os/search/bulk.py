"""The bulk side of the dialect: request bodies as bytes, answers sorted by item, hashes looked up, ids listed.

orjson writes a float32 row as the shortest decimal that reads back to the same float32, so nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from opensearchpy import OpenSearch

from lrem_os.errors import RequestRejected, SearchError, SearchRejected
from lrem_os.search.client import describe_error, translate_errors
from lrem_os.search.fields import HASH_FIELD
from lrem_os.search.hits import check_response
from lrem_os.types import Document

_TURNED_AWAY = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class BulkItem:
    """A document on its way: what to report about it, and its two lines of a bulk body."""

    document: Document
    payload: bytes


def bulk_item(document: Document, vector: npt.NDArray[np.float32], vector_field: str) -> BulkItem:
    """Return the two lines that index a document under its own id.

    Args:
        document: The product.
        vector: Its embedding, shape (D,), float32, C-contiguous.
        vector_field: Where it goes.
    """
    action = orjson.dumps({"index": {"_id": document.doc_id}})
    body = {**document.source, vector_field: vector, HASH_FIELD: document.content_hash}
    return BulkItem(document, b"%b\n%b\n" % (action, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)))


def bulk_batches(items: Iterable[BulkItem], *, max_docs: int, max_bytes: int) -> Iterator[list[BulkItem]]:
    """Yield batches within both limits, in order; a document larger than ``max_bytes`` goes alone."""
    batch: list[BulkItem] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= max_docs or size + len(item.payload) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.payload)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a bulk request ended for its items.

    Args:
        done: Indexed.
        again: Turned away for now (429, 503): to be sent again.
        refused: Refused for good, with the reason.
    """

    done: list[BulkItem]
    again: list[BulkItem]
    refused: list[tuple[BulkItem, str]]


def sort_outcome(batch: Sequence[BulkItem], answer: dict[str, Any]) -> Outcome:
    """Match the items of a bulk answer with what was sent; a bulk answer is in the order of its request.

    Args:
        batch: What was sent.
        answer: The response body.

    Raises:
        SearchError: It does not speak of every document.
    """
    results = answer.get("items", [])
    if len(results) != len(batch):
        raise SearchError(
            f"OpenSearch answered for {len(results)} documents of {len(batch)}", hint="is there a proxy in between?"
        )
    if not answer.get("errors"):
        return Outcome(list(batch), [], [])
    outcome = Outcome([], [], [])
    for item, result in zip(batch, results, strict=True):
        state = result["index"]
        if state["status"] < 300:
            outcome.done.append(item)
        elif state["status"] in _TURNED_AWAY:
            outcome.again.append(item)
        else:
            outcome.refused.append((item, describe_error(state.get("error", {}))))
    return outcome


def send_bulk(client: OpenSearch, index: str, batch: Sequence[BulkItem]) -> dict[str, Any]:
    """Send one bulk request; return the answer, cut down to what ``sort_outcome`` reads. Raises ``SearchError``."""
    body = b"".join([item.payload for item in batch])
    params = {"filter_path": "errors,items.*.status,items.*.error"}
    with translate_errors():
        answer: dict[str, Any] = client.bulk(body=body, index=index, params=params)
    return answer


def find_hashes(client: OpenSearch, index: str, ids: Sequence[str]) -> dict[str, str]:
    """Return the content hashes that the index holds for these ids; ids it lacks are left out.

    Not realtime: what an earlier run wrote is visible after a refresh, which the caller makes once.
    """
    params = {"stored_fields": HASH_FIELD, "realtime": "false", "_source": "false"}
    with translate_errors():
        answer = client.mget(body={"ids": list(ids)}, index=index, params=params)
    return {doc["_id"]: doc["fields"][HASH_FIELD][0] for doc in answer["docs"] if doc.get("found") and "fields" in doc}


def find_sources(
    client: OpenSearch, index: str, ids: Sequence[str], *, fields: Sequence[str], page: int = 500
) -> dict[str, dict[str, Any]]:
    """Return these fields of the documents with these ids; ids that the index lacks are left out."""
    found: dict[str, dict[str, Any]] = {}
    params = {"_source_includes": ",".join(fields)}
    for start in range(0, len(ids), page):
        with translate_errors():
            answer = client.mget(body={"ids": list(ids[start : start + page])}, index=index, params=params)
        found |= {doc["_id"]: doc["_source"] for doc in answer["docs"] if doc.get("found")}
    return found


def find_rows(
    client: OpenSearch, index: str, ids: Sequence[str], *, without: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return what is stored of these documents, less some fields; ids that the index lacks are left out."""
    params = {"_source_excludes": ",".join(without)}
    with translate_errors():
        answer = client.mget(body={"ids": list(ids)}, index=index, params=params)
    return {doc["_id"]: doc["_source"] for doc in answer["docs"] if doc.get("found")}


def list_ids(client: OpenSearch, index: str, *, page: int = 5000) -> Iterator[list[str]]:
    """Yield the ids of all searchable documents, by pages, from one consistent view (a scroll)."""
    body = {"size": page, "_source": False, "sort": ["_doc"], "query": {"match_all": {}}}
    with translate_errors():
        answer = client.search(index=index, body=body, params={"scroll": "5m"})
    try:
        while True:
            check_response(answer)  # a page that lacks a shard's ids, or the last one for want of a shard, is no page
            if not answer["hits"]["hits"]:
                break
            yield [hit["_id"] for hit in answer["hits"]["hits"]]
            with translate_errors():
                answer = client.scroll(body={"scroll_id": answer["_scroll_id"], "scroll": "5m"})
    finally:
        with suppress(SearchError), translate_errors():  # it ends by itself in the end; the first error matters
            client.clear_scroll(body={"scroll_id": [answer["_scroll_id"]]})


def delete_ids(client: OpenSearch, index: str, ids: Sequence[str]) -> int:
    """Delete documents by id; return how many were there.

    Raises:
        SearchRejected: Some were turned away for now; the others are gone, so it can be called again.
        RequestRejected: Some cannot be deleted.
    """
    body = b"".join(orjson.dumps({"delete": {"_id": doc_id}}) + b"\n" for doc_id in ids)
    with translate_errors():
        answer = client.bulk(body=body, index=index, params={"filter_path": "items.*.status,items.*.error"})
    states = [item["delete"] for item in answer["items"]]
    failed = [state for state in states if state["status"] not in (200, 404)]
    if failed:
        error = SearchRejected if all(state["status"] in _TURNED_AWAY for state in failed) else RequestRejected
        raise error(f"{len(failed)} documents could not be deleted: {describe_error(failed[0].get('error', {}))}")
    return sum(state["status"] == 200 for state in states)
