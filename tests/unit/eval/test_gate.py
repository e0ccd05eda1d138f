from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrem_os.cli import cli
from lrem_os.errors import ConfigError, GateFailed
from lrem_os.eval.gate import Check, check_files, describe, require_passed, to_dict
from tests.fakes.eval_report import eval_report


@pytest.fixture
def report() -> dict[str, Any]:
    """Runs direct (baseline) and reasoned; the numbers that the tests compare with are set here."""
    report = eval_report(("direct", "reasoned"), baseline="direct")
    direct, reasoned = report["runs"]["direct"], report["runs"]["reasoned"]
    direct["overall"]["ndcg@10"]["mean"] = 0.4
    direct["slices"]["type"]["negative"]["ndcg@10"]["mean"] = 0.2
    direct["cost"]["latency_ms"]["p95"] = 120.0
    direct["cost"]["by_route"]["reasoned"]["p95"] = 2000.0
    reasoned["overall"]["violation@10"]["mean"] = 0.15
    reasoned["difference"]["ndcg@10"]["mean"] = 0.03
    reasoned["comparison"]["ndcg@10"]["p_adjusted"] = 0.01
    return report


def check(tmp_path: Path, report: dict[str, Any], text: str) -> tuple[Check, ...]:
    (tmp_path / "gate.yaml").write_text(text)
    (tmp_path / "report.json").write_text(json.dumps(report))
    return check_files(tmp_path / "gate.yaml", tmp_path)


@pytest.mark.parametrize(
    ("text", "passed", "value"),
    [
        ("direct: {ndcg@10: {min: 0.4}}", True, 0.4),
        ("direct: {ndcg@10: {min: 0.41}}", False, 0.4),
        ("direct: {ndcg@10: {max: 0.39}}", False, 0.4),
        ("reasoned: {violation@10: {max: 0.1}}", False, 0.15),
        ("reasoned: {violation@10: {max: 0.2}}", True, 0.15),
        ("direct: {slices: {type: {negative: {ndcg@10: {min: 0.2}}}}}", True, 0.2),
        ("direct: {slices: {type: {negative: {ndcg@10: {min: 0.3}}}}}", False, 0.2),
        ("reasoned: {ndcg@10: {min_difference: 0.03}}", True, 0.03),
        ("reasoned: {ndcg@10: {min_difference: 0.031}}", False, 0.03),
        ("reasoned: {ndcg@10: {max_difference: 0}}", False, 0.03),
        ("direct: {latency_ms: {p95: {max: 120}}}", True, 120),
        ("direct: {latency_ms: {p95: {max: 119.9}}}", False, 120),
        ("direct: {latency_ms_by_route: {reasoned: {p95: {max: 1999}}}}", False, 2000),
        ("direct: {reasoned_share: {max: 0.3}}", True, 0.3),
        ("direct: {reasoned_share: {max: 0.29}}", False, 0.3),
        ("reasoned: {ndcg@10: {not_worse: true}}", True, 0.01),
    ],
)
def test_a_limit_holds_or_does_not(
    tmp_path: Path, report: dict[str, Any], text: str, passed: bool, value: float
) -> None:
    (found,) = check(tmp_path, report, f"runs:\n  {text}\n")
    assert (found.passed, found.value) == (passed, value)
    assert found.source == f"{tmp_path / 'gate.yaml'}:2"


@pytest.mark.parametrize(
    ("measure", "mean", "p_value", "passed"),
    [
        ("ndcg@10", -0.03, 0.01, False),
        ("ndcg@10", -0.03, 0.0499, False),
        ("ndcg@10", -0.03, 0.05, True),
        ("ndcg@10", -0.03, 0.06, True),
        ("ndcg@10", 0.03, 0.01, True),
        ("violation@10", 0.03, 0.01, False),
        ("violation@10", -0.03, 0.01, True),
        ("ndcg@10", -0.03, None, False),
    ],
)
def test_not_worse_asks_the_test_and_knows_which_way_is_better(
    tmp_path: Path, report: dict[str, Any], measure: str, mean: float, p_value: float | None, passed: bool
) -> None:
    report["runs"]["reasoned"]["difference"][measure]["mean"] = mean
    report["runs"]["reasoned"]["comparison"][measure]["p_adjusted"] = p_value
    (found,) = check(tmp_path, report, f"runs: {{reasoned: {{{measure}: {{not_worse: true}}}}}}")
    assert found.passed is passed


def test_a_value_that_is_not_there_does_not_pass(tmp_path: Path, report: dict[str, Any]) -> None:
    report["runs"]["direct"]["overall"]["ndcg@10"]["mean"] = None
    low, high = check(tmp_path, report, "runs: {direct: {ndcg@10: {min: 0, max: 1}}}")
    assert (low.passed, high.passed) == (False, False)
    assert "ndcg@10 = no value, min 0" in describe(low)


