from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.cost import cost_of
from lrem_os.types import Trace


def test_a_routed_run_by_hand() -> None:
    traces = {
        "q1": Trace("direct", latency_ms=10.0),
        "q2": Trace("direct", latency_ms=20.0),
        "q3": Trace("direct", latency_ms=30.0),
        "q4": Trace("reasoned", ("mat",), ("probe_timeout",), 90, latency_ms=210.0, reason_ms=180.0),
    }
    assert cost_of(traces, gpu_hour_price=2.0, currency="EUR") == {
        "queries": 4,
        # between 10, 20, 30, 210 in three equal steps: p95 at 2.85 steps, p99 at 2.97
        "latency_ms": {
            "p50": 25.0,
            "p95": pytest.approx(30 + 0.85 * 180),
            "p99": pytest.approx(30 + 0.97 * 180),
            "mean": 67.5,
        },
        "by_route": {
            "direct": {
                "queries": 3,
                "share": 0.75,
                "p50": 20.0,
                "p95": pytest.approx(29.0),
                "p99": pytest.approx(29.8),
            },
            "reasoned": {"queries": 1, "share": 0.25, "p50": 210.0, "p95": 210.0, "p99": 210.0},
        },
        "reasoned_share": 0.25,
        "reasoning_tokens_per_query": 22.5,
        "reason_ms_per_query": 45.0,
        # 1,000 queries x 45 ms = 45 s of the machine = 0.0125 hours
        "price_per_1000": {"value": pytest.approx(0.025), "currency": "EUR", "per_gpu_hour": 2.0},
        "degraded": {"probe_timeout": 1},
    }


def test_without_a_price_there_is_none() -> None:
    found = cost_of({"q1": Trace("reasoned", reason_ms=10.0, latency_ms=11.0)})
    assert found is not None
    assert found["price_per_1000"] is None


def test_nothing_known_is_no_cost() -> None:
    assert cost_of({}) is None
    assert cost_of({"q1": Trace()}) is None


def test_a_route_without_latency_and_a_latency_without_route() -> None:
    found = cost_of({"q1": Trace("direct"), "q2": Trace(latency_ms=5.0)})
    assert found is not None
    assert found["by_route"] == {"direct": {"queries": 1, "share": 0.5, "p50": None, "p95": None, "p99": None}}
    assert found["latency_ms"] == {"p50": 5.0, "p95": 5.0, "p99": 5.0, "mean": 5.0}
    unknown = cost_of({"q1": Trace(latency_ms=5.0)})
    assert unknown is not None
    assert unknown["reasoned_share"] is None


def test_degradations_count_queries() -> None:
    found = cost_of({"a": Trace("bm25", degraded=("x", "x", "y")), "b": Trace("direct", degraded=("x",))})
    assert found is not None
    assert found["degraded"] == {"x": 2, "y": 1}


TRACES = st.builds(
    Trace,
    route=st.sampled_from(["direct", "reasoned", "bm25"]),
    latency_ms=st.floats(0, 1e6) | st.just(math.nan),
    reason_ms=st.floats(0, 1e6),
    reasoning_tokens=st.integers(0, 1000),
)


@given(st.dictionaries(st.text(max_size=3), TRACES, min_size=1, max_size=20), st.randoms())
def test_shares_add_up_percentiles_ascend_and_order_does_not_matter(traces: dict[str, Trace], random) -> None:  # type: ignore[no-untyped-def]
    found = cost_of(traces, gpu_hour_price=1.0)
    assert found is not None
    assert math.isclose(sum(route["share"] for route in found["by_route"].values()), 1)
    assert sum(route["queries"] for route in found["by_route"].values()) == len(traces)
    for part in (found["latency_ms"], *found["by_route"].values()):
        if part["p50"] is not None:
            assert part["p50"] <= part["p95"] <= part["p99"]
    items = list(traces.items())
    random.shuffle(items)
    assert cost_of(dict(items), gpu_hour_price=1.0) == found
