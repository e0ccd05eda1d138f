from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli.reason import reason
from lrem_os.errors import ConfigError

FAKE = ("--set", "reasoning.name='fake:'", "--set", "model.name='fake:8'")


def run(*args: str) -> Result:
    return CliRunner().invoke(reason, args, catch_exceptions=False)


def test_one_line_a_sample() -> None:
    lines = run("what do I put under a hot pot", "--samples", "3", *FAKE).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["1", "2", "3"]
    for line in lines:
        _, confidence, tokens, keywords = line.split("\t")
        assert 0.5 <= float(confidence) <= 1
        assert int(tokens) == len(keywords.split(", ")) + 1
    assert run("usb", "--samples", "1", *FAKE).stdout.split("\t")[3] == "-\n"


def test_json() -> None:
    report = json.loads(run("what do I put under a hot pot", "--samples", "2", "--json", *FAKE).stdout)
    assert report["query"] == "what do I put under a hot pot"
    assert [set(sample) for sample in report["samples"]] == [
        {"keywords", "text", "num_tokens", "truncated", "confidence"}
    ] * 2


def test_without_a_reasoner_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"reasoning\.name is not set"):
        run("usb", "--set", "model.name='fake:8'")
