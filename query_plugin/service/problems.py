"""What the service says when it refuses or cannot: one exception, in the shape of OpenSearch's errors and of OpenAI's.

Messages are for clients: they name what the client sent, never what is inside the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERVED = (
    "GET /, POST or GET /{index}/_search, POST or GET /_msearch and /{index}/_msearch, POST /v1/embeddings,"
    " POST /v1/route, POST /ubi/events, GET /live, /ready, /metrics, /docs"
)


class Problem(Exception):
    """A request that ends without what was asked for.

    Args:
        status: HTTP status.
        kind: As OpenSearch names its errors: ``illegal_argument_exception``.
        reason: What is wrong, and what to do, for whoever sent the request.
        retry_after_s: When to try again, where that helps.
    """

    def __init__(self, status: int, kind: str, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        # half of a surrogate pair, in what a client sent and is told again, could not be written
        self.reason = reason.encode("utf-8", "replace").decode()
        self.status, self.kind, self.retry_after_s = status, kind, retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}

    def as_opensearch(self, request_id: str) -> dict[str, Any]:
        """Return the body as OpenSearch's clients read it."""
        cause = {"type": self.kind, "reason": self.reason}
        return {"error": {"root_cause": [cause], **cause, "request_id": request_id}, "status": self.status}

    def as_openai(self, request_id: str) -> dict[str, Any]:
        """Return the body as OpenAI's clients read it."""
        kinds: Mapping[int, str] = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        told = {"message": self.reason, "type": kind, "param": None, "code": self.kind, "request_id": request_id}
        return {"error": told}


def bad_request(reason: str) -> Problem:
    """Return that a request is wrong."""
    return Problem(400, "illegal_argument_exception", reason)


def overloaded(reason: str) -> Problem:
    """Return that there is too much to do."""
    return Problem(429, "rejected_execution_exception", reason, retry_after_s=1)


def not_served(path: str) -> Problem:
    """Return that a path is none of ours."""
    return Problem(404, "path_not_served_exception", f"lrem-os does not serve [{path[:200]}]; it serves {SERVED}")


def internal() -> Problem:
    """Return that the fault is ours; the log knows more, under the request's id."""
    return Problem(500, "internal_exception", "an error inside lrem-os: its log has it under this request_id")
