from __future__ import annotations

import math
from dataclasses import replace

import orjson
import pytest

from lrem_os.errors import InputError
from lrem_os.eval.intervals import Estimate
from lrem_os.eval.report import Section, check_slices, notes, sections, to_dict, to_markdown
from lrem_os.eval.result import Comparison, EvalResult, RunCard, RunResult
from lrem_os.types import Query, Trace

ALL, EASY, NEGATIVE = Estimate(0.7124, 0.65, 0.7749, 3), Estimate(0.9, 0.8, 1.0, 2), Estimate(0.0, 0.0, 0.0, 1)
RESULT = EvalResult(
    runs={
        "bm25": RunResult(
            overall={"ndcg@10": ALL},
            slices={"type": {"": {"ndcg@10": EASY}, "negative": {"ndcg@10": NEGATIVE}}},
            per_query={"q1": {"ndcg@10": 0.5}},
            missing=("q7",),
            num_extra=1,
        ),
        "a|b": RunResult(
            overall={"ndcg@10": replace(EASY, num_queries=3)},
            slices={"type": {"": {"ndcg@10": EASY}, "negative": {"ndcg@10": NEGATIVE}}},
            per_query={"q1": {"ndcg@10": 0.75}},
            missing=(),
            num_extra=0,
            difference={"ndcg@10": Estimate(0.06, -0.014, 0.126, 3)},
            comparison={"ndcg@10": Comparison(0.2, 0.4, 0.51, 1, 1, 1, 0.019, False)},
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
        permutations=10_000,
        relevant_difference=0.02,
        date="2026-11-21T20:00:00+00:00",
        version="1.2.3",
        commit="0123abc",
        config_hash="cafe",
        notes=("the log had 2 duplicates",),
        checksums={"queries": "sha256:00"},
        system={"model": "fake:64"},
    ),
)
AGAINST = "against bm25: p after Holm (*: below 0.05), effect size, won/tied/lost"
HOW = (
    "p: paired randomisation test (10000 permutations, seed 5; exact where there are fewer), two-sided, after Holm's "
    "correction over {} comparisons; effect size: mean over standard deviation of the paired differences"
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
    HOW.format(1),
    "the log had 2 duplicates",
]


def test_sections() -> None:
    columns = ("measure", "bm25", "a|b")
    assert sections(RESULT) == [
        Section("all queries (n = 3)", columns, (("ndcg@10", "0.712 [0.65, 0.77]", "0.900 [0.80, 1.00]"),)),
        Section("type: none (n = 2)", columns, (("ndcg@10", "0.900 [0.80, 1.00]", "0.900 [0.80, 1.00]"),)),
        Section("type: negative (n = 1)", columns, (("ndcg@10", "0.000 [0.00, 0.00]", "0.000 [0.00, 0.00]"),)),
        Section("difference to bm25 (n = 3)", ("measure", "a|b"), (("ndcg@10", "+0.060 [-0.01, +0.13]"),)),
        Section(AGAINST, ("measure", "a|b"), (("ndcg@10", "p 0.400, +0.51, 1/1/1"),)),
    ]
    assert [section.title[:3] for section in sections(RESULT, slices=())] == ["all", "dif", "aga"]


def test_notes_name_all_that_was_left_out_or_counted_0() -> None:
    assert notes(RESULT) == NOTES


def test_nothing_left_out_nothing_said() -> None:
    card = replace(RESULT.card, unjudged=(), without_relevant=(), num_extra_judged=0, min_grade=1, notes=())
    run = replace(RESULT.runs["bm25"], missing=(), num_extra=0)
    assert notes(EvalResult({"bm25": run}, card)) == NOTES[:1]


def test_a_baseline_alone_has_no_difference() -> None:
    alone = EvalResult({"bm25": RESULT.runs["bm25"]}, RESULT.card)
    assert [section.title for section in sections(alone, slices=())] == ["all queries (n = 3)"]


def test_markdown() -> None:
    assert to_markdown(RESULT, slices=()).split("\n") == [
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
        f"### {AGAINST}",
        "",
        "| measure | a\\|b |",
        "| --- | --- |",
        "| ndcg@10 | p 0.400, +0.51, 1/1/1 |",
        "",
        *(f"- {note}" for note in NOTES),
        "- queries: `sha256:00`",
        "- model: fake:64",
        "",
    ]


def test_tests_against_the_baseline_have_a_table_and_their_sentences() -> None:
    shown = Comparison(0.0001, 0.0004, 0.51, 2, 1, 0, 0.019, False)
    weak = Comparison(0.2, 0.4, math.nan, 1, 1, 1, 0.08123, True)
    run = replace(RESULT.runs["a|b"], comparison={"ndcg@10": shown, "mrr@10": weak}, depth=5)
    card = replace(RESULT.card, measures=("ndcg@10", "mrr@10", "map@5"))
    result = EvalResult({"bm25": RESULT.runs["bm25"], "a|b": run}, card)
    assert sections(result, slices=())[-1].rows == (
        ("ndcg@10", "p 0.000*, +0.51, 2/1/0"),
        ("mrr@10", "p 0.400, –, 1/1/1"),
        ("map@5", "–"),
    )
    assert notes(result)[-4:] == [
        "a|b holds at most 5 results a query: ndcg@10, mrr@10 look no deeper than that",
        HOW.format(2),
        "underpowered: a|b against bm25 in mrr@10 (0.081): in brackets the smallest difference that so many queries "
        "show in 80% of cases, while 0.02 would matter; that nothing was shown does not mean that there is nothing",
        "the log had 2 duplicates",
    ]
    assert "p: paired t-test, two-sided" in "".join(notes(replace(result, card=replace(card, test="t"))))


def test_a_run_with_the_baselines_values_is_not_called_underpowered() -> None:
    same, weak = Comparison(1.0, 1.0, math.nan, 0, 3, 0, math.nan, True), Comparison(0.2, 0.4, 0.1, 1, 1, 1, 0.08, True)
    run = replace(RESULT.runs["a|b"], comparison={"ndcg@10": same, "mrr@10": weak})
    told = notes(EvalResult({"bm25": RESULT.runs["bm25"], "a|b": run}, RESULT.card))
    assert "a|b has the values of bm25 on every query in ndcg@10" in told
    (line,) = [line for line in told if line.startswith("underpowered")]
    assert line.startswith("underpowered: a|b against bm25 in mrr@10 (0.080):")


def test_what_json_has_no_number_for_is_null() -> None:
    weak = Comparison(1.0, 1.0, math.nan, 0, 1, 0, math.nan, True)
    traces, cost = {"q1": Trace("direct")}, {"p": math.inf, "l": (1.0,)}
    run = replace(RESULT.runs["bm25"], comparison={"ndcg@10": weak}, traces=traces, cost=cost)
    value = to_dict(EvalResult({"bm25": run}, RESULT.card, queries=(Query("q1", "bag", "easy", 3.0), Query("q2", ""))))
    assert value == orjson.loads(orjson.dumps(value))
    assert value["runs"]["bm25"]["comparison"]["ndcg@10"] == {
        "p_value": 1.0,
        "p_adjusted": 1.0,
        "effect_size": None,
        "wins": 0,
        "ties": 1,
        "losses": 0,
        "minimum_detectable": None,
        "underpowered": True,
    }
    assert value["runs"]["bm25"]["cost"] == {"p": None, "l": [1.0]}
    assert value["runs"]["bm25"]["traces"]["q1"] == {
        "route": "direct",
        "keywords": [],
        "degraded": [],
        "reasoning_tokens": 0,
        "latency_ms": None,
        "reason_ms": 0.0,
        "score": None,
    }
    assert value["queries"] == {
        "q1": {"text": "bag", "type": "easy", "frequency": 3.0},
        "q2": {"text": None, "type": "", "frequency": 1.0},
    }


def test_slices_are_checked() -> None:
    assert check_slices(["route", "type", "route"]) == ["route", "type"]
    with pytest.raises(InputError, match="no slice is called 'rute': do you mean 'route'"):
        check_slices(["rute"])


def test_the_dict_is_json_and_holds_everything() -> None:
    value = orjson.loads(orjson.dumps(to_dict(RESULT)))
    assert list(value["runs"]) == ["bm25", "a|b"]
    assert value["runs"]["bm25"]["overall"]["ndcg@10"] == {
        "mean": 0.7124,
        "low": 0.65,
        "high": 0.7749,
        "num_queries": 3,
    }
    assert value["runs"]["bm25"]["slices"]["type"]["negative"]["ndcg@10"]["num_queries"] == 1
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
        "less_is_better": [],
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
        "test": {
            "method": "randomisation",
            "resamples": 10000,
            "seed": 5,
            "correction": "holm",
            "relevant_difference": 0.02,
        },
        "date": "2026-11-21T20:00:00+00:00",
        "version": "1.2.3",
        "commit": "0123abc",
        "config_hash": "cafe",
        "notes": NOTES,
    }
