"""The report page as text; what a browser makes of it is tested in tests/browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from lrem_os.config import EvalSettings
from lrem_os.eval.evaluate import evaluate_runs
from lrem_os.eval.html.quality import findings, verdict
from lrem_os.eval.html.queries import deltas, movers
from lrem_os.eval.html.render import render_report
from lrem_os.eval.measures import parse_measures
from lrem_os.eval.report import to_dict
from lrem_os.types import Hit, Query, Ranking, Trace
from tests.fakes.eval_report import SCRIPT, eval_report

VOID = {"meta", "br", "col", "input", "rect", "line", "polyline", "polygon"}


class Outline(HTMLParser):
    """What an HTML parser sees: tags that balance, addresses, tables and their heads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.addresses += [str(values[name]) for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    assert found.open == []
    return found


def real_report() -> dict[str, Any]:
    """A report as an evaluation makes it, traces, ties, missing answers and all."""
    queries = [Query(f"q{idx}", f"query {idx}", "easy" if idx % 2 else "qa", 1.0 + idx) for idx in range(12)]
    qrels = {query.query_id: {"a": 2, "b": 1} for query in queries}

    def run(ids: str, route: str) -> dict[str, Ranking]:
        return {
            query.query_id: Ranking(
                tuple(Hit(doc_id, 9.0 - rank) for rank, doc_id in enumerate(ids)),
                trace=Trace(route, ("kettle",) if route == "reasoned" else (), latency_ms=12.5),
            )
            for query in queries[1:]
        }

    runs = {"direct": run("xab", "direct"), "reasoned": run("abx", "reasoned")}
    measures = parse_measures(["ndcg@10", "hitrate@1"])
    settings = EvalSettings(bootstrap=100)
    return to_dict(evaluate_runs(runs, queries, qrels, measures, settings=settings, baseline="direct"))


def shape(value: Any) -> Any:
    """Return the keys of a value, names of runs, queries, slices and measures aside."""
    return {key: type(part).__name__ for key, part in value.items()}


def test_the_made_up_report_has_the_form_of_a_real_one() -> None:
    real, fake = real_report(), eval_report(("direct", "reasoned"))
    assert real.keys() == fake.keys()
    assert real["card"].keys() == fake["card"].keys()
    run, made = real["runs"]["reasoned"], fake["runs"]["reasoned"]
    assert run.keys() == made.keys()
    for part in ("overall", "difference", "comparison"):
        assert run[part]["ndcg@10"].keys() == made[part]["ndcg@10"].keys(), part
    assert run["movers"]["ndcg@10"][0].keys() == made["movers"]["ndcg@10"][0].keys()
    assert run["traces"]["q1"].keys() == made["traces"]["q001"].keys()
    assert shape(real["queries"]["q1"]) == shape(fake["queries"]["q001"])


def test_a_real_report_makes_a_page() -> None:
    text = render_report(real_report())
    outline(text)
    assert "query 3" in text
    assert "kettle" in text


@pytest.mark.parametrize(
    "report", [eval_report(), eval_report(("a",), baseline=None), eval_report(("a", "b"), num_queries=1, baseline="a")]
)
def test_the_page_is_well_formed_and_stands_alone(report: dict[str, Any]) -> None:
    found = outline(render_report(report))
    assert all(address.startswith("#") for address in found.addresses)
    assert [tag for tag, _ in found.tags if tag in ("link", "img", "iframe")] == []
    ids = [values["id"] for _, values in found.tags if "id" in values]
    assert len(set(ids)) == len(ids)
    assert {address[1:] for address in found.addresses} <= set(ids)
    assert [values for tag, values in found.tags if tag == "th" and "scope" not in values] == []
    labelled = [values for tag, values in found.tags if tag == "svg"]
    assert all("aria-label" in values or values.get("aria-hidden") == "true" for values in labelled)


def test_the_policy_names_the_one_script_there_is() -> None:
    text = render_report(eval_report())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src &#39;none&#39;;")
    assert re.search(r"script-src &#39;sha256-[A-Za-z0-9+/]{43}=&#39;;", policy)


def test_nothing_from_outside_becomes_markup() -> None:
    text = render_report(eval_report(hostile=SCRIPT + "'\"&"))
    assert SCRIPT not in text
    assert text.count("<script>") == 1
    found = outline(text)
    assert [tag for tag, _ in found.tags].count("script") == 1


@pytest.mark.parametrize(
    ("measure", "mean", "p_value", "expected"),
    [
        ("ndcg@10", 0.1, 0.049, "better"),
        ("ndcg@10", -0.1, 0.049, "worse"),
        ("ndcg@10", 0.1, 0.05, "open"),
        ("ndcg@10", 0.1, None, "open"),
        ("ndcg@10", 0.0, 0.0, "open"),
        ("violation@10", 0.1, 0.049, "worse"),
        ("violation@10", -0.1, 0.049, "better"),
    ],
)
def test_a_verdict_follows_the_test_and_the_way_of_the_measure(
    measure: str, mean: float, p_value: float | None, expected: str
) -> None:
    run = {"difference": {measure: {"mean": mean}}, "comparison": {measure: {"p_adjusted": p_value}}}
    assert verdict(run, measure) == expected


def test_findings_say_what_would_have_shown() -> None:
    report = eval_report(("direct", "reasoned"), baseline="direct")
    comparison = report["runs"]["reasoned"]["comparison"]["ndcg@10"]
    comparison |= {"p_adjusted": 0.2, "underpowered": True, "minimum_detectable": 0.0451}
    (found,) = findings(report)
    assert (found["run"], found["verdict"]) == ("reasoned", "open")
    assert found["text"].endswith("Too few queries to tell: only a difference of 0.045 or more would show.")


def test_a_run_that_changes_no_query_is_said_to_be_the_same() -> None:
    report = eval_report(("direct", "reasoned"), baseline="direct")
    report["runs"]["reasoned"]["comparison"]["ndcg@10"] |= {"wins": 0, "losses": 0, "ties": 120, "p_adjusted": 1.0}
    (found,) = findings(report)
    assert (found["verdict"], found["text"]) == ("open", "The ndcg@10 of direct on all 120 queries.")


def test_every_query_is_a_bar_until_there_are_too_many() -> None:
    few = deltas(eval_report(("a", "b"), baseline="a", measures=("ndcg@10",)))
    assert [(panel["run"], panel["count"], panel["num_queries"]) for panel in few] == [("b", 120, 120)]
    (many,) = deltas(eval_report(("a", "b"), baseline="a", measures=("ndcg@10",), num_queries=1000))
    assert (many["count"], many["num_queries"]) == (300, 1000)
    tops = [bar["y"] for bar in many["bars"] if bar["verdict"] == "better"]
    assert tops == sorted(tops)  # the largest gain first
    page = render_report(eval_report(("a", "b"), baseline="a", measures=("ndcg@10",), num_queries=1000))
    assert "300 of them are drawn." in page


def test_of_redacted_queries_the_id_is_shown() -> None:
    report = eval_report(("a", "b"), baseline="a")
    for query in report["queries"].values():
        query["text"] = None
    assert {row["text"] for row in movers(report)} == {None}
    assert "q001" in render_report(report)


def test_routes_and_keywords_are_left_out_where_nobody_knows_them() -> None:
    report = eval_report(("a", "b"), baseline="a")
    assert ">keywords</th>" in render_report(report)
    for run in report["runs"].values():
        run["traces"] = {}
    assert ">keywords</th>" not in render_report(report)
