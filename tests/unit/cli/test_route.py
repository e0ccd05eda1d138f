from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import CheckpointError, DatasetError, TrainingError

FAKE = ("--set", "reasoning.name='fake:'", "--set", "model.name='fake:8'")


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args), catch_exceptions=False)


def test_a_decision_is_shown_with_its_reasons() -> None:
    lines = run("route", "what do I put under a hot pot", "--offline", *FAKE).stdout.splitlines()
    assert lines[0].split("\t")[0] in ("reasoned", "direct")
    told = {line.split("\t")[0]: line.split("\t")[1:] for line in lines[1:]}
    assert 0 <= float(told["score"][0]) <= 1
    assert told["signals"] == ["none: decided before retrieval"]
    assert float(told["question"][0]) == 1.0
    weights = [abs(float(line.split("\t")[2])) for line in lines[5:]]
    assert weights == sorted(weights, reverse=True)


def test_a_decision_as_json() -> None:
    found = json.loads(run("route", "red leather handbag", "--offline", "--json", *FAKE).stdout)
    assert found["query"] == "red leather handbag"
    assert found["reasoned"] is (found["why"] == "above_threshold")
    assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert set(found["features"]) == set(found["contributions"])


def test_a_query_that_a_rule_decides_has_no_score() -> None:
    deny = ("--set", "route.deny=[usb]")
    assert run("route", "USB", "--offline", *FAKE, *deny).stdout == "direct\tdenied\n"
    found = json.loads(run("route", "usb", "--json", *FAKE, *deny).stdout)
    assert (found["score"], found["interval"], found["features"]) == (None, [None, None], {})


def test_a_gate_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        run("route", "usb", "--offline", *FAKE, "--set", "route.gate=no/gate.json")


def test_precompute_counts_what_it_writes(tmp_path: Path) -> None:
    (tmp_path / "head.jsonl").write_text('{"query": "usb"}\n')
    args = ("precompute", str(tmp_path / "head.jsonl"), "--out", str(tmp_path / "p.jsonl"), *FAKE)
    assert run(*args).stdout.startswith("1 written, 0 were there already: ")
    assert json.loads(run(*args, "--json").stdout)["kept"] == 1


def test_precompute_names_a_broken_line(tmp_path: Path) -> None:
    (tmp_path / "head.jsonl").write_text('{"text": "usb"}\n')
    with pytest.raises(DatasetError, match=r"head\.jsonl:1"):
        run("precompute", str(tmp_path / "head.jsonl"), "--out", str(tmp_path / "p.jsonl"), *FAKE)


def test_train_router_needs_queries_or_labels(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["train", "router", "--out", str(tmp_path / "gate.json")])
    assert result.exit_code == 2
    assert "gate.labels.jsonl is not" in result.output


def test_train_router_says_when_there_is_too_little(tmp_path: Path) -> None:
    (tmp_path / "gate.labels.jsonl").write_text("")
    with pytest.raises(TrainingError, match="too few"):
        run("train", "router", "--out", str(tmp_path / "gate.json"))
