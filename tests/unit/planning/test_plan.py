from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lrem_os.config import Settings
from lrem_os.errors import ConfigError
from lrem_os.planning import gpu as gpus
from lrem_os.planning.calibration import Calibration, Calls, Cluster
from lrem_os.planning.plan import (
    Demand,
    Models,
    Plan,
    make_plan,
    missed_share,
    models_of,
    rate_of_reasoner,
    simulate_service,
)
from lrem_os.planning.run import estimated_models, plan_for
from lrem_os.planning.simulate import Costs

CALIBRATION = Calibration(
    machine="a machine of a test",
    date="2026-01-01T00:00Z",
    version="0",
    load_before=0,
    device="gpu",
    cores=8,
    model="fake:384",
    dimension=384,
    embed_queries=Calls(points=((1, 0.002), (64, 0.010))),
    embed_items_per_s=1000,
    reason=Calls(points=((1, 0.040), (16, 0.080))),
    service_cpu_ms=3,
    cluster=Cluster(
        items=10_000,
        bulk_per_s=2000,
        cores=2,
        search_ms=(8.0, 10.0, 14.0),
        search_cpu_ms=10,
        probe=Calls(points=((1, 0.008), (16, 0.040))),
        vector_bytes=1700,
        other_bytes=1500,
    ),
)
DEMAND = Demand(items=10_000_000, qps=400, hard_share=0.2, repeat_share=0.0, queries=400)


def planned(demand: Demand = DEMAND, calibration: Calibration = CALIBRATION, **serve: float) -> Plan:
    settings = Settings.model_validate({"serve": serve})
    return make_plan(demand, settings, calibration, models_of(calibration, "measured"), "measured")


def test_a_plan_has_every_number_and_they_fit_together() -> None:
    found = planned(replace(DEMAND, node_hour=1.0, service_hour=2.0))
    index_bytes = 10_000_000 * (1.1 * (4 * 384 + 8 * 16) + 1500)
    assert found.value("index", "disk_gb") == pytest.approx(2 * index_bytes / 1e9)
    assert found.value("index", "shards") == math.ceil(index_bytes / 30e9)
    nodes, services = found.value("nodes", "nodes"), found.value("services", "services")
    assert nodes is not None
    assert services is not None
    limits = [found.value("nodes", name) for name in ("for_memory", "for_disk", "for_search")]
    assert nodes == max(limit for limit in limits if limit is not None)
    assert found.value("ingest", "embed_hours_on_one") == pytest.approx(10_000_000 / 1000 / 3600)
    assert found.value("price", "per_hour") == pytest.approx(nodes + 2 * services)
    assert found.value("price", "per_1000_queries") == pytest.approx((nodes + 2 * services) / (200 * 3600) * 1000)
    assert found.warnings == ()
    assert [row.name for row in found.storages if row.chosen] == ["lucene"]


