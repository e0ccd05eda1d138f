"""Requests to the cluster that opensearch-py has no methods for: sent, or in a rehearsal only noted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch, exceptions

from lrem_os.config_fields import MASK
from lrem_os.errors import SearchError, SearchTimeout
from lrem_os.search.client import translate_errors

ML = "/_plugins/_ml"
_PAUSE_S = 0.1
_MOST_OBJECTS = 100  # of ours; one or two are usual


@dataclass(frozen=True, slots=True)
class Change:
    """A request that changes something, fit to be shown: credentials are masked."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Cluster:
    """One cluster.

    Args:
        client: The connection.
        timeout_s: How long a task of ML Commons may take.
        is_rehearsal: Note what would change something, and do not send it.
        changes: What was noted or sent, in order.
    """

    client: OpenSearch
    timeout_s: float = 60.0
    is_rehearsal: bool = False
    changes: list[Change] = field(default_factory=list)

    def read(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a request that changes nothing; ``None``: not there (404)."""
        try:
            with translate_errors():
                return self.send("GET" if body is None else "POST", path, body)
        except SearchError as exc:
            if status_of(exc) == 404:
                return None
            raise

    def change(self, method: str, path: str, body: Mapping[str, Any] | None = None, **stand_in: str) -> Any:
        """Send a request that changes something; return its answer, in a rehearsal ``stand_in``."""
        self.changes.append(Change(method, path, masked(body)))
        if self.is_rehearsal:
            return stand_in
        with translate_errors():
            return self.send(method, path, body)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send any request; errors are opensearch-py's."""
        return self.client.transport.perform_request(method, path, body=body)

    def find(self, kind: str, query: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what ML Commons has of ``connectors``, ``models`` or ``model_groups``, by id, oldest first."""
        answer = self.read(f"{ML}/{kind}/_search", {"size": _MOST_OBJECTS, "query": query})
        hits = [] if answer is None else answer["hits"]["hits"]
        rows = sorted(hits, key=lambda hit: hit["_source"].get("created_time", 0))
        return {hit["_id"]: hit["_source"] for hit in rows}

    def wait(self, task_id: str, what: str) -> Mapping[str, Any]:
        """Return a task of ML Commons when it is done.

        Raises:
            SearchError: It failed.
            SearchTimeout: It takes too long.
        """
        if self.is_rehearsal:
            return {}
        ends = time.monotonic() + self.timeout_s
        while True:
            task: Mapping[str, Any] = self.read(f"{ML}/tasks/{task_id}") or {}
            state = task.get("state", "unknown")
            if state == "COMPLETED":
                return task
            if state in ("FAILED", "COMPLETED_WITH_ERROR", "CANCELLED", "EXPIRED"):
                raise SearchError(
                    f"ML Commons could not {what}: {str(task.get('error', state))[:500]}",
                    hint=f"GET {ML}/tasks/{task_id} tells more; run it again when that is solved",
                )
            if time.monotonic() > ends:
                raise SearchTimeout(
                    f"ML Commons did not {what} within {self.timeout_s:g} s: task {task_id} is {state}",
                    hint="run it again, it goes on there; connect.timeout_s is how long it waits",
                )
            time.sleep(_PAUSE_S)

    def deploy(self, model_id: str) -> None:
        """Deploy a model and wait for it. A search that came meanwhile may deploy it too: then the other one counts.

        Raises:
            SearchError: It failed.
            SearchTimeout: It takes too long.
        """
        ends = time.monotonic() + self.timeout_s
        while True:
            try:
                answer = self.change("POST", f"{ML}/models/{model_id}/_deploy", {}, task_id="")
                self.wait(str(answer["task_id"]), "deploy the model")
                return
            except SearchError as exc:
                if status_of(exc) != 409:  # both write the model's state at once
                    raise
                if time.monotonic() > ends:
                    raise SearchTimeout(f"model {model_id} is not deployed after {self.timeout_s:g} s: {exc}") from exc
            self.changes.pop()  # it is sent again
            time.sleep(_PAUSE_S)


def status_of(exc: SearchError) -> int | None:
    """Return the HTTP status behind an error; ``None`` where there was no answer."""
    cause = exc.__cause__
    known = isinstance(cause, exceptions.TransportError) and isinstance(cause.status_code, int)
    return int(cause.status_code) if known else None  # type: ignore[union-attr]


def masked(body: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a body without its credentials.

    >>> masked({"name": "x", "credential": {"key": "secret"}})
    {'name': 'x', 'credential': {'key': '********'}}
    """
    if body is None or "credential" not in body:
        return body
    return {**body, "credential": dict.fromkeys(body["credential"], MASK)}
