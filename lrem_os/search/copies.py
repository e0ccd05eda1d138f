"""A copy of an index that lives as long as a ``with`` block, for experiments that must not touch what is served."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import orjson
from opensearchpy import OpenSearch, helpers

from lrem_os.errors import IndexMissing, SearchError, SearchRejected
from lrem_os.search import index as indices
from lrem_os.search.client import describe_error, engine_of, server_version, translate_errors

PREFIX = "lrem-os-copy-"
"""Beginning of the name of every copy; one that a killed process left behind can be deleted by it."""

_POLL_S = 0.2
_AT_ONCE = 250  # documents, some megabytes with their vectors
_VECTORS_LEFT_OUT_SINCE = (9, 2, 0)  # Elasticsearch: _source comes without vectors unless they are asked for
_PRIVATE = ("uuid", "version", "creation_date", "provided_name", "resize", "history", "blocks", "routing", "merge")


@contextmanager
def temporary_copy(client: OpenSearch, name: str) -> Iterator[str]:
    """Yield the name of a copy of an index: same mapping, settings, documents and vectors; deleted at the end.

    A process that is killed outright leaves it behind, under a name that begins with ``PREFIX``.

    Args:
        client: The connection.
        name: Of the index, or its alias. It is only read.

    Raises:
        IndexMissing: There is no such index.
        SearchError: It cannot be copied.

    Source: OpenSearch 3.6 documentation, "Reindex" and "Tasks".
    """
    state = indices.require_index(client, name)
    copy = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    with translate_errors():
        body = client.indices.get(index=state.name)[state.name]
    try:
        indices.create_index(client, copy, copied_body(body))
        if engine_of(client) == "opensearch":
            _reindex(client, state.name, copy)
        else:
            _copy_here(client, state.name, copy)
        indices.refresh(client, copy)
        yield copy
    finally:
        with suppress(IndexMissing), translate_errors():
            client.indices.delete(index=copy)


def copied_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that creates an index like the one that ``GET /{index}`` describes: no replicas, no aliases."""
    settings = {key: value for key, value in body["settings"]["index"].items() if key not in _PRIVATE}
    settings |= {"number_of_replicas": 0, "auto_expand_replicas": False}
    return {"settings": {"index": settings}, "mappings": dict(body["mappings"])}


def _reindex(client: OpenSearch, source: str, target: str) -> None:
    """Copy on the server. Whatever ends it early is followed by the task's end: it would make the index anew."""
    body = {"source": {"index": source}, "dest": {"index": target, "op_type": "create"}}
    with translate_errors():
        task = client.reindex(body=body, params={"wait_for_completion": "false"})["task"]
    try:
        while not (found := _task(client, task))["completed"]:
            time.sleep(_POLL_S)
    except BaseException:
        with suppress(SearchError), translate_errors():  # the first error matters
            client.tasks.cancel(task_id=task, params={"wait_for_completion": "true"})
        raise
    _check_copied(found, source)


def _copy_here(client: OpenSearch, source: str, target: str) -> None:
    """Copy through this process: not every Elasticsearch has ``_reindex``."""
    query: dict[str, Any] = {"query": {"match_all": {}}}
    with translate_errors():
        if server_version(client) >= _VECTORS_LEFT_OUT_SINCE:
            query["_source"] = {"exclude_vectors": False}
        found = helpers.scan(client, query=query, index=source, size=_AT_ONCE)
        while hits := list(islice(found, _AT_ONCE)):
            write_hits(client, target, hits)


def write_hits(client: OpenSearch, index: str, hits: Sequence[Mapping[str, Any]]) -> None:
    """Write documents as a search returned them. Raises ``SearchError``: one was refused."""
    lines = [orjson.dumps(part) + b"\n" for hit in hits for part in ({"create": {"_id": hit["_id"]}}, hit["_source"])]
    with translate_errors():
        answer = client.bulk(index=index, body=b"".join(lines), params={"filter_path": "errors,items.*.error"})
    if answer["errors"]:
        error = next(item["create"]["error"] for item in answer["items"] if item)
        raise SearchError(f"a document could not be copied to {index!r}: {describe_error(error)}")


def _task(client: OpenSearch, task: str) -> dict[str, Any]:
    with translate_errors():
        found: dict[str, Any] = client.tasks.get(task_id=task)
    return found


def _check_copied(found: Mapping[str, Any], source: str) -> None:
    if "error" in found:
        raise SearchError(f"index {source!r} could not be copied: {describe_error(found['error'])}")
    response = found["response"]
    if response["failures"] or response["created"] != response["total"]:
        failures = response["failures"]
        reason = describe_error(failures[0].get("cause", {})) if failures else "it was stopped"
        turned_away = bool(failures) and all(failure.get("status") == 429 for failure in failures)
        error = SearchRejected if turned_away else SearchError
        raise error(f"only {response['created']} of {response['total']} documents of {source!r} were copied: {reason}")
