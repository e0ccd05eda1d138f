"""Calibration on a real node: an index of its own, searches, the service; and nothing is left behind."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from lrem_os.config import Settings
from lrem_os.planning.plan import Demand, make_plan, models_of
from lrem_os.planning.run import calibrate_here

pytestmark = pytest.mark.opensearch


def indices(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/_cat/indices?format=json&expand_wildcards=all") as answer:
        return {row["index"] for row in json.load(answer) if row["index"].startswith("lrem-os-plan-")}


def test_a_machine_is_calibrated_with_its_cluster_and_planned_for(
    opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.model_validate(
        {"search": {"hosts": [opensearch_url]}, "model": {"name": "fake:64"}, "reasoning": {"name": "fake:"}}
    )
    told: list[str] = []
    found = calibrate_here(settings, num_items=500, on_progress=told.append)
    assert found.cluster is not None
    assert found.cluster.items == 500
    assert found.cluster.vector_bytes >= 4 * 64  # the vectors themselves
    assert found.cluster.search_ms == tuple(sorted(found.cluster.search_ms))
    assert found.service_cpu_ms is not None
    assert indices(opensearch_url) == set()
    assert list(tmp_path.iterdir()) == []
    assert told[-1] == "service"
    demand = Demand(items=1_000_000, qps=5, hard_share=0.2, queries=0)
    plan = make_plan(demand, settings, found, models_of(found, "measured"), "measured")
    assert (plan.value("services", "services") or 0) >= 1
