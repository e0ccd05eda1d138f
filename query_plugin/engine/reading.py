"""What the query engine makes of one query, and the codes of what went wrong on the way.

Every fault of a model degrades the answer and is named here; none is an error of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lrem_os.query_plugin.routing.router import Decision
from lrem_os.types import Reasoning

RouteName = Literal["auto", "direct", "reasoned", "bm25"]
"""What a request asks for (auto, direct, reasoned) and what it got (direct, reasoned, bm25)."""

REASONER_TIMEOUT = "reasoner_timeout"
"""The reasoned vector was not there by the deadline; it still goes into the cache when it comes."""
REASONER_FAILED = "reasoner_failed"
"""The reasoner raised, died, or answered something that is no vector of ours."""
REASONER_OPEN = "reasoner_open"
"""The circuit breaker keeps requests away from a reasoner that failed lately."""
REASONER_SLOW = "reasoner_slow"
"""The reasoner was mostly late of late, so that nobody waits for it; its result goes into the cache when it comes."""
REASONER_BROKEN = "reasoner_broken"
"""Too many calls of the reasoner hang: no further worker is started."""
REASONER_MISSING = "reasoner_missing"
"""Reasoning was asked for, and no reasoner is configured."""
OVERLOADED = "overloaded"
"""A queue was full; a reasoned request went direct, a direct one to BM25."""
EMBEDDER_TIMEOUT = "embedder_timeout"
"""The direct vector was not there in time."""
EMBEDDER_FAILED = "embedder_failed"
"""The embedder raised, died, or answered something that is no vector."""
EMBEDDER_BROKEN = "embedder_broken"
"""Too many calls of the embedder hang: no further worker is started."""
EMBEDDER_OPEN = "embedder_open"
"""The circuit breaker keeps requests away from an embedder that gave nothing lately."""
MODEL_UNKNOWN = "model_unknown"
"""The service has no model whose vectors could be compared with those of what is searched."""
ROUTER_FAILED = "router_failed"
"""The router raised; the query went direct."""
PROBE_TIMEOUT = "probe_timeout"
"""The signals of direct retrieval came too late; the router decided without."""
PROBE_FAILED = "probe_failed"
"""The signals of direct retrieval could not be had; the router decided without."""
CLOSED = "closed"
"""The engine is shutting down."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One query, read.

    Args:
        text: The query as it came.
        route: What it got; ``bm25``: no vector could be made, or the text is blank.
        vector: As sent to OpenSearch: the shortest decimals that give the same float32.
        keywords: Of all samples, the most agreed first.
        reasonings: The samples; empty where the query was not reasoned about.
        degraded: Codes of what went wrong, in the order it did.
        decision: Of the router; ``None`` where the route was forced.
        cached: Whether no model was asked for this request.
        timings_ms: ``embed``, ``route``, ``reason``: what this request waited for each; absent where it did not.
    """

    text: str
    route: Literal["direct", "reasoned", "bm25"]
    vector: tuple[float, ...] | None
    keywords: tuple[str, ...] = ()
    reasonings: tuple[Reasoning, ...] = ()
    degraded: tuple[str, ...] = ()
    decision: Decision | None = None
    cached: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)
