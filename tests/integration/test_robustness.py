"""``lrem-os eval robustness`` from end to end on a real node, with models that are hash functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrem_os import api
from lrem_os.cli import cli
from lrem_os.config import Settings, load_settings
from lrem_os.eval.report_file import load_report
from lrem_os.search import copies
from tests.fakes.openai_server import FakeOpenAI

pytestmark = pytest.mark.opensearch

NOUNS = ("sofa", "lamp", "tent", "kettle", "backpack", "umbrella", "blanket", "charger")
COLOURS = ("red", "blue", "green", "black")


@pytest.fixture
def shop(opensearch_url: str, index_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A shop of 32 products and 16 queries, configured in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lrem-os.yaml").write_text(
        f"model: {{name: 'fake:64'}}\nreasoning: {{name: 'fake:'}}\nsearch: {{hosts: ['{opensearch_url}']}}\n"
        f"index: {{name: {index_name}}}\neval: {{bootstrap: 200}}\n"
    )
    products = [
        {"id": f"{colour}-{noun}", "title": f"{colour} {noun}", "description": f"a {noun} for everyone"}
        for colour in COLOURS
        for noun in NOUNS
    ]
    (tmp_path / "catalog.jsonl").write_text("\n".join(map(json.dumps, products)))
    queries = [
        (f"q{place}", f"{COLOURS[(place + place // 8) % 4]} {noun} for the weekend")
        for place, noun in enumerate(NOUNS * 2)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps({"qid": qid, "query": text}) for qid, text in queries))
    (tmp_path / "qrels.txt").write_text(
        "".join(f"{qid} 0 {text.split()[0]}-{text.split()[1]} 1\n" for qid, text in queries)
    )
    settings = load_settings().settings
    api.ingest_catalog(settings, ["catalog.jsonl"])
    return settings


def robustness(*options: str, runs: str = "bm25,vector") -> Result:
    command = ["eval", "robustness", "--runs", runs, "--queries", "q.jsonl", "--qrels", "qrels.txt", *options]
    return CliRunner().invoke(cli, command)


def value_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_families_attack_report_and_a_live_index_that_is_only_read(shop: Settings, tmp_path: Path) -> None:
    client = api.connect(shop)
    there = set(client.indices.get(index=f"{copies.PREFIX}*"))
    before = (
        client.indices.stats(index=shop.index.name)["_all"]["total"]["indexing"]["index_total"],
        api.list_indices(shop),
    )
    result = robustness("--poison", "10", "--report", "out", "--json", "--seeds", "5,27")
    value = value_of(result)
    after = (
        client.indices.stats(index=shop.index.name)["_all"]["total"]["indexing"]["index_total"],
        api.list_indices(shop),
    )
    assert after == before
    assert set(client.indices.get(index=f"{copies.PREFIX}*")) == there
    found = value["robustness"]
    assert set(found["families"]) == {"misspelling", "order", "dropped"}
    assert found["families"]["order"]["bm25"]["drop_rate"] == pytest.approx(0)  # a bag of words has no order
    assert found["families"]["misspelling"]["bm25"]["drop_rate"] > 0.1
    assert found["poisoning"]["injected"] == 10
    for shares in found["poisoning"]["attack_success"].values():
        assert 0 < shares["@5"] <= shares["@10"] <= shares["@20"] <= shares["@50"] <= 1
    assert set(found["poisoning"]["by_kind"]) == {"copied", "stuffed", "generated"}
    assert value["runs"]["bm25"]["overall"]["ndcg@10"]["mean"] == pytest.approx(
        found["families"]["order"]["bm25"]["clean"]
    )
    assert load_report(tmp_path / "out")["robustness"] == found
    assert "injected products in the top k" in (tmp_path / "out" / "robustness.md").read_text()
    # once more, from what was kept: nothing is copied, nothing is asked
    again = value_of(robustness("--poison", "10", "--json", "--seeds", "5,27"))
    assert again["robustness"] == found


def test_reasoned_runs_and_a_table_for_people(shop: Settings) -> None:
    result = robustness("--families", "misspelling", "--seeds", "5", runs="direct,reasoned")
    assert result.exit_code == 0, result.output
    assert "reasoned" in result.stdout
    assert "misspelling: 100% of the queries were changed" in result.stdout


def test_paraphrases_come_from_a_server_once(shop: Settings, tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        options = ("--families", "paraphrase", "--seeds", "5", "--json", "--paraphrase-url", server.url)
        value = value_of(robustness(*options, "--paraphrase-model", "m", runs="bm25"))
        asked = len(server.calls)
        assert asked == 16
        again = value_of(robustness(*options, "--paraphrase-model", "m", "--fresh", runs="bm25"))
        assert len(server.calls) == asked
    assert again["robustness"] == value["robustness"]
    lines = (tmp_path / "lrem-os-robustness" / "paraphrases.jsonl").read_text().splitlines()
    assert len(lines) == 16


def test_synonyms_come_from_a_file(shop: Settings, tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("sofa, couch\nlamp => light\n")
    options = ("--families", "synonyms", "--synonyms", "synonyms.txt", "--seeds", "5", "--work", "", "--json")
    found = value_of(robustness(*options, runs="bm25"))["robustness"]
    assert found["changed"]["synonyms"] == pytest.approx(4 / 16)
    assert not (tmp_path / "lrem-os-robustness").exists()


def test_a_redacted_report_names_no_query(shop: Settings) -> None:
    result = robustness("--families", "misspelling", "--seeds", "5", "--redact", "--json", runs="bm25")
    assert value_of(result)["robustness"]["worst"] == {}
    assert "weekend" not in result.stdout
    assert '"q3"' not in result.stdout