def test_so_many_services_reason_in_time_and_half_of_them_do_not() -> None:
    light = CALIBRATION.model_copy(update={"service_cpu_ms": 0.2})
    demand = replace(DEMAND, qps=4000, queries=800)
    found = planned(demand, light)
    services, missed = found.value("services", "services"), found.value("services", "missed_share")
    assert services is not None
    assert missed is not None
    assert services >= 4000 * 0.2 / (16 / 0.080)  # or the queues would grow for ever
    assert missed <= demand.max_missed
    assert found.simulated is not None
    assert found.simulated.reasoned_share == pytest.approx(0.2, abs=0.04)
    cluster = light.cluster
    assert cluster is not None
    costs = Costs(light.embed_queries, light.reason, 0.2, cluster.search_ms, cluster.probe, models="gpu", cores=8)
    half = simulate_service(demand, Settings(), replace(costs, search_cores=math.inf), int(services) // 2)
    assert missed_share(half) > 0.2


def test_no_number_of_services_makes_a_slow_reasoner_fast() -> None:
    found = planned(reason_deadline_ms=30)
    assert found.value("services", "services") is None
    assert "no number of services" in found.warnings[0]
    assert found.simulated is None
    assert found.value("price", "node_hours_per_million") is not None


def test_without_hard_queries_or_a_reasoner_services_are_planned_for_their_cpu() -> None:
    for demand, calibration in (
        (replace(DEMAND, hard_share=0.0), CALIBRATION),
        (DEMAND, CALIBRATION.model_copy(update={"reason": None})),
    ):
        assert planned(demand, calibration).value("services", "services") == math.ceil(400 * 0.003 / 0.6)


def test_more_queries_need_more_and_own_numbers_are_taken() -> None:
    demand = replace(DEMAND, queries=0)
    once, more = planned(demand), planned(replace(demand, qps=4000))
    for section, name in (("nodes", "for_search"), ("services", "services")):
        assert (more.value(section, name) or 0) > (once.value(section, name) or 0)
    given = planned(replace(demand, search_cpu_ms=1.0, other_bytes=0.0))
    assert given.value("index", "search_cpu_ms") == 1.0
    assert next(line.basis for line in given.lines if line.name == "search_cpu_ms") == "given"
    assert (given.value("index", "disk_gb") or 0) < (once.value("index", "disk_gb") or 0)


def test_a_calibration_of_models_alone_plans_nothing() -> None:
    with pytest.raises(ConfigError, match="no values of OpenSearch"):
        planned(calibration=CALIBRATION.model_copy(update={"cluster": None}))


def test_the_rate_of_a_reasoner() -> None:
    costs = Costs(embed=CALIBRATION.embed_queries, reason=CALIBRATION.reason, service_ms=1, search_ms=[1.0])
    rate, batch = rate_of_reasoner(costs, deadline_s=0.120, most=16)
    assert batch == 16  # 1.5 × 80 ms
    assert rate == pytest.approx(16 / 0.080)
    assert rate_of_reasoner(costs, deadline_s=0.061, most=16)[1] == 1
    assert rate_of_reasoner(costs, deadline_s=0.050, most=16) == (0.0, 0)


def test_a_gpu_is_estimated_from_its_data_sheet() -> None:
    slow, fast = gpus.GPUS["t4"], gpus.GPUS["h100"]
    model = gpus.SMALL_REASONER
    weights_s = model.parameters * 2 / fast.bytes_per_s
    assert gpus.forward_s(fast, model, 1, 0, "vllm") > weights_s  # nothing is faster than reading the weights
    large = gpus.Model(7e9, 32, 1024)
    for tokens in (1, 64, 4096):
        times = [gpus.forward_s(gpu, large, tokens, tokens * 100, "vllm") for gpu in (slow, fast)]
        assert times[0] > times[1]
    vllm, transformers = (
        gpus.estimate_reasoning(
            fast, model, gpus.SMALL_EMBEDDER, samples=8, prompt_tokens=60, new_tokens=24, backend=backend
        )
        for backend in ("vllm", "transformers")
    )
    assert vllm.seconds(1) < transformers.seconds(1)
    assert vllm.seconds(64) > vllm.seconds(1)
    items = [gpus.estimate_items_per_s(gpu, gpus.SMALL_EMBEDDER, item_tokens=80) for gpu in (slow, fast)]
    assert items[1] > items[0]


def test_models_of_a_gpu_say_that_they_are_estimates() -> None:
    settings = Settings.model_validate({"reasoning": {"backend": "openai", "url": "http://there/v1", "name": "one"}})
    small: Models = estimated_models(settings, "l4", 135e6)
    large = estimated_models(settings, "l4", 1.7e9)
    assert small.basis == "estimate"
    assert small.reason is not None
    assert large.reason is not None
    assert large.reason.seconds(4) > small.reason.seconds(4)
    silent = Settings.model_validate({"model": {"name": "fake:8"}})
    assert estimated_models(silent, "l4", 135e6).reason is None


def test_the_calibration_that_ships_is_named() -> None:
    found, told = plan_for(Settings(), replace(DEMAND, queries=0), gpu="l4")
    assert "ships with lrem-os" in told
    assert {line.basis for line in found.lines} >= {"reference", "estimate", "formula"}
