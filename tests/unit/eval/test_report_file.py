from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.report_file import load_report, lower_is_better
from tests.fakes.eval_report import eval_report


def test_a_file_and_its_folder_are_one_report(tmp_path: Path) -> None:
    report = eval_report(("a",), baseline=None)
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert load_report(tmp_path) == load_report(tmp_path / "report.json") == report


def broken(**parts: Any) -> str:
    return json.dumps(eval_report(("a",), baseline=None) | parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "report.json: broken JSON"),
        ("[]", "no report: schema is None, want 'lrem-os/eval/1'"),
        ('{"schema": "lrem-os/eval/9"}', "schema is 'lrem-os/eval/9'"),
        (broken(runs={}), "the report holds no run"),
        (broken(queries=[]), r"queries is \[\]: want a mapping"),
        (broken(runs={"a": 3}), "runs.a is 3: want a mapping"),
        (broken(runs={"a": {"overall": {}}}), "runs.a.slices is missing: want a mapping"),
        (
            broken(
                runs={
                    "a": {key: {} for key in ("overall", "slices", "difference", "comparison")}
                    | {"per_query": {"q1": {"ndcg@10": "high"}}}
                }
            ),
            "runs.a.per_query.q1.ndcg@10 is 'high': want a number",
        ),
    ],
)
def test_what_is_no_report_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        load_report(tmp_path)
    assert caught.value.path == str(tmp_path / "report.json")


def test_a_missing_report_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot read it: No such file") as caught:
        load_report(tmp_path / "absent.json")
    assert caught.value.hint == "lrem-os eval --report DIR writes a report"


def test_only_of_violations_less_is_better() -> None:
    assert [lower_is_better(name) for name in ("violation@5", "ndcg@5", "judged@5")] == [True, False, False]
