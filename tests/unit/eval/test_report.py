from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from lrem_os.eval.evaluate import EvalResult, RunCard, RunResult
from lrem_os.eval.intervals import Estimate
from lrem_os.eval.report import Section, notes, sections, to_dict, to_markdown

ALL, EASY, NEGATIVE = Estimate(0.7124, 0.65, 0.7749, 3), Estimate(0.9, 0.8, 1.0, 2), Estimate(0.0, 0.0, 0.0, 1)
RESULT = EvalResult(
    runs={
        "bm25": RunResult(
            overall={"ndcg@10": ALL},
            by_type={"": {"ndcg@10": EASY}, "negative": {"ndcg@10": NEGATIVE}},
            per_query={"q1": {"ndcg@10": 0.5}},
            missing=("q7",),
            num_extra=1,
        ),
        "a|b": RunResult(
            overall={"ndcg@10": EASY},
            by_type={"": {"ndcg@10": EASY}, "negative": {"ndcg@10": NEGATIVE}},
            per_query={"q1": {"ndcg@10": 0.75}},
            missing=(),
            num_extra=0,
            difference={"ndcg@10": Estimate(0.06, -0.014, 0.126, 3)},
        ),
    },
    card=RunCard(
        num_queries=12,
        num_evaluated=3,
        unjudged=("u1",),
        without_relevant=("w1", "w2", "w3", "w4", "w5", "w6", "w7"),
        num_extra_judged=2,
        measures=("ndcg@10",),
        min_grade=2,
        resamples=2000,
        seed=5,
        baseline="bm25",
        checksums={"queries": "sha256:00"},
        system={"model": "fake:64"},
    ),
)
NOTES = [
    "mean [95% percentile bootstrap interval over queries, 2000 resamples, seed 5]",
    "relevant from grade 2 on (nDCG takes the grades as they are)",
    "left out: 7 queries (w1, w2, w3, w4, w5 and 2 more), judged without a relevant document "
    "(trec_eval counts them as 0)",
    "left out: 1 query (u1), not judged",
    "left out: judgments of 2 queries that the query file lacks",
    "counted 0: 1 query (q7), without a result in bm25",
    "left out: 1 query in bm25 that the query file lacks",
]


def test_sections() -> None:
    columns = ("measure", "bm25", "a|b")
    assert sections(RESULT) == [
        Section("all queries (n = 3)", columns, (("ndcg@10", "0.712 [0.65, 0.77]", "0.900 [0.80, 1.00]"),)),
        Section("(no type) (n = 2)", columns, (("ndcg@10", "0.900 [0.80, 1.00]", "0.900 [0.80, 1.00]"),)),
        Section("negative (n = 1)", columns, (("ndcg@10", "0.000 [0.00, 0.00]", "0.000 [0.00, 0.00]"),)),
        Section("difference to bm25 (n = 3)", ("measure", "a|b"), (("ndcg@10", "+0.060 [-0.01, +0.13]"),)),
    ]
    assert [section.title[:3] for section in sections(RESULT, by_type=False)] == ["all", "dif"]


def test_notes_name_all_that_was_left_out_or_counted_0() -> None:
    assert notes(RESULT) == NOTES


def test_nothing_left_out_nothing_said() -> None:
    card = replace(RESULT.card, unjudged=(), without_relevant=(), num_extra_judged=0, min_grade=1)
    run = replace(RESULT.runs["bm25"], missing=(), num_extra=0)
    assert notes(EvalResult({"bm25": run}, card)) == NOTES[:1]


def test_a_baseline_alone_has_no_difference() -> None:
    alone = EvalResult({"bm25": RESULT.runs["bm25"]}, RESULT.card)
    assert [section.title for section in sections(alone, by_type=False)] == ["all queries (n = 3)"]


def test_markdown() -> None:
    assert to_markdown(RESULT, by_type=False).split("\n") == [
        "### all queries (n = 3)",
        "",
        "| measure | bm25 | a\\|b |",
        "| --- | --- | --- |",
        "| ndcg@10 | 0.712 [0.65, 0.77] | 0.900 [0.80, 1.00] |",
        "",
        "### difference to bm25 (n = 3)",
        "",
        "| measure | a\\|b |",
        "| --- | --- |",
        "| ndcg@10 | +0.060 [-0.01, +0.13] |",
        "",
        *(f"- {note}" for note in NOTES),
        "- queries: `sha256:00`",
        "- model: fake:64",
        "",
    ]


def test_the_dict_is_json_and_holds_everything() -> None:
    value = orjson.loads(orjson.dumps(to_dict(RESULT)))
    assert list(value["runs"]) == ["bm25", "a|b"]
    assert value["runs"]["bm25"]["overall"]["ndcg@10"] == {
        "mean": 0.7124,
        "low": 0.65,
        "high": 0.7749,
        "num_queries": 3,
    }
    assert value["runs"]["bm25"]["by_type"]["negative"]["ndcg@10"]["num_queries"] == 1
    assert value["runs"]["bm25"]["per_query"] == {"q1": {"ndcg@10": 0.5}}
    assert value["runs"]["bm25"]["missing"] == ["q7"]
    assert value["runs"]["a|b"]["difference"]["ndcg@10"]["mean"] == pytest.approx(0.06)
    assert value["card"] == {
        "num_queries": 12,
        "num_evaluated": 3,
        "unjudged": ["u1"],
        "without_relevant": ["w1", "w2", "w3", "w4", "w5", "w6", "w7"],
        "num_extra_judged": 2,
        "measures": ["ndcg@10"],
        "min_grade": 2,
        "baseline": "bm25",
        "checksums": {"queries": "sha256:00"},
        "system": {"model": "fake:64"},
        "interval": {
            "method": "percentile bootstrap over queries",
            "confidence": 0.95,
            "resamples": 2000,
            "seed": 5,
        },
    }
