from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.config import Settings
from lrem_os.eval.specs import RunSpec, parse_run_specs
from lrem_os.query_plugin.routing.gate import DEFAULT, read_gate
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.types import Query

QUERIES = [Query("q1", "red bag")]


def spec(name: str) -> RunSpec:
    (found,) = parse_run_specs([name], {})
    return found


def settings(**parts: object) -> Settings:
    return Settings.model_validate(parts)


def test_a_run_of_an_address_depends_on_what_it_would_ask_opensearch() -> None:
    live = spec("live=http://localhost:9200")
    variants = [
        settings(),
        settings(search={"mode": "bm25"}),
        settings(search={"candidates": 77}),
        settings(model={"name": "fake:32"}),
        settings(index={"name": "other"}),
    ]
    keys = [ServedRuns(one).key(live, QUERIES) for one in variants]
    assert keys[0] == ServedRuns(settings()).key(live, QUERIES)
    assert all(keys[0] != key for key in keys[1:])
    assert "s3cret" not in str(ServedRuns(settings()).key(spec("live=http://me:s3cret@localhost:9200"), QUERIES))


def test_a_routed_run_depends_on_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServedRuns, "_index_state", {})
    gate, ahead = tmp_path / "gate.json", tmp_path / "ahead.jsonl"
    gate.write_bytes(read_gate(DEFAULT))
    ahead.write_text("1")
    route = {"gate": str(gate), "precomputed": str(ahead)}

    def key(**changes: str) -> object:
        return ServedRuns(settings(route=route | changes)).key(spec("routed"), QUERIES)

    before = key()
    gate.rename(tmp_path / "moved.json")
    assert key(gate=str(tmp_path / "moved.json")) == before == key(gate=DEFAULT)
    ahead.write_text("2")
    after = key(gate=DEFAULT)
    assert after != before
    (tmp_path / "moved.json").write_bytes(read_gate(DEFAULT) + b" ")
    assert key(gate=str(tmp_path / "moved.json")) != after
