from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.datasets import parse_qrels, read_file
from lrem_os.eval.publish import (
    build_templates,
    check_publishable,
    judgment_documents,
    query_documents,
    report_id,
    result_documents,
)
from lrem_os.types import Document
from tests.fakes.eval_report import SCRIPT, eval_report

MAPPED = {name: set(body["template"]["mappings"]["properties"]) for name, body in build_templates("x").items()}


def rows(documents: Any) -> list[dict[str, Any]]:
    return [dict(document.source) for document in documents]


@pytest.fixture
def report() -> dict[str, Any]:
    return eval_report(("bm25", "direct", "routed@30%"), num_queries=20)


def test_one_document_per_run_measure_and_slice(report: dict[str, Any]) -> None:
    found = rows(result_documents(report, "report.json"))
    names = [(row["run"], row["measure"], row["dimension"], row["slice"]) for row in found]
    assert max(Counter(names).values()) == 1
    for run, result in report["runs"].items():
        for measure, estimate in result["overall"].items():
            (row,) = [row for row in found if (run, measure, "overall", "all") == names[found.index(row)]]
            assert (row["mean"], row["low"], row["high"]) == (estimate["mean"], estimate["low"], estimate["high"])
            assert row.get("p_value") == result.get("comparison", {}).get(measure, {}).get("p_value")
        for dimension, parts in result["slices"].items():
            for part in parts:
                assert (run, "ndcg@10", dimension, part or "none") in names


def test_costs_drops_and_attacks_are_measures_too(report: dict[str, Any]) -> None:
    found = {
        (row["run"], row["measure"], row["dimension"], row["slice"]): row.get("mean")
        for row in rows(result_documents(report, "report.json"))
    }
    cost = report["runs"]["direct"]["cost"]
    assert found["direct", "latency_ms_p95", "cost", "all"] == cost["latency_ms"]["p95"]
    assert found["direct", "reasoned_share", "cost", "all"] == cost["reasoned_share"]
    for route, values in cost["by_route"].items():
        assert found["direct", "latency_ms_p50", "cost", route] == values["p50"]
        assert found["direct", "share", "cost", route] == values["share"]
    drop = report["robustness"]["families"]["misspelling"]["bm25"]
    assert found["bm25", "drop_rate ndcg@10", "robustness", "misspelling"] == drop["drop_rate"]
    assert found["bm25", "attack_success@10", "poisoning", "all"] == 0.12


def test_a_query_has_its_values_its_distance_and_how_it_was_served(report: dict[str, Any]) -> None:
    found = {(row["run"], row["query_id"]): row for row in rows(query_documents(report, "report.json"))}
    assert len(found) == 3 * 20
    for (run, query_id), row in found.items():
        values = {
            name: value for name, value in report["runs"][run]["per_query"][query_id].items() if value is not None
        }
        assert row["value"] == values
        base = report["runs"]["direct"]["per_query"][query_id]
        wanted = {name: value - base[name] for name, value in values.items() if base.get(name) is not None}
        assert row["delta"] == ({} if run == "direct" else wanted)
        trace = report["runs"][run]["traces"][query_id]
        assert row["route"] == trace["route"]
        assert row.get("keywords", []) == trace["keywords"]
        assert row["query"] == report["queries"][query_id]["text"]
        assert row["num_words"] == len(row["query"].split())


def test_judgments_are_there_once_per_file_of_judgments(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("q000 0 a 2\nq000 0 b 0\nstranger 0 a 1\n")
    file = read_file(path)
    report["card"]["checksums"] = {"qrels": f"sha256:{file.sha256}"}
    documents = list(judgment_documents(report, parse_qrels(file), file))
    assert [(row["query_id"], row["doc_id"], row["grade"]) for row in rows(documents)] == [
        ("q000", "a", 2),
        ("q000", "b", 0),
    ]
    later = copy.deepcopy(report)
    later["card"]["date"] = "2027-01-01T00:00:00+00:00"
    again = list(judgment_documents(later, parse_qrels(file), file))
    assert [document.doc_id for document in again] == [document.doc_id for document in documents]


def test_judgments_of_another_file_are_refused(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("q000 0 a 2\n")
    file = read_file(path)
    with pytest.raises(InputError, match="other judgments than the report was measured with"):
        list(judgment_documents(report, parse_qrels(file), file))
    report["card"]["checksums"] = {}
    report["queries"] = {}
    with pytest.raises(InputError, match="other judgments"):
        list(judgment_documents(report, parse_qrels(file), file))


def all_documents(report: dict[str, Any]) -> dict[str, list[Document]]:
    return {
        "x-results": list(result_documents(report, "report.json")),
        "x-queries": list(query_documents(report, "report.json")),
    }


@pytest.mark.parametrize("hostile", ["", SCRIPT, "\0 \U0001f600"])
def test_ids_are_unique_and_stay_and_every_field_is_mapped(hostile: str) -> None:
    report = eval_report(num_queries=30, hostile=hostile)
    first, second = all_documents(report), all_documents(copy.deepcopy(report))
    for index, documents in first.items():
        ids = [document.doc_id for document in documents]
        assert len(set(ids)) == len(ids)
        assert [(one.doc_id, one.content_hash) for one in second[index]] == [
            (one.doc_id, one.content_hash) for one in documents
        ]
        for document in documents:
            assert set(document.source) <= MAPPED[index]
            assert None not in document.source.values()
            orjson.dumps(document.source)


def test_another_report_has_other_ids() -> None:
    one, other = (all_documents(eval_report(num_queries=5, seed=seed)) for seed in (0, 1))
    for index in one:
        assert not {document.doc_id for document in one[index]} & {document.doc_id for document in other[index]}


def test_the_id_of_a_report_does_not_depend_on_the_order_of_its_keys(report: dict[str, Any]) -> None:
    assert report_id(dict(reversed(report.items()))) == report_id(report)
    report["runs"]["bm25"]["num_extra"] += 1
    assert report_id(report) != report_id(eval_report(("bm25", "direct", "routed@30%"), num_queries=20))


def test_a_redacted_report_is_published_without_texts(report: dict[str, Any]) -> None:
    for query in report["queries"].values():
        query["text"] = None
    for row in rows(query_documents(report, "report.json")):
        assert "query" not in row
        assert "num_words" not in row


def test_a_report_without_a_date_is_refused(report: dict[str, Any]) -> None:
    report["card"]["date"] = ""
    with pytest.raises(DatasetError, match="the card has no date"):
        check_publishable(report, "report.json")


def test_every_template_is_for_its_own_index_alone() -> None:
    templates = build_templates("shop")
    assert set(templates) == {"shop-results", "shop-queries", "shop-judgments"}
    hashes = set()
    for name, body in templates.items():
        assert body["index_patterns"] == [name]
        mappings = body["template"]["mappings"]
        assert mappings["dynamic"] is False
        assert mappings["properties"]["@timestamp"] == {"type": "date"}
        hashes.add(mappings["_meta"]["lrem"]["mapping_hash"])
    assert len(hashes) == 3
