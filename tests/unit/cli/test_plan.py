from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import DatasetError
from lrem_os.planning.calibration import read_calibration

FAKE = ("--set", "model.name='fake:8'", "--set", "reasoning.name='fake:'")


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *args], catch_exceptions=False)


def test_a_plan_as_json_says_where_each_number_is_from() -> None:
    done = run("--items", "100M", "--qps", "2000", "--hard-share", "0.2", "--gpu", "l4", "--queries", "0", "--json")
    found = json.loads(done.stdout)
    assert found["demand"]["items"] == 100_000_000
    assert found["index"]["shards"]["basis"] == "formula"
    assert found["ingest"]["embed_hours_on_one"]["basis"] == "estimate"
    assert {row["name"] for row in found["storages"] if row["chosen"]} == {"lucene"}
    assert found["services"]["reasoned_per_s"]["value"] == pytest.approx(2000 * 0.2 * 0.7)


def test_a_plan_for_people() -> None:
    on_disk = ("--set", "index.engine=faiss", "--set", "index.on_disk=true")
    done = run(
        "--items", "500k", "--qps", "20", "--node-price", "1", "--service-price", "2", "--queries", "0", *on_disk
    )
    assert "faiss on disk (32x)" in done.stdout
    for told in ("shards", "memory gb", "embed hours on one", "ships with lrem-os"):
        assert told in done.stdout


@pytest.mark.parametrize("items", ["many", "0", "-5", "1e999", "M", ""])
def test_a_number_that_is_none_is_told(items: str) -> None:
    done = run("--items", items, "--qps", "1")
    assert done.exit_code == 2
    assert "100M" in done.stderr


def test_nothing_to_plan_is_told() -> None:
    done = run("--items", "5")
    assert done.exit_code == 2
    assert "--items and --qps" in done.stderr


def test_a_calibration_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        run("--items", "5", "--qps", "1", "--calibration", str(tmp_path / "none.json"))


def test_this_machine_is_measured_and_planned_for_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    done = run("--calibrate", str(path), "--no-cluster", "--json", *FAKE)
    told = json.loads(done.stdout)
    found = read_calibration(path)
    assert told == found.model_dump(mode="json")
    assert (found.model, found.dimension, found.device, found.cluster) == ("fake:8", 8, "cpu", None)
    assert [size for size, _ in found.embed_queries.points] == [1, 2, 4, 8, 16, 32, 64]
    assert found.reason is not None
    assert found.reason_tokens_per_s
    assert "measuring" in done.stderr


def test_a_catalog_without_titles_is_told(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text('{"id": 1}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="title"):
        run("--calibrate", str(tmp_path / "machine.json"), "--no-cluster", "--catalog", str(catalog), *FAKE)