def test_failing_names_every_number(tmp_path: Path, report: dict[str, Any]) -> None:
    text = (
        "runs:\n  direct:\n    ndcg@10: {min: 0.5, max: 0.9}\n    latency_ms:\n      p95: {max: 100}\n"
        "  reasoned:\n    ndcg@10: {min_difference: 0.1}\n"
    )
    checks = check(tmp_path, report, text)
    with pytest.raises(GateFailed, match="3 of 4 thresholds do not hold") as caught:
        require_passed(checks)
    assert caught.value.exit_code == 9
    gate = tmp_path / "gate.yaml"
    assert str(caught.value).split("\n")[1:] == [
        f"  direct ndcg@10 = 0.400, min 0.5 ({gate}:3)",
        f"  direct latency p95, ms = 120.000, max 100 ({gate}:5)",
        f"  reasoned ndcg@10 difference = 0.030, min 0.1, baseline direct ({gate}:7)",
    ]
    require_passed([found for found in checks if found.passed])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: {dirct: {ndcg@10: {min: 0}}}", "no run is called 'dirct': do you mean 'direct'?"),
        ("runs: {direct: {ndcg@1: {min: 0}}}", "no measure or key is called 'ndcg@1': do you mean 'ndcg@10'?"),
        ("runs: {direct: {ndcg@10: {mim: 0}}}", "no limit is called 'mim': do you mean 'min'?"),
        ("runs: {direct: {ndcg@10: {min: high}}}", "runs.direct.ndcg@10.min is 'high': want a number"),
        ("runs: {direct: {ndcg@10: {min: true}}}", "min is True: want a number"),
        ("runs: {direct: {ndcg@10: {min: .nan}}}", "min is nan: want a number"),
        ("runs: {direct: {ndcg@10: 0.38}}", "runs.direct.ndcg@10 is 0.38: want a limit"),
        ("runs: {direct: 0.38}", "runs.direct is 0.38: want measures with their limits"),
        ("runs:", "runs is None: want the names of runs"),
        ("run: {direct: {ndcg@10: {min: 0}}}", "no key is called 'run': do you mean 'runs'?"),
        ("", "no threshold"),
        ("- a", "the file is a list"),
        ("runs: {direct: [a]}", "runs.direct is a list"),
        ("runs: {direct: {ndcg@10: {min: 0, min: 1}}}", "'min' stands twice, first in line 1"),
        ("runs: {direct: {", "not valid YAML"),
        ("runs: {direct: {slices: {type: {negativ: {ndcg@10: {min: 0}}}}}}", "no type is called 'negativ'"),
        ("runs: {direct: {slices: {kind: {negative: {ndcg@10: {min: 0}}}}}}", "no slice is called 'kind'"),
        ("runs: {direct: {slices: {type: {negative: {mrr@10: {min: 0}}}}}}", "no measure is called 'mrr@10'"),
        ("runs: {direct: {latency_ms: {p96: {max: 1}}}}", "no percentile is called 'p96'"),
        ("runs: {direct: {latency_ms: {p95: {not_worse: true}}}}", "no limit is called 'not_worse'"),
        ("runs: {direct: {latency_ms_by_route: {slow: {p95: {max: 1}}}}}", "no route is called 'slow'"),
        ("runs: {direct: {ndcg@10: {min_difference: 0}}}", "the run is the baseline itself"),
        ("runs: {direct: {ndcg@10: {not_worse: true}}}", "the run is the baseline itself"),
        ("runs: {reasoned: {ndcg@10: {not_worse: 0.05}}}", "not_worse is 0.05: want true"),
    ],
)
def test_thresholds_that_check_nothing_are_refused_by_name(
    tmp_path: Path, report: dict[str, Any], text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, report, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "gate.yaml"))


def test_what_the_report_lacks_is_said(tmp_path: Path, report: dict[str, Any]) -> None:
    report["runs"]["direct"]["cost"] = None
    with pytest.raises(ConfigError, match="no cost of run 'direct'"):
        check(tmp_path, report, "runs: {direct: {latency_ms: {p95: {max: 1}}}}")
    report["runs"]["reasoned"]["difference"] = {}
    report["card"]["baseline"] = None
    with pytest.raises(ConfigError, match="the run has no baseline"):
        check(tmp_path, report, "runs: {reasoned: {ndcg@10: {min_difference: 0}}}")


def test_the_command_prints_every_check_and_ends_with_its_code(tmp_path: Path, report: dict[str, Any]) -> None:
    (tmp_path / "gate.yaml").write_text("runs: {direct: {ndcg@10: {min: 0.5}, violation@10: {max: 1}}}")
    (tmp_path / "report.json").write_text(json.dumps(report))
    result = CliRunner().invoke(cli, ["eval", "gate", str(tmp_path / "gate.yaml"), str(tmp_path)])
    assert isinstance(result.exception, GateFailed)
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["FAIL", "direct", "ndcg@10"],
        ["ok", "direct", "violation@10"],
    ]
    result = CliRunner().invoke(cli, ["eval", "gate", "--json", str(tmp_path / "gate.yaml"), str(tmp_path)])
    assert isinstance(result.exception, GateFailed)
    value = json.loads(result.stdout)
    assert (value["passed"], [one["passed"] for one in value["checks"]]) == (False, [False, True])
    assert value == json.loads(json.dumps(to_dict(check_files(tmp_path / "gate.yaml", tmp_path))))
