"""Runs as they are served, on a real node with fake models: names, a live service, what is kept, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.errors import ConfigError, LremError, QueryError, SearchUnavailable
from lrem_os.eval.result import EvalResult
from lrem_os.eval.runs import read_run
from lrem_os.model.fake import FakeReasoner
from tests.conftest import free_port
from tests.fakes.served import running

pytestmark = pytest.mark.opensearch

WORDS = ("red", "leather", "bag", "lamp", "trivet", "desk", "mug", "wool", "scarf", "pan")
QUERIES = {
    "q1": "red bag",
    "q2": "what do I put under a hot pot",
    "q3": "a warm wool scarf for my father",
    "q4": "  desk   lamp ",
    "q5": "something to drink tea from",
    "q6": "gift for somebody who cooks",
}


@pytest.fixture(scope="module")
def shop(opensearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Path]]:
    folder = tmp_path_factory.mktemp("shop")
    rows = [
        {"id": f"p{at:03d}", "title": f"{WORDS[at % 10]} {WORDS[at // 10 % 10]} {WORDS[(at * 7 + 3) % 10]} {at}"}
        for at in range(120)
    ]
    (folder / "shop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "q.jsonl").write_text(
        "".join(json.dumps({"qid": qid, "query": text}) + "\n" for qid, text in QUERIES.items())
    )
    (folder / "qrels.txt").write_text("".join(f"{qid} 0 p{at:03d} 1\n" for at, qid in enumerate(QUERIES)))
    settings = Settings.model_validate(
        {
            "model": {"name": "fake:384"},  # as long as the vectors that the gate which ships was trained with
            "reasoning": {"name": "fake:", "samples": 2},
            "search": {"hosts": [opensearch_url]},
            "index": {"name": f"test-eval-runs-{free_port()}"},
            "eval": {
                "bootstrap": 100,
                "top_k": 20,
                "runs": {
                    "textual": {"search": {"weights": [1.0, 0.0]}},
                    "bold": {"reason": True, "reasoning": {"query_weight": 0.0, "weights": [0.0, 1.0]}},
                    "half": {"route": "50%"},
                },
            },
            "serve": {"reason_deadline_ms": 600_000, "probe_deadline_ms": 600_000, "embed_deadline_ms": 600_000},
        }
    )
    assert api.ingest_catalog(settings, [str(folder / "shop.jsonl")]).indexed == len(rows)
    yield settings, folder
    for row in api.list_indices(settings):
        api.connect(settings).indices.delete(index=row["index"])


def evaluate(
    shop: tuple[Settings, Path], runs: list[str], settings: Settings | None = None, **options: Any
) -> EvalResult:
    configured, folder = shop
    files = {"queries": folder / "q.jsonl", "qrels": folder / "qrels.txt"}
    return api.evaluate(settings or configured, runs=runs, measures=["ndcg@10", "recall@20"], **files, **options)


def hits(folder: Path, run: str) -> dict[str, list[str]]:
    return {qid: [hit.doc_id for hit in found.hits] for qid, found in read_run(folder / f"{run}.jsonl").items()}


def test_every_kind_of_run_together(shop: tuple[Settings, Path], tmp_path: Path) -> None:
    names = ["bm25", "direct", "hybrid", "reasoned", "hybrid+reason", "routed@0%", "routed@50%", "routed@100%"]
    result = evaluate(shop, [*names, "half", "textual", "bold"], save_runs=tmp_path, curve="ndcg@10", baseline="direct")
    found = {name: hits(tmp_path, name) for name in result.runs}
    assert found["direct"] == found["hybrid"] == found["routed@0%"]
    assert found["reasoned"] == found["hybrid+reason"] == found["routed@100%"]
    assert found["half"] == found["routed@50%"]
    assert len({json.dumps(found[name]) for name in ("bm25", "direct", "reasoned", "textual", "bold")}) == 5
    traces = result.runs["routed@50%"].traces
    assert sorted(trace.route for trace in traces.values()) == ["direct"] * 3 + ["reasoned"] * 3
    for qid, trace in traces.items():
        assert found["routed@50%"][qid] == found[trace.route][qid]
        assert trace.latency_ms > 0
        assert 0 <= trace.score <= 1
    assert {trace.route for trace in result.runs["bm25"].traces.values()} == {"bm25"}
    cost = result.runs["reasoned"].cost
    assert cost is not None
    assert (cost["reasoned_share"], cost["latency_ms"]["p50"] > 0) == (1.0, True)
    assert result.curve is not None
    assert result.curve["num_queries"] == 6


def test_a_live_service_answers_as_the_run_of_its_route(shop: tuple[Settings, Path], tmp_path: Path) -> None:
    with running(shop[0], api.open_engine(shop[0]), shop[0].search.hosts[0]) as url:
        result = evaluate(shop, ["routed", f"live={url}", "direct"], save_runs=tmp_path)
        assert hits(tmp_path, "live") == hits(tmp_path, "routed")
        live, local = result.runs["live"].traces, result.runs["routed"].traces
        assert {qid: (one.route, one.keywords) for qid, one in live.items()} == {
            qid: (one.route, one.keywords) for qid, one in local.items()
        }
        assert "reasoned" in {one.route for one in live.values()}
        assert {qid: one.score for qid, one in live.items()} == pytest.approx(
            {qid: one.score for qid, one in local.items()}, abs=1e-6
        )
        assert result.card.system["live"] == url


def test_plain_opensearch_is_asked_as_direct(shop: tuple[Settings, Path], tmp_path: Path) -> None:
    evaluate(shop, ["direct", f"there={shop[0].search.hosts[0]}"], save_runs=tmp_path)
    assert hits(tmp_path, "there") == hits(tmp_path, "direct")


def scores(folder: Path, run: str) -> list[float]:
    return [float(line.split()[4]) for line in (folder / f"{run}.trec").read_text().splitlines()]


def test_concurrency_changes_no_answer(shop: tuple[Settings, Path], tmp_path: Path) -> None:
    for at_once in (1, 8):
        settings = shop[0].model_copy(update={"eval": shop[0].eval.model_copy(update={"concurrency": at_once})})
        evaluate(shop, ["bm25", "routed@50%"], settings, save_runs=tmp_path / str(at_once))
    for run in ("bm25", "routed@50%"):
        assert hits(tmp_path / "1", run) == hits(tmp_path / "8", run)
        # OpenSearch itself may answer with another last digit when its segments were merged in between
        assert scores(tmp_path / "8", run) == pytest.approx(scores(tmp_path / "1", run), rel=1e-4)


def test_what_is_kept_is_used_until_something_changes(
    shop: tuple[Settings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasoned: list[str] = []
    original = FakeReasoner.reason

    def counted(self: FakeReasoner, queries: Any) -> Any:
        reasoned.extend(query for query in queries if "warm up" not in query)
        return original(self, queries)

    monkeypatch.setattr(FakeReasoner, "reason", counted)
    settings, _ = shop
    runs = ["bm25", "direct", "reasoned", "routed@30%", "routed@50%", "routed@100%"]
    first = evaluate(shop, runs, save_runs=tmp_path)
    assert sorted(reasoned) == sorted(" ".join(text.split()) for text in QUERIES.values())  # once, for all runs
    again = evaluate(shop, runs, save_runs=tmp_path)
    assert {name: run.overall for name, run in again.runs.items()} == {
        name: run.overall for name, run in first.runs.items()
    }
    assert again.card.notes == (f"6 of 6 answers were kept from before in {tmp_path}: {', '.join(runs)}",)
    other = settings.model_copy(update={"search": settings.search.model_copy(update={"weights": (0.5, 0.5)})})
    changed = evaluate(shop, runs, other, save_runs=tmp_path)
    # other weights are other answers, but for the text leg, which has none
    assert changed.card.notes == (f"6 of 6 answers were kept from before in {tmp_path}: bm25",)
    (tmp_path / "more.jsonl").write_text('{"id": "p999", "title": "red bag for a hot pot"}\n')
    evaluate(shop, ["bm25"], save_runs=tmp_path / "other")
    api.ingest_catalog(settings, [str(tmp_path / "more.jsonl")])
    after = evaluate(shop, ["bm25"], save_runs=tmp_path / "other")
    assert not any("were kept" in note for note in after.card.notes)  # another index
    assert len(reasoned) == len(QUERIES)  # the reasonings themselves are the same all along


@pytest.mark.parametrize(
    ("runs", "changes", "error", "message"),
    [
        (["reasoned"], {"reasoning": {"name": None}}, ConfigError, "run 'reasoned': there is no reasoner"),
        (["routed"], {"search": {"mode": "bm25"}}, QueryError, "run 'routed': the router reads vectors"),
        (["direct"], {"eval": {"top_k": 500}}, QueryError, "run 'direct': 500 hits are asked for"),
        (["routed"], {"route": {"gate": "/nowhere.json"}}, LremError, "nowhere"),
        ([f"live=http://127.0.0.1:{free_port()}"], {}, SearchUnavailable, "run 'live': http://127.0.0.1"),
    ],
)
def test_what_cannot_be_retrieved_is_told_in_the_run_s_name(
    shop: tuple[Settings, Path], runs: list[str], changes: dict[str, Any], error: type[LremError], message: str
) -> None:
    settings = shop[0]
    for section, values in changes.items():
        part = getattr(settings, section)
        settings = settings.model_copy(update={section: part.model_copy(update=values)})
    with pytest.raises(error) as caught:
        evaluate(shop, runs, settings)
    assert message in str(caught.value)
