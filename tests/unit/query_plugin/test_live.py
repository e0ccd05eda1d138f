from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from opensearchpy import exceptions

from lrem_os.errors import RunError, SearchRejected
from lrem_os.query_plugin.live import LiveRetriever, trace_of
from lrem_os.types import Query

TOLD = {
    "route": "reasoned",
    "keywords": ["trivet", "pot stand"],
    "degraded": ["probe_timeout"],
    "cached": False,
    "timings_ms": {"embed": 4.1, "reason": 61.0},
    "took_ms": 84.2,
    "decision": {"reasoned": True, "why": "above_threshold", "score": 0.81, "threshold": 0.44},
}


class Client:
    """A service that answers with one hit, named by the query."""

    def __init__(self, told: Any = TOLD, fails: Exception | None = None, together: int = 1) -> None:
        self.told, self.fails, self.asked = told, fails, []  # type: ignore[var-annotated]
        self.barrier = threading.Barrier(together, timeout=60)

    def search(self, *, index: str, params: dict[str, Any], headers: dict[str, str] | None) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        self.barrier.wait()
        self.asked.append((index, params, headers))
        hits = {"total": {"value": 1}, "hits": [{"_id": f"for {params['q']}", "_score": 1.5}]}
        return {"took": 3, "hits": hits, "ext": {"lrem": self.told}} if self.told else {"took": 3, "hits": hits}


def test_what_the_service_tells_is_the_trace() -> None:
    client = Client()
    retriever = LiveRetriever(client, "products", "live", headers={"x-lrem-api-key": "k"})
    [ranking] = retriever.retrieve([Query("q1", "hot pot & *")], top_k=7)
    assert [hit.doc_id for hit in ranking.hits] == ["for hot pot & *"]
    params = {"q": "hot pot & *", "size": 7, "_source": "false", "lrem.report": "true"}
    assert client.asked == [("products", params, {"x-lrem-api-key": "k"})]
    trace = ranking.trace
    assert trace is not None
    assert (trace.route, trace.keywords, trace.degraded) == ("reasoned", ("trivet", "pot stand"), ("probe_timeout",))
    assert (trace.reason_ms, trace.score) == (61.0, 0.81)
    assert 0 < trace.latency_ms < 60_000


def test_what_is_not_told_is_unknown() -> None:
    trace = trace_of({"route": "direct"}, 5.0)
    assert (trace.route, trace.keywords, trace.reason_ms, trace.latency_ms) == ("direct", (), 0.0, 5.0)
    assert math.isnan(trace.score)


def test_queries_are_asked_together_and_answered_in_order() -> None:
    client = Client(together=4)  # nobody is answered before four have asked
    queries = [Query(f"q{at}", f"text {at}") for at in range(8)]
    found = LiveRetriever(client, "products", "live", 4).retrieve(queries, top_k=5)
    assert [ranking.hits[0].doc_id for ranking in found] == [f"for text {at}" for at in range(8)]


def test_an_answer_that_tells_nothing_is_refused() -> None:
    with pytest.raises(RunError, match=r"run 'live', query 'q1': the answer has no ext\.lrem"):
        LiveRetriever(Client(told=None), "products", "live").retrieve([Query("q1", "bag")], top_k=5)


def test_errors_are_ours() -> None:
    client = Client(fails=exceptions.TransportError(429, "overloaded", {}))
    with pytest.raises(SearchRejected):
        LiveRetriever(client, "products", "live").retrieve([Query("q1", "bag")], top_k=5)
