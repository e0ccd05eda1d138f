"""A service that is asked over HTTP: what shoppers are served, measured where they stand.

``GET /{index}/_search?q=…`` of ``lrem-os serve`` answers with the service's own mode, fusion and weights; what it did
is read from ``ext.lrem``. The time is that from request to answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from lrem_os.errors import RunError
from lrem_os.search.client import translate_errors
from lrem_os.search.hits import parse_response
from lrem_os.types import Query, Ranking, Trace


@dataclass(frozen=True, slots=True)
class LiveRetriever:
    """A ``Retriever`` in front of ``lrem-os serve``.

    Args:
        client: An OpenSearch client for the service's address.
        index: What is searched.
        name: Of the run, for messages.
        concurrency: Queries asked at once.
        headers: Sent with every request: an API key.
    """

    client: Any
    index: str
    name: str
    concurrency: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        """Return one ranking a query, in the order given.

        Raises:
            RunError: An answer does not tell how it was made.
            SearchError: The service, or OpenSearch behind it, failed.
        """
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda query: self._ask(query, top_k), queries))

    def _ask(self, query: Query, top_k: int) -> Ranking:
        params = {"q": query.text, "size": top_k, "_source": "false", "lrem.report": "true"}
        started = time.perf_counter()
        with translate_errors():
            answer = self.client.search(index=self.index, params=params, headers=dict(self.headers) or None)
        latency_ms = (time.perf_counter() - started) * 1000
        told = answer.get("ext", {}).get("lrem")
        if not isinstance(told, Mapping):
            raise RunError(
                f"run {self.name!r}, query {query.query_id!r}: the answer has no ext.lrem",
                hint="is something between here and the service that takes it out?",
            )
        return replace(parse_response(answer), trace=trace_of(told, latency_ms))


def trace_of(told: Mapping[str, Any], latency_ms: float) -> Trace:
    """Return how a query was served, from ``ext.lrem`` of its answer.

    How many tokens it took is not told there, and the reasoner's time is what the query waited for it: queue and the
    rest of its batch included, also where it was in vain.

    >>> trace_of({"route": "direct", "keywords": [], "decision": {"score": 0.2}}, 7.5).score
    0.2
    """
    return Trace(
        route=str(told.get("route", "")),
        keywords=tuple(map(str, told.get("keywords", ()))),
        degraded=tuple(map(str, told.get("degraded", ()))),
        latency_ms=latency_ms,
        reason_ms=float(told.get("timings_ms", {}).get("reason", 0.0)),
        score=float(told.get("decision", {}).get("score", "nan")),
    )
