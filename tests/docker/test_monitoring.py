"""Grafana dashboard and alert rules: every query parses, and asks for numbers that the service has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.docker.conftest import ROOT
from tests.fakes.engine import FakeEngine, by_words, reasoned
from tests.fakes.scripts import load_script
from tests.fakes.service import Service, serving

DOCKER = ROOT / "docker"


GENERATOR = load_script("scripts/generate_grafana.py")


@pytest.fixture(scope="module")
def series() -> dict[str, list[dict[str, str]]]:
    """The labels of every series that the service tells after some traffic, by the name that is asked for."""
    pages: list[str] = []

    async def check(service: Service) -> None:
        for text in ("pot", "pan", "lid"):
            body = {"query": {"neural": {"lrem_vector": {"query_text": text}}}}
            await service.ask("POST", "/products/_search", json=body)
        await service.ask("POST", "/_msearch", content=b'{"index":"products"}\n{"query":{"match_all":{}}}\n')
        pages.append((await service.ask("GET", "/metrics")).text)

    serving(
        check,
        engine=FakeEngine({"pan": reasoned("pan", "wok"), "lid": by_words("lid", "embedder_failed")}),
        serve={"ubi": True},
    )
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(pages[0]):
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, [])
        for kind in ("_bucket", "_count", "_sum") if family.type == "histogram" else ():
            found.setdefault(f"{family.name}{kind}", [])
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def selectors(expr: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield every selector of a query. Raises ``ValueError`` if it is none."""
    stack = [promql_parser.parse(expr)]
    while stack:
        node = stack.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
            if (child := getattr(node, name, None)) is not None:
                stack.append(child)
        stack.extend(getattr(node, "args", ()))


LABELS = {  # the labels of each metric: what `Metrics` declares, and what Prometheus adds
    "lrem_requests_total": {"endpoint", "status"},
    "lrem_request_seconds_bucket": {"endpoint", "le"},
    "lrem_clients_gone_total": {"endpoint"},
    "lrem_queries_total": {"route"},
    "lrem_degraded_total": {"reason"},
    "lrem_stage_seconds_bucket": {"stage", "le"},
    "lrem_opensearch_seconds_bucket": {"le"},
    "lrem_opensearch_failures_total": {"kind"},
    "lrem_ubi_records_total": {"index", "outcome"},
    "lrem_engine": {"what"},
}
ADDED = {"instance", "job"}


def panels() -> list[tuple[str, str]]:
    text = (DOCKER / "grafana" / "lrem-os.json").read_text(encoding="utf-8")
    found = [(one["title"], target["expr"]) for one in json.loads(text)["panels"] for target in one.get("targets", ())]
    return [(title, expr.replace("$__rate_interval", "5m")) for title, expr in found]


def rules() -> list[dict[str, object]]:
    text = (DOCKER / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def queries() -> list[tuple[str, str]]:
    return [*panels(), *((str(rule["alert"]), str(rule["expr"])) for rule in rules())]


def test_the_committed_dashboard_is_fresh() -> None:
    assert (DOCKER / "grafana" / "lrem-os.json").read_text(encoding="utf-8") == GENERATOR.text(), "run scripts/regen"


def test_there_are_queries_to_check() -> None:
    assert len(panels()) >= 25
    assert len(rules()) >= 8


@pytest.mark.parametrize(("title", "expr"), queries())
def test_a_query_asks_for_what_the_service_tells(
    title: str, expr: str, series: dict[str, list[dict[str, str]]]
) -> None:
    found = list(selectors(expr))
    assert found
    for selector in found:
        if selector.name in ("up", None):
            continue
        assert selector.name in series, f"{title}: the service has no {selector.name}"
        known = LABELS.get(selector.name, set())
        for told in series[selector.name]:
            assert set(told) <= known, f"{selector.name} has another label than this test knows"
        for matcher in selector.matchers.matchers:
            assert matcher.name in known | ADDED, f"{title}: {selector.name} has no label {matcher.name}"


@pytest.mark.parametrize(("title", "expr"), queries())
def test_groups_are_made_of_labels_that_exist(title: str, expr: str) -> None:
    known = {label for labels in LABELS.values() for label in labels} | ADDED
    for group in re.findall(r"\bby \(([^)]*)\)", expr):
        assert {label.strip() for label in group.split(",")} <= known, title


@pytest.mark.parametrize(("title", "expr"), queries())
def test_what_is_asked_of_the_engine_is_told(title: str, expr: str, series: dict[str, list[dict[str, str]]]) -> None:
    told = {labels["what"] for labels in series["lrem_engine"]}
    assert told >= {"num_hung", "embedder_broken", "reasoner_kept_away"}
    for what in re.findall(r'what="([^"]+)"', expr):
        assert what in told, f"{title}: the engine does not tell {what}"


def test_searches_are_found_by_their_endpoint(series: dict[str, list[dict[str, str]]]) -> None:
    pattern = re.search(r'endpoint=~"([^"]+)"', next(expr for title, expr in panels() if title == "p95"))
    assert pattern is not None
    endpoints = {labels["endpoint"] for labels in series["lrem_requests_total"]}
    matched = {one for one in endpoints if re.fullmatch(pattern[1], one)}
    assert len(matched) == 2, endpoints  # _search and _msearch


def test_a_planted_fault_is_found() -> None:
    with pytest.raises(ValueError, match=r"\w"):
        promql_parser.parse("sum by (route (rate(lrem_queries_total[5m]))")
    found = {one.name for one in selectors("sum(rate(a[5m])) / (b > 0) or histogram_quantile(0.9, c) - (-d)")}
    assert found == {"a", "b", "c", "d"}


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"}), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]  # type: ignore[call-overload]


def test_prometheus_looks_where_compose_runs_the_service() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yml").read_text(encoding="utf-8"))
    for name in ("prometheus.yml", "prometheus.secure.yml"):
        config = yaml.safe_load((DOCKER / "prometheus" / name).read_text(encoding="utf-8"))
        (job,) = config["scrape_configs"]
        assert job["job_name"] == "lrem-os"
        host, port = job["static_configs"][0]["targets"][0].split(":")
        assert host in compose["services"]
        assert compose["services"][host]["ports"][0].endswith(f":{port}")
        assert config["rule_files"] == ["alerts.yml"]
