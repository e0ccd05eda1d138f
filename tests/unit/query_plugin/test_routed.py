"""The readers of an evaluation: which queries they reason about, and that what they ask is what the service asks."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import Settings
from lrem_os.config_query import RouteSettings
from lrem_os.model.load import Models
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.readings import Readings
from lrem_os.query_plugin.retriever import build_retriever
from lrem_os.query_plugin.routed import Always, ByRouter, ByShare, ServedReader, build_reader
from lrem_os.query_plugin.routing.budget import FixedBudget, ShareBudget
from lrem_os.query_plugin.routing.features import Landmarks
from lrem_os.query_plugin.routing.gate import Gate, Stage
from lrem_os.query_plugin.routing.router import GateRouter
from lrem_os.query_plugin.routing.signals import Leg, Signals
from lrem_os.search.client import ServerInfo
from lrem_os.types import Query, Vectors
from tests.fakes.mind import Mind
from tests.fakes.service import Service

INFO = ServerInfo((3, 6, 0), frozenset({"opensearch-knn", "opensearch-neural-search"}))


def stage(name: str) -> Stage:
    one = np.ones(1)
    reference = tuple(at / 100 for at in range(101))
    return Stage((name,), one * 0.5, one * 0.1, -one, 0.0, 1.0, 0.0, 0.01 * np.eye(2), one * -0.02, 0.03, reference)


GATE = Gate({"before": stage("question"), "after": stage("top_cosine")}, Landmarks(), {})


def cosine_of(text: str) -> float:
    """Return how well direct retrieval likes a text: the digits at its end, in hundredths."""
    digits = "".join(char for char in text if char.isdigit())
    return int(digits or 50) / 100


def probe(texts: Sequence[str], vectors: Vectors) -> list[Signals]:
    assert vectors.shape == (len(texts), 8)
    return [Signals(Leg(("a",), (9.0,)), Leg(("a",), (1 + cosine_of(text),))) for text in texts]


def router(budget: Any = None, **lists: tuple[str, ...]) -> GateRouter:
    return GateRouter(GATE, budget or FixedBudget(0.5), FixedBudget(0.9), **lists)


def readings(mind: Mind | None = None, **options: Any) -> Readings:
    settings = Settings()
    models = Models(settings.model, settings.reasoning, embedder=mind or Mind())
    return Readings(models, settings.reasoning, probe, **options)


def reasoned(policy: Any, texts: Sequence[str]) -> list[str]:
    return [text for text, choice in zip(texts, policy.choose(texts), strict=True) if choice.reasoned]


TEXTS = [f"query {at:02d}" for at in range(10, 60, 5)]  # ten of them; the lower the number, the more is to gain


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.05, 0), (0.1, 1), (0.3, 3), (0.39, 3), (0.7, 7), (1.0, 10)])
def test_a_share_is_kept_to_the_query_and_takes_the_highest_scores(share: float, num: int) -> None:
    policy = ByShare(router(), readings(), TEXTS, share)
    assert reasoned(policy, TEXTS) == TEXTS[:num]


def test_equal_scores_go_by_text_whatever_the_order() -> None:
    texts = ["b 20", "a 20", "c 20", "d 10"]
    for given_order in (texts, texts[::-1]):
        policy = ByShare(router(), readings(), given_order, 0.5)
        assert sorted(reasoned(policy, texts)) == ["a 20", "d 10"]


def test_a_text_that_comes_twice_spends_twice() -> None:
    texts = ["a 10", "a 10", "a 10", "b 20"]
    assert reasoned(ByShare(router(), readings(), texts, 0.5), ["a 10", "b 20"]) == []
    assert reasoned(ByShare(router(), readings(), texts, 0.75), ["a 10", "b 20"]) == ["a 10"]


def test_rules_come_before_scores_and_spend_the_budget() -> None:
    policy = ByShare(router(allow=("*55",), deny=("*10",)), readings(), TEXTS, 0.3)
    assert sorted(reasoned(policy, TEXTS)) == ["query 15", "query 20", "query 55"]


def test_a_text_outside_the_set_is_held_against_the_lowest_score_in_it() -> None:
    policy = ByShare(router(), readings(), TEXTS, 0.3)  # down to query 20
    assert reasoned(policy, ["other 19", "other 20", "other 21"]) == ["other 19", "other 20"]


def test_the_configured_budget_moves_from_query_to_query_as_in_the_service() -> None:
    budget = ShareBudget(0.3, window=10, reference=[at / 100 for at in range(101)])
    expected = router(ShareBudget(0.3, window=10, reference=[at / 100 for at in range(101)]))
    mind = Mind()
    signals = probe(TEXTS, mind.embed_queries(TEXTS))
    by_hand = [
        text
        for text, vector, found in zip(TEXTS, mind.embed_queries(TEXTS), signals, strict=True)
        if expected.decide(text, vector, found).reasoned
    ]
    policy = ByRouter(router(budget), readings(), TEXTS)
    assert reasoned(policy, TEXTS) == by_hand
    assert reasoned(policy, TEXTS[::-1]) == by_hand[::-1]  # decided once, whoever asks again
    assert 0 < len(by_hand) < len(TEXTS)


def test_texts_beyond_the_set_are_held_against_one_threshold_in_whatever_order() -> None:
    variants = [f"variant {number}" for number in range(100)]
    first, second = (ByRouter(router(ShareBudget(0.3, window=20)), readings(), TEXTS) for _ in range(2))
    assert sorted(reasoned(first, variants)) == sorted(reasoned(second, variants[::-1]))
    chosen = [cosine_of(text) for text in reasoned(first, variants)]
    left = [cosine_of(text) for text in variants if text not in reasoned(first, variants)]
    assert max(chosen) < min(left)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=30), st.floats(0, 1), st.randoms())
def test_any_set_and_share(numbers: list[int], share: float, random: Any) -> None:
    texts = [f"query {number}" for number in numbers]
    chosen = reasoned(ByShare(router(), readings(), texts, share), texts)
    assert len(chosen) <= share * len(texts) + 1e-6
    lowest = max((cosine_of(text) for text in chosen), default=-1)
    left = [cosine_of(text) for text in texts if text not in chosen]
    assert all(cosine >= lowest for cosine in left)
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert sorted(reasoned(ByShare(router(), readings(), shuffled, share), shuffled)) == sorted(chosen)


def test_runs_share_vectors_reasonings_and_probes() -> None:
    mind, probed = Mind(), []

    def counting(texts: Sequence[str], vectors: Vectors) -> list[Signals]:
        probed.extend(texts)
        return probe(texts, vectors)

    settings = Settings()
    shared = Readings(Models(settings.model, settings.reasoning, embedder=mind), settings.reasoning, counting)
    policies = [Always(False), Always(True), *(ByShare(router(), shared, TEXTS, at / 10) for at in (1, 3, 5, 7, 9))]
    for policy in policies:
        ServedReader(shared, policy).read(TEXTS)
    assert sorted(mind.reasoned) == sorted(TEXTS)
    assert sorted(text for text in mind.embedded if text != "warm up") == sorted(TEXTS)
    assert probed == TEXTS


def test_what_a_read_tells() -> None:
    reader = ServedReader(readings(), ByShare(router(), readings(), TEXTS, 0.1))
    first, last = reader.read([TEXTS[0], TEXTS[-1]])
    assert (first.route, first.keywords, last.route, last.keywords) == ("reasoned", ("about query 10",), "direct", ())
    assert 0.9 < first.score > last.score > 0
    assert 0 < first.own_reason_ms <= first.own_ms
    assert last.own_reason_ms == 0 < last.own_ms
    [direct] = ServedReader(readings(), Always(False)).read(["bag"])
    assert math.isnan(direct.score)


def test_what_was_computed_ahead_of_time_asks_no_model_and_no_router(tmp_path: Path) -> None:
    first = readings(kept=tmp_path / "ahead.jsonl")
    [known] = first.reasonings(["gift for mother"])
    mind = Mind()
    reader = build_reader(readings(mind, ahead=tmp_path / "ahead.jsonl"), RouteSettings(), [], reasoned=True)
    [read] = reader.read([" gift  for mother"])
    assert (read.route, tuple(read.vector or ()), read.keywords) == ("reasoned", known.vector, known.keywords)
    assert (read.own_ms, mind.reasoned) == (0.0, [])
    [plain] = build_reader(readings(mind, ahead=tmp_path / "ahead.jsonl"), RouteSettings(), []).read(
        ["gift for mother"]
    )
    assert plain.route == "direct"


SERVED = [
    "red mug 90",
    "what helps me sleep? 10",
    "nothing",
    "  what   is\tthis? 20",
    "Cafe\u0301 au lait 30",
    "a" * 300,
]


@pytest.mark.parametrize("route", ["direct", "reasoned", "auto"])
@pytest.mark.parametrize("mode", ["hybrid", "vector"])
@pytest.mark.parametrize("keywords", [True, False])
def test_what_is_asked_is_what_the_service_asks(route: str, mode: str, keywords: bool) -> None:
    settings = Settings.model_validate(
        {
            "search": {"mode": mode},
            "serve": {"keywords": keywords, "reason_deadline_ms": 60_000, "probe_deadline_ms": 60_000},
        }
    )

    async def ask() -> list[dict[str, Any]]:
        mind = Mind()
        engine = QueryEngine(mind, settings.serve, reasoner=mind, router=router(), probe=probe)
        service = Service(settings, engine)  # type: ignore[arg-type]
        bodies = []
        for text in SERVED:
            path = f"/{settings.index.name}/_search"
            answer = await service.ask("GET", path, params={"q": text, "size": "10", "lrem.route": route})
            assert answer.status_code == 200
            bodies.append(json.loads(service.cluster.requests[-1].content))
        await service.aclose()
        await engine.aclose()
        return bodies

    shared = readings()
    policies = {"direct": Always(False), "reasoned": Always(True), "auto": ByRouter(router(), shared, SERVED)}
    retriever = build_retriever(
        None,  # type: ignore[arg-type]
        INFO,
        Mind(),
        catalog=settings.catalog,
        index=settings.index,
        search=settings.search,
        mode=settings.search.mode,
        with_source=True,
        reasoning=settings.reasoning,
    )
    ours = replace(
        retriever,
        reader=ServedReader(shared, policies[route]),
        reasoned=retriever.reasoned if keywords else None,
    )
    for text, body in zip(SERVED, asyncio.run(ask()), strict=True):
        page = {"from", "size"}  # the service asks for the page alone, and orders no ties beyond it
        assert {name: value for name, value in ours.body(text).items() if name not in page} == {
            name: value for name, value in body.items() if name not in page
        }


class Cluster:
    """Answers each search with one hit named by its text, later ones sooner; counts what is asked at once."""

    def __init__(self) -> None:
        self.num_searches = 0

    def search(self, *, index: str, body: dict[str, Any]) -> dict[str, Any]:
        self.num_searches += 1
        [query] = [leg for leg in body["query"]["hybrid"]["queries"] if "knn" not in leg]
        told = json.dumps(query)
        return {"took": 1, "hits": {"hits": [{"_id": told, "_score": 1.0}]}}


@pytest.mark.parametrize("concurrency", [1, 7])
def test_answers_stay_with_their_queries_however_many_are_asked_at_once(concurrency: int) -> None:
    settings, cluster = Settings(), Cluster()
    retriever = replace(
        build_retriever(
            cluster,  # type: ignore[arg-type]
            INFO,
            Mind(),
            catalog=settings.catalog,
            index=settings.index,
            search=settings.search,
            reasoning=settings.reasoning,
        ),
        reader=ServedReader(readings(), ByShare(router(), readings(), TEXTS, 0.3)),
        concurrency=concurrency,
    )
    found = retriever.retrieve([Query(text, text) for text in TEXTS], top_k=5)
    assert cluster.num_searches == len(TEXTS)
    for text, ranking in zip(TEXTS, found, strict=True):
        assert json.dumps(text) in ranking.hits[0].doc_id
        assert ranking.trace is not None
        assert ranking.trace.route == ("reasoned" if text in TEXTS[:3] else "direct")
        assert ranking.trace.latency_ms > ranking.trace.reason_ms >= 0
        assert ranking.trace.keywords == ((f"about {text}",) if text in TEXTS[:3] else ())
