from __future__ import annotations

import copy
from typing import Any

import pytest

from lrem_os.errors import InputError
from lrem_os.eval.changes import Change, compare_reports, to_dict
from lrem_os.eval.changes_text import COLUMNS, rows, sentences, to_markdown
from tests.fakes.eval_report import eval_report


def only(changes: Any, run: str, measure: str) -> Change:
    (found,) = [change for change in changes.changes if (change.run, change.measure) == (run, measure)]
    return found


def raised(report: dict[str, Any], run: str, measure: str, by: float) -> dict[str, Any]:
    other = copy.deepcopy(report)
    for values in other["runs"][run]["per_query"].values():
        values[measure] += by
    return other


def test_a_report_against_itself_changes_nothing() -> None:
    report = eval_report()
    changes = compare_reports(report, report)
    assert changes.same_data
    assert changes.facts == ()
    assert {(change.difference.mean, change.difference.low, change.difference.high) for change in changes.changes} == {
        (0, 0, 0)
    }
    assert {change.verdict for change in changes.changes} == {"open"}
    assert len(changes.changes) == 4 * 3
    assert sentences(changes)[0] == "same queries, same judgments"


@pytest.mark.parametrize(
    ("measure", "by", "verdict", "wins", "losses"),
    [
        ("ndcg@10", 0.1, "better", 120, 0),
        ("ndcg@10", -0.1, "worse", 0, 120),
        ("violation@10", 0.1, "worse", 0, 120),
        ("violation@10", -0.1, "better", 120, 0),
    ],
)
def test_a_change_is_found_where_it_is_and_nowhere_else(
    measure: str, by: float, verdict: str, wins: int, losses: int
) -> None:
    before = eval_report()
    changes = compare_reports(before, raised(before, "reasoned", measure, by))
    change = only(changes, "reasoned", measure)
    assert change.difference.mean == pytest.approx(by)
    assert change.after - change.before == pytest.approx(by)
    assert (change.verdict, change.wins, change.losses) == (verdict, wins, losses)
    assert [other.verdict for other in changes.changes if other is not change] == ["open"] * 11


def test_the_difference_is_paired_over_the_queries_that_both_have() -> None:
    before, after = eval_report(("a",), baseline=None), eval_report(("a",), baseline=None)
    values = after["runs"]["a"]["per_query"]
    for query_id in list(values)[:20]:
        del values[query_id]
    for query_id in list(values)[:10]:
        values[query_id]["ndcg@10"] = None
    change = only(compare_reports(before, after), "a", "ndcg@10")
    assert change.difference.num_queries == 90
    assert change.difference.mean == 0.0


def test_one_query_proves_nothing() -> None:
    before = eval_report(("a",), baseline=None, num_queries=1)
    assert only(compare_reports(before, raised(before, "a", "ndcg@10", 0.5)), "a", "ndcg@10").verdict == "open"


def test_other_data_is_said_first() -> None:
    before, after = eval_report(), eval_report()
    after["card"]["checksums"]["qrels"] = "sha256:other"
    after["card"]["min_grade"] = 2
    after["queries"]["q000"]["text"] = "something else"
    changes = compare_reports(before, after)
    assert not changes.same_data
    text = sentences(changes)
    assert text[0].startswith("NOT THE SAME DATA")
    assert text[1] == "checksum of qrels: sha256:bb → sha256:other"
    assert "min_grade: 1 → 2" in text
    assert "queries with another text, type or frequency under the same id: none → 1" in text


def test_another_run_file_is_no_other_data() -> None:
    before, after = eval_report(), eval_report()
    after["card"]["checksums"]["run old"] = "sha256:other"
    assert compare_reports(before, after).same_data


def test_reports_without_checksums_are_not_taken_for_the_same_data() -> None:
    report = eval_report()
    report["card"]["checksums"] = {}
    assert not compare_reports(report, report).same_data


def test_what_else_changed_is_said() -> None:
    before, after = eval_report(("a", "b"), baseline="a"), eval_report(("a", "c"), baseline="a")
    after["card"]["version"] = "0.7.0"
    del after["runs"]["a"]["overall"]["hitrate@10"]
    for values in after["runs"]["a"]["per_query"].values():
        del values["hitrate@10"]
    changes = compare_reports(before, after)
    assert (changes.only_before, changes.only_after) == (("a hitrate@10", "b"), ("c",))
    assert "version: 0.6.0 → 0.7.0" in sentences(changes)
    assert "only in the second report: c" in sentences(changes)


def test_nothing_in_common_is_an_error_that_names_both() -> None:
    with pytest.raises(InputError, match="no run is in both reports: the first has a, the second b"):
        compare_reports(eval_report(("a",), baseline=None), eval_report(("b",), baseline=None))
    with pytest.raises(InputError, match="no measure of a query in common"):
        compare_reports(eval_report(("a",), baseline=None), eval_report(("a",), baseline=None, measures=("success@1",)))


def test_markdown_and_json_hold_the_same_numbers() -> None:
    before = eval_report(("a|b",), baseline=None, measures=("ndcg@10",))
    changes = compare_reports(before, raised(before, "a|b", "ndcg@10", 0.1))
    (row,) = rows(changes)
    assert row[:2] == ("a|b", "ndcg@10")
    assert row[4:] == ("+0.100", "[+0.100, +0.100]", "120", "120/0", "▲ better")
    lines = to_markdown(changes).split("\n")
    assert lines[0] == "| " + " | ".join(COLUMNS) + " |"
    assert lines[2].startswith("| a\\|b | ndcg@10 | ")
    value = to_dict(changes)
    assert value["changes"][0]["difference"]["mean"] == pytest.approx(0.1)
    assert value["schema"] == "lrem-os/eval-changes/1"
