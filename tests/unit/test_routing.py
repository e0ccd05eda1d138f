from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrem_os import api, routing
from lrem_os.config import Settings, load_settings
from lrem_os.errors import DatasetError, TrainingError
from lrem_os.model.fake import FakeEmbedder, FakeReasoner
from lrem_os.query_plugin.routing.gate import load_gate
from lrem_os.query_plugin.routing.labels import Label, read_labels
from lrem_os.query_plugin.routing.precomputed import read_precomputed
from lrem_os.query_plugin.routing.signals import Leg, Signals
from lrem_os.train.router import GateOptions
from lrem_os.types import Hit, Query, Ranking


def settings(*overrides: str) -> Settings:
    return load_settings(None, ["model.name='fake:8'", "reasoning.name='fake:'", *overrides]).settings


def labels(num: int = 80) -> list[Label]:
    rng = np.random.default_rng(0)
    found = []
    for at in range(num):
        helped = at % 2 == 0
        score = 1.3 + 0.5 * (not helped) + 0.03 * rng.standard_normal()
        vector = rng.standard_normal(8).astype(np.float32)
        signals = Signals(Leg(("a",), (5.0,)), Leg(("a",), (score,)))
        gain = 0.4 if helped else -0.1
        kind = "qa" if helped else "easy"
        found.append(Label(f"q{at}", f"query {at}", kind, gain, vector / np.linalg.norm(vector), signals))
    return found


def write_labels(path: Path, rows: Sequence[Label]) -> Path:
    path.write_bytes(b"".join(row.line() for row in rows))
    return path


def ignore(_done: int, _total: int) -> None:
    pass


def test_a_gate_is_fitted_to_labels_and_read_again(tmp_path: Path) -> None:
    plan = routing.RouterPlan(tmp_path / "new" / "gate.json", None, write_labels(tmp_path / "l.jsonl", labels()))
    card = routing.train_router(settings(), plan, on_progress=ignore)
    assert card["held_out"]["after"]["auc_helped"] > 0.99
    assert card["held_out"]["before"]["auc_helped"] < 0.75  # the texts say nothing
    gate = load_gate(str(plan.out))
    assert gate.card == card
    assert gate.stage(with_signals=True).predict({"top_cosine": 0.3}).score > 0.5
    assert gate.stage(with_signals=True).predict({"top_cosine": 0.8}).score < 0.1
    assert gate.landmarks.vectors.shape == (20, 8)


def test_the_catalogs_words_are_remembered_when_it_is_given(tmp_path: Path) -> None:
    catalog = tmp_path / "c.jsonl"
    catalog.write_text('{"id": "1", "title": "Query tool", "brand": "Acme"}\n{"id": "2", "title": "Mug"}\n')
    path = write_labels(tmp_path / "l.jsonl", labels())
    plan = routing.RouterPlan(tmp_path / "gate.json", None, path, catalog=(str(catalog),))
    routing.train_router(settings(), plan, on_progress=ignore)
    lexicon = load_gate(str(plan.out)).landmarks.lexicon
    assert (lexicon.num_documents, lexicon.brands) == (2, {"acme"})
    assert lexicon.knows("tools")


def test_labels_of_two_models_are_refused() -> None:
    other = Label("x", "x", "qa", 0.1, np.ones(3, np.float32), Signals())
    with pytest.raises(TrainingError, match="different lengths"):
        routing.fit_gate([*labels(), other], GateOptions())


class Shop:
    """Stands for the index: reasoned answers find the product of a query, direct ones only that of short queries."""

    def __init__(self, reason: bool) -> None:
        self.client, self.index, self.setup = object(), "products", object()
        self.reason = reason
        self.asked: list[str] = []

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        self.asked += [query.text for query in queries]
        return [Ranking((Hit("p1" if self.reason or len(query.text) < 4 else "p0", 1.0),)) for query in queries]


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch) -> dict[bool, Shop]:
    found = {reason: Shop(reason) for reason in (False, True)}
    monkeypatch.setattr(api, "open_retriever", lambda *_args, reason=False, **_kw: found[reason])

    def probe(_client: object, _index: str, _setup: object, texts: Sequence[str], vectors: Any) -> list[Signals]:
        assert vectors.shape == (len(texts), 8)
        return [Signals(vector=Leg(("p1",), (1.0 + len(text) / 100,))) for text in texts]

    monkeypatch.setattr(routing, "ask_probe", probe)
    return found


def write_queries(path: Path, texts: Sequence[str]) -> Path:
    rows = [{"qid": f"q{at}", "query": text, "type": "qa", "positives": {"p1": 2}} for at, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"qid": "none", "query": "nothing fits"}]))
    return path


