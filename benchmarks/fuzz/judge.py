"""What an answer must be, whatever was asked: JSON of the documented shape, and no fault of the service."""

from __future__ import annotations

import json
from typing import Any


def complaint(path: str, status: int, headers: dict[str, str], body: bytes, method: str = "POST") -> str | None:
    """Return what is wrong with an answer; ``None``: nothing.

    A 5xx of OpenSearch goes through as it came and is none of the service's: it has no ``request_id``.

    Args:
        path: Of the request, with its parameters.
        status: HTTP status.
        headers: In lower case.
        body: Decompressed.
        method: Of the request.
    """
    if "x-request-id" not in headers:
        return "no x-request-id"
    if method == "HEAD" or status == 304:
        return None
    kind = headers.get("content-type", "")
    if not kind.startswith("application/json"):
        if status >= 400 and "yaml" not in kind and "smile" not in kind and "text/plain" not in kind:
            return f"an error of type {kind!r}"
        return None
    try:
        value = json.loads(body)
    except ValueError as exc:
        return f"no JSON: {exc}"
    return _error(path, status, value) if status >= 400 else _answer(path, value)


def is_ours(body: bytes) -> bool:
    """Return whether an error was made by the service."""
    return b'"request_id"' in body


def _error(path: str, status: int, value: Any) -> str | None:
    if status == 503 and path.partition("?")[0].rstrip("/") in ("/live", "/ready"):
        return None
    if not isinstance(value, dict) or "error" not in value:
        return "an error without [error]"
    error = value["error"]
    if path.startswith("/v1/"):
        return None if isinstance(error, dict) and {"message", "type", "code"} <= error.keys() else "not OpenAI's shape"
    if isinstance(error, dict):
        if "request_id" in error and status >= 500:
            return f"a fault of the service: {error['type']}"
        return (
            None if {"type", "reason"} <= error.keys() and value.get("status") == status else "not OpenSearch's shape"
        )
    return None if isinstance(error, str) else "not OpenSearch's shape"


def _answer(path: str, value: Any) -> str | None:
    where = path.partition("?")[0].rstrip("/")
    wanted = {
        "/_search": {"hits"},
        "/_msearch": {"responses"},
        "/v1/embeddings": {"object", "data", "model", "usage", "lrem"},
        "/v1/route": {"text", "route", "keywords", "degraded", "decision"},
        "/ubi/events": {"accepted", "dropped"},
    }
    for ending, keys in wanted.items():
        if where.endswith(ending) and "filter_path" not in path and not keys <= set(value):
            return f"{ending} answers without {sorted(keys - set(value))}"
    return None
