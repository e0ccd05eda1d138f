from __future__ import annotations

import re

from lrem_os.eval.report_markdown import to_markdown
from tests.fakes.eval_report import eval_report


def test_the_table_shows_differences_stars_and_cost() -> None:
    report = eval_report(("direct", "reasoned"), baseline="direct")
    for name, mean in (("direct", 0.4), ("reasoned", 0.431)):
        report["runs"][name]["overall"]["ndcg@10"] = {"mean": mean, "low": 0.35, "high": 0.5, "num_queries": 120}
    report["runs"]["reasoned"]["difference"]["ndcg@10"]["mean"] = 0.031
    report["runs"]["reasoned"]["comparison"]["ndcg@10"]["p_adjusted"] = 0.004
    report["runs"]["reasoned"]["cost"]["latency_ms"]["p95"] = 87.4
    lines = to_markdown(report).split("\n")
    assert lines[0] == "### Evaluation on 120 queries, compared with direct"
    assert lines[2] == "| run | ndcg@10 | hitrate@10 | violation@10 | p95 | reasoned |"
    assert lines[4].startswith("| **direct** (baseline) | 0.400 [0.35, 0.50] | ")
    assert lines[5].startswith("| **reasoned** | 0.431 (+0.031\\*\\*) | ")
    assert lines[5].endswith(" | 87 ms | 30 % |")
    assert "randomisation test, Holm correction" in lines[7]


def test_slices_and_card_are_folded() -> None:
    text = to_markdown(eval_report())
    folded = re.findall(r"<details><summary>(.*?)</summary>", text)
    assert folded == ["ndcg@10 by type", "ndcg@10 by route", "Run card"]
    assert text.count("<details>") == text.count("</details>") == 3
    assert "- commit: `0123abc`" in text
    assert "| type | n | bm25 | direct | reasoned | routed@30% |" in text


def test_without_a_baseline_there_are_only_means() -> None:
    report = eval_report(("a",), baseline=None)
    report["runs"]["a"]["cost"] = None
    text = to_markdown(report)
    assert text.startswith("### Evaluation on 120 queries\n")
    assert "difference" not in text
    assert "p95" not in text


def test_what_comes_from_outside_stays_text() -> None:
    text = to_markdown(eval_report(hostile="<script>|`*"))
    assert "<script>" not in text
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells == {7}  # four runs: as many columns in the summary as in the slices
