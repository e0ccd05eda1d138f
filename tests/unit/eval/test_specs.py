from __future__ import annotations

import pytest

from lrem_os.errors import RunError
from lrem_os.eval.specs import RunSpec, parse_run_specs


def test_modes_files_and_names() -> None:
    texts = [
        "bm25",
        "hybrid",
        "bm25+reason",
        "vector+reason",
        "old.trec",
        "runs/x",
        "./vector.run.gz",
        "before=bm25.txt",
    ]
    assert parse_run_specs(texts) == (
        RunSpec("bm25", mode="bm25"),
        RunSpec("hybrid", mode="hybrid"),
        RunSpec("bm25+reason", mode="bm25", reason=True),
        RunSpec("vector+reason", mode="vector", reason=True),
        RunSpec("old", path="old.trec"),
        RunSpec("x", path="runs/x"),
        RunSpec("vector", path="./vector.run.gz"),
        RunSpec("before", path="bm25.txt"),
    )


def test_a_path_may_hold_an_equals_sign() -> None:
    assert parse_run_specs(["runs/k=60.trec"]) == (RunSpec("k=60", path="runs/k=60.trec"),)


@pytest.mark.parametrize(
    "texts", [["bm25", "bm25"], ["bm25", "runs/bm25.trec"], ["a/x.trec", "b/x.run"], ["x=a.trec", "b/x.trec"]]
)
def test_two_runs_of_one_name_are_refused(texts: list[str]) -> None:
    with pytest.raises(RunError, match="two runs are called"):
        parse_run_specs(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hybird", "'hybird' is no mode and no file: do you mean 'hybrid'?"),
        ("vector+reson", "do you mean 'vector+reason'?"),
        ("x", "'x' is no mode and no file"),
        ("", "''"),
    ],
)
def test_an_unknown_run_is_named(text: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        parse_run_specs([text])
    assert message in str(caught.value)
    assert caught.value.hint is not None
    assert "bm25, vector, hybrid" in caught.value.hint


def test_no_run_is_refused() -> None:
    with pytest.raises(RunError, match="no run was given"):
        parse_run_specs([])
