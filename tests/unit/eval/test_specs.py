from __future__ import annotations

import pytest

from lrem_os.config_runs import NamedRun
from lrem_os.errors import RunError
from lrem_os.eval.specs import RunSpec, parse_run_spec, parse_run_specs

NAMED = {
    "heavy": NamedRun(mode="hybrid", search={"weights": [0.9, 0.1]}),
    "keywords": NamedRun(reason=True, reasoning={"text_boost": 0.5}),
    "some": NamedRun(route="12.5%"),
    "served": NamedRun(route="configured"),
}


def test_modes_files_and_names() -> None:
    texts = ["bm25", "hybrid", "bm25+reason", "vector+reason", "old.trec", "runs/x", "./vector.run.gz", "a=bm25.txt"]
    assert parse_run_specs([*texts, "saved/direct.jsonl"]) == (
        RunSpec("bm25", mode="bm25"),
        RunSpec("hybrid", mode="hybrid"),
        RunSpec("bm25+reason", mode="bm25", reason=True),
        RunSpec("vector+reason", mode="vector", reason=True),
        RunSpec("old", path="old.trec"),
        RunSpec("x", path="runs/x"),
        RunSpec("vector", path="./vector.run.gz"),
        RunSpec("a", path="bm25.txt"),
        RunSpec("direct", path="saved/direct.jsonl"),
    )


def test_routes_budgets_services_and_names_of_the_configuration() -> None:
    texts = ["direct", "reasoned", "routed", "routed@30%", "routed@7.50%", "live=http://shop:8099/", *NAMED]
    assert parse_run_specs(texts, NAMED) == (
        RunSpec("direct"),
        RunSpec("reasoned", reason=True),
        RunSpec("routed", routed=True),
        RunSpec("routed@30%", routed=True, share=0.3),
        RunSpec("routed@7.5%", routed=True, share=0.075),
        RunSpec("live", url="http://shop:8099"),
        RunSpec("heavy", mode="hybrid", search={"weights": [0.9, 0.1]}),
        RunSpec("keywords", reason=True, reasoning={"text_boost": 0.5}),
        RunSpec("some", routed=True, share=0.125),
        RunSpec("served", routed=True),
    )


def test_what_is_asked_here_and_what_may_have_traces() -> None:
    names = ["direct", "bm25", "a.trec", "b.run.gz", "c.jsonl", "d=/dev/fd/63", "live=http://shop:8099"]
    specs = parse_run_specs(names)
    assert [spec.is_local for spec in specs] == [True, True, False, False, False, False, False]
    assert [spec.may_have_traces for spec in specs] == [True, True, False, False, True, True, True]


def test_a_path_may_hold_an_equals_sign() -> None:
    assert parse_run_specs(["runs/k=60.trec"]) == (RunSpec("k=60", path="runs/k=60.trec"),)


@pytest.mark.parametrize(
    "texts",
    [
        ["bm25", "bm25"],
        ["bm25", "runs/bm25.trec"],
        ["a/x.trec", "b/x.run"],
        ["x=a.trec", "b/x.trec"],
        ["direct", "saved/direct.jsonl"],
        ["routed@30%", "routed@30.0%"],
        ["heavy", "heavy=a.trec"],
        ["x=http://a:1", "x=http://b:1"],
    ],
)
def test_two_runs_of_one_name_are_refused(texts: list[str]) -> None:
    with pytest.raises(RunError, match="two runs are called"):
        parse_run_specs(texts, NAMED)


def test_two_runs_of_one_file_name_are_refused() -> None:
    with pytest.raises(RunError, match="'Direct' and 'direct' are one file name"):
        parse_run_specs(["Direct=a.trec", "direct"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hybird", "do you mean 'hybrid'?"),
        ("vector+reson", "do you mean 'vector+reason'?"),
        ("reasond", "do you mean 'reasoned'?"),
        ("heavi", "do you mean 'heavy'?"),
        ("x", "'x' is no mode, no name of the configuration and no file"),
        ("", "''"),
        ("routed@30", "run 'routed@30': '30' is no share of the queries"),
        ("routed@0.3", "'0.3' is no share"),
        ("routed@", "'' is no share"),
        ("routed@101%", "'101%' is no share"),
        ("routed@-5%", "'-5%' is no share"),
        ("routed@nan%", "'nan%' is no share"),
        ("direct@30%", "run 'direct@30%': only routed has a budget"),
        ("http://shop:8099", "has no name"),
        ("live=ftp://shop", "run 'live': 'ftp://shop' is no address of a service"),
        ("live=http://", "is no address of a service"),
        ("live=http://shop:port", "is no address of a service"),
        ("live=http://shop:8099?q=1", "is no address of a service"),
        ("a b=x.trec", "'a b' is no name of a run"),
    ],
)
def test_a_name_that_cannot_be_used_is_told_with_a_way_out(text: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        parse_run_spec(text, NAMED)
    assert message in str(caught.value)
    assert caught.value.hint


def test_passwords_are_not_shown() -> None:
    for text in ("http://me:secret@shop:8099", "live=ftp://me:secret@shop"):
        with pytest.raises(RunError) as caught:
            parse_run_spec(text)
        assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_no_run_is_refused() -> None:
    with pytest.raises(RunError, match="no run was given"):
        parse_run_specs([])
