"""The query engine as ``lrem_os.api`` puts it together, on an OpenSearch in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrem_os import api, routing
from lrem_os.config import Settings, load_settings
from lrem_os.errors import ConfigError, IndexMismatch, IndexMissing
from lrem_os.ingest.run import IngestOptions
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.routing.features import FEATURES_VERSION
from lrem_os.query_plugin.routing.gate import FORMAT
from tests.fakes.mind import Mind
from tests.fakes.opensearch import FakeOpenSearch

QUERY = "what do I put under a hot pot"


@pytest.fixture
def fake() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as server:
        yield server


def stage(**weights: float) -> dict[str, Any]:
    num = len(weights)
    return {
        "features": list(weights),
        "means": [0.0] * num,
        "scales": [1.0] * num,
        "weights": list(weights.values()),
        "intercept": 3.0,
        "slope": 1.0,
        "shift": 0.0,
        "covariance": np.zeros((num + 1, num + 1)).tolist(),
        "gain_weights": [0.0] * num,
        "gain_intercept": 0.0,
        "reference": [0.1, 0.5, 0.9],
    }


@pytest.fixture
def settings(fake: FakeOpenSearch, tmp_path: Path) -> Settings:
    """A shop of one product, and a gate that wants everything to be reasoned about."""
    stages = {"before": stage(question=1.0), "after": stage(question=1.0, top_cosine=0.0)}
    gate = {"format": FORMAT, "features_version": FEATURES_VERSION, "stages": stages}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    (tmp_path / "shop.jsonl").write_text('{"id": "p1", "title": "trivet"}\n')
    return load_settings(
        None,
        [
            f"search.hosts=['{fake.url}']",
            "model.name='fake:8'",
            "reasoning.name='fake:'",
            "index.name=shop",
            f"route.gate='{tmp_path / 'gate.json'}'",
            "route.budget=fixed",
            "serve.shared_cache_ms=30000",
            "serve.reason_deadline_ms=60000",
            "serve.embed_deadline_ms=60000",
            "serve.probe_deadline_ms=60000",
        ],
    ).settings


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def read(engine: QueryEngine, text: str = QUERY, **options: Any) -> Reading:
    async def whole() -> Reading:
        try:
            await engine.warm_up()
            return await engine.read(text, **options)
        finally:
            await engine.aclose()

    return asyncio.run(whole())


def test_the_configured_models_answer(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(IndexMissing):
        api.open_engine(settings)
    api.ingest_catalog(settings, [str(tmp_path / "shop.jsonl")])
    reading = read(api.open_engine(settings))
    assert reading.route == "reasoned"
    assert reading.decision is not None
    assert reading.decision.why == "above_threshold"
    assert reading.degraded == ("probe_failed",)  # the fake knows no _msearch, and the gate can do without
    assert len(reading.reasonings) == settings.reasoning.samples
    with pytest.raises(IndexMismatch):
        api.open_engine(changed(settings, "model", name="fake:16"))


def test_what_one_engine_thought_the_next_need_not(settings: Settings, tmp_path: Path, fake: FakeOpenSearch) -> None:
    settings, mind = changed(settings, "serve", shared_cache="thoughts"), Mind()
    api.ingest_catalog(settings, [str(tmp_path / "shop.jsonl")], embedder=mind)
    readings = [read(api.open_engine(settings, embedder=mind), route="reasoned") for _ in range(2)]
    assert [reading.degraded for reading in readings] == [(), ()]
    assert readings[0].vector == readings[1].vector
    assert readings[0].keywords == readings[1].keywords == (f"about {QUERY}",)
    assert mind.reasoned.count(QUERY) == 1
    assert len(fake.indices["thoughts"].visible) == 1


def test_a_file_of_precomputed_queries_is_used(settings: Settings, tmp_path: Path) -> None:
    api.ingest_catalog(settings, [str(tmp_path / "shop.jsonl")])
    (tmp_path / "head.jsonl").write_text(json.dumps({"query_id": "q", "query": QUERY}) + "\n")
    routing.precompute(settings, tmp_path / "head.jsonl", tmp_path / "ready.jsonl", on_progress=lambda *_: None)
    thought = read(api.open_engine(settings), route="reasoned")
    ready = read(api.open_engine(changed(settings, "route", precomputed=tmp_path / "ready.jsonl")))
    assert (ready.cached, ready.decision, ready.degraded, ready.timings_ms) == (True, None, (), {})
    assert (ready.vector, ready.keywords, ready.reasonings) == (thought.vector, thought.keywords, thought.reasonings)


def test_without_a_reasoner_everything_goes_direct(settings: Settings, tmp_path: Path) -> None:
    api.ingest_catalog(settings, [str(tmp_path / "shop.jsonl")])
    engine = api.open_engine(changed(settings, "reasoning", name=None))
    assert engine.state().reasoner == "none"
    reading = read(engine)
    assert (reading.route, reading.degraded) == ("direct", ())


def test_a_slow_batch_must_not_count_as_hung(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"serve\.reason_limit_s is 60"):
        api.open_engine(changed(settings, "serve", reason_limit_s=60.0))


def test_an_engine_for_each_model_whichever_the_index_is_from(settings: Settings, tmp_path: Path) -> None:
    both = load_settings(
        None,
        [
            f"search.hosts={list(settings.search.hosts)}",
            "index.name=shop",
            "model.name='fake:8'",
            "serve.models={next: {model: {name: 'fake:16'}}}",
        ],
    ).settings
    api.ingest_catalog(settings, [str(tmp_path / "shop.jsonl")])
    first = api.open_engines(both)
    assert len(first.by_model) == 2
    sizes = {model: len(read(engine).vector or ()) for model, engine in first.by_model.items()}
    assert sorted(sizes.values()) == [8, 16]
    assert sizes[first.configured] == 8

    api.ingest_catalog(
        changed(settings, "model", name="fake:16"), [str(tmp_path / "shop.jsonl")], IngestOptions(recreate=True)
    )
    assert api.open_engines(both).configured == first.configured  # though the index is the other's now
    with pytest.raises(IndexMismatch):
        api.open_engines(settings)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{next: {model: {nme: x}}}", r"--set: serve\.models\.next\.model\.nme is no key"),
        ("{next: {model: {pooling: max}}}", r"--set: serve\.models\.next\.model\.pooling is 'max'"),
        ("{next: {model: {api_key: x}}}", r"serve\.models\.next\.model\.api_key is the same for all"),
        ("{next: {reasoning: {samples: 3}}}", r"serve\.models is .*model: Field required"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_by_its_key(written: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings(None, [f"serve.models={written}"])