def measure(tmp_path: Path, texts: Sequence[str], gains: Path | None = None) -> list[Label]:
    path = tmp_path / "labels.jsonl"
    plan = routing.RouterPlan(tmp_path / "gate.json", write_queries(tmp_path / "q.jsonl", texts), path, gains)
    with pytest.raises(TrainingError, match="too few"):
        routing.train_router(settings(), plan, on_progress=ignore)
    return read_labels(path)


def test_gains_are_measured_with_and_without_reasoning(tmp_path: Path, shops: dict[bool, Shop]) -> None:
    found = measure(tmp_path, ["mug", "what helps against noise"])
    assert [(label.query, label.gain, label.direct) for label in found] == [
        ("mug", 0.0, 1.0),
        ("what helps against noise", 1.0, 0.0),
    ]
    assert found[0].signals.vector.scores == (1.03,)
    assert found[0].vector == pytest.approx(FakeEmbedder(8).embed_queries(["mug"])[0], abs=1e-4)


def test_a_killed_run_measures_what_is_missing(tmp_path: Path, shops: dict[bool, Shop]) -> None:
    measure(tmp_path, ["mug", "a long query"])
    path = tmp_path / "labels.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    shops[False].asked.clear()
    assert [label.query for label in measure(tmp_path, ["mug", "a long query", "another one"])] == [
        "mug",
        "a long query",
        "another one",
    ]
    assert shops[False].asked == ["a long query", "another one"]


def test_known_gains_are_not_measured_again(tmp_path: Path, shops: dict[bool, Shop]) -> None:
    gains = tmp_path / "gains.jsonl"
    gains.write_text('{"query": "a  long query", "gain": -0.5}\n')
    found = measure(tmp_path, ["mug", "a long query"], gains)
    assert [label.gain for label in found] == [0.0, -0.5]
    assert shops[True].asked == ["mug"]


def test_a_file_without_gains_is_refused(tmp_path: Path, shops: dict[bool, Shop]) -> None:
    gains = tmp_path / "gains.jsonl"
    gains.write_text('{"query": "mug"}\n')
    plan = routing.RouterPlan(tmp_path / "g.json", write_queries(tmp_path / "q.jsonl", ["mug"]), tmp_path / "l", gains)
    with pytest.raises(DatasetError, match="no file of gains"):
        routing.train_router(settings(), plan, on_progress=ignore)


def test_a_decision_is_explained_offline() -> None:
    found = routing.explain_route(settings(), "what do I put under a hot pot", offline=True)
    assert not found.with_signals
    assert 0 < found.decision.score < 1
    assert next(iter(found.contributions)) in found.decision.features
    assert set(found.contributions) == set(found.decision.features)


def test_a_decision_is_explained_with_the_probe(shops: dict[bool, Shop]) -> None:
    found = routing.explain_route(settings(), "what do I put under a hot pot")
    assert found.with_signals
    assert found.decision.features["top_cosine"] == pytest.approx(0.29)


def test_a_rule_asks_neither_model_nor_index() -> None:
    found = routing.explain_route(settings("route.deny=[mug]", "model.name=no/model"), "mug")
    assert found.decision.why == "denied"
    assert not found.contributions


def test_what_is_precomputed_is_what_the_models_say(tmp_path: Path) -> None:
    queries = tmp_path / "head.jsonl"
    queries.write_text('{"query": "usb"}\n{"query": "what do  I put under a hot pot"}\n{"query": " usb "}\n')
    out = tmp_path / "pre.jsonl"
    told: list[tuple[int, int]] = []
    counts = routing.precompute(settings(), queries, out, on_progress=lambda *done: told.append(done))
    assert counts == {"written": 2, "kept": 0}
    assert told == [(2, 2)]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    file = read_precomputed(out, fingerprint=rows[0]["fingerprint"], dimension=8)
    head, asked = file.get("usb"), file.get("what do I put under a hot pot")
    assert head is not None
    assert asked is not None
    assert head.keywords == ()
    assert head.vector == pytest.approx(FakeEmbedder(8).embed_queries(["usb"])[0].tolist())  # nothing to add
    assert asked.reasonings == FakeReasoner(8).reason(["what do I put under a hot pot"])[0]
    assert asked.keywords


def test_precomputing_goes_on_where_it_was(tmp_path: Path) -> None:
    queries, out = tmp_path / "head.jsonl", tmp_path / "pre.jsonl"
    queries.write_text('{"query": "usb"}\n{"query": "what helps against noise"}\n')
    routing.precompute(settings(), queries, out, on_progress=ignore)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert routing.precompute(settings(), queries, out, on_progress=ignore) == {"written": 1, "kept": 1}
    assert out.read_bytes() == whole
    other = settings("reasoning.query_weight=0.5")
    assert routing.precompute(other, queries, out, on_progress=ignore)["written"] == 2  # of other vectors
