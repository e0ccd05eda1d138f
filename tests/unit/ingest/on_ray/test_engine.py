from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from lrem_os.config import SearchSettings, Settings
from lrem_os.config_ray import RaySettings
from lrem_os.errors import ConfigError, DatasetError, LremError, RayError, SearchRejected, SearchUnavailable
from lrem_os.ingest.deadletter import DeadLetters, Letter
from lrem_os.ingest.engine import Load
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.on_ray import engine, tables
from lrem_os.ingest.on_ray.cluster import Pool
from lrem_os.ingest.on_ray.engine import RayEngine
from lrem_os.ingest.report import Tally
from tests.fakes.embedder import HashEmbedder
from tests.fakes.memory_port import MemoryPort


@pytest.mark.parametrize(
    "error",
    [
        SearchRejected("pushes back", retry_after_s=3.0, hint="wait"),
        DatasetError("is broken", path="c.jsonl", line=3, hint="mend it"),
        SearchUnavailable("away"),
    ],
)
def test_an_error_of_ours_comes_back_from_a_node_as_it_was(error: LremError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), arrived.message, arrived.hint) == (type(error), error.message, error.hint)
    assert arrived.__dict__ == error.__dict__
    wrapped = RayTaskError("stage", "Traceback …", arrived)
    for raised in (wrapped, wrapped.as_instanceof_cause()):
        with pytest.raises(type(error)) as told, engine._ours():
            raise raised
        assert told.value.message == error.message
        assert type(told.value) is type(error)


def test_any_other_error_is_ray_s() -> None:
    with pytest.raises(RayError, match="the Ray cluster failed: ") as told, engine._ours():
        raise ActorDiedError()
    assert isinstance(told.value.__cause__, ActorDiedError)
    with pytest.raises(RayError, match="KeyError: 'x'"), engine._ours():
        raise RayTaskError("stage", "Traceback …\nKeyError: 'x'", KeyError("x"))


def test_an_embedder_that_cannot_be_sent() -> None:
    class Bound(HashEmbedder):
        def __getstate__(self) -> dict[str, Any]:
            return {"lock": threading.Lock()}

    with pytest.raises(ConfigError, match="embedder Bound cannot be sent"):
        engine._sendable(Bound())


def test_an_embedder_that_is_sent_is_the_same() -> None:
    there = engine._sendable(HashEmbedder(16, name="x"))()
    assert (there.dimension, dict(there.identity)) == (16, {"model": "x", "dimension": 16})


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    letters = DeadLetters(tmp_path / "dead.jsonl")
    with Manifest([], Settings().catalog) as manifest:
        yield Load(
            MemoryPort(), "shop-v1", [], manifest, Tally(), letters, lookup=False, on_progress=lambda _tally: None
        )
    letters.close()


def ray_engine(**ray: Any) -> RayEngine:
    settings = Settings(ray=RaySettings(**ray), search=SearchSettings(hosts=("http://x:9200",)))
    return RayEngine(settings, Pool(1, 1, 0.0), HashEmbedder, 8, {})


def test_verdicts_are_counted_and_written(load: Load, tmp_path: Path) -> None:
    letters = [Letter("c", 1, "a", "duplicate_id", "r"), Letter("c", 2, None, "bad_row", "r")]
    encoded = [letter.encode() for letter in letters]
    for verdict in (
        tables.Verdict(tables.SUPERSEDED, "duplicate_id", encoded[0], ()),
        tables.Verdict(tables.FAILED, "bad_row", encoded[1], ()),
        tables.Verdict(tables.INDEXED, None, None, ()),
        tables.Verdict(tables.UNCHANGED, None, None, ()),
        tables.Verdict(tables.UNCHANGED, None, None, ()),
    ):
        engine._settle(verdict, load)
    tally = load.tally
    assert (tally.read, tally.indexed, tally.unchanged, tally.superseded, tally.failed) == (5, 1, 2, 1, 1)
    assert tally.failures == {"bad_row": 1}
    assert (tmp_path / "dead.jsonl").read_bytes() == b"".join(encoded)


def test_silence_is_told_and_ends_a_run_that_lost_a_node(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "alive_nodes", lambda: {"n": {"CPU": 1.0}})
    running = ray_engine()
    patience = running.settings.ingest.max_wait_s
    running._watch(load, num_nodes=2, silence_s=1.0)
    assert load.tally.waiting == ""
    running._watch(load, num_nodes=1, silence_s=10 * patience)  # slow, but all there
    assert "nothing came back from the Ray cluster for" in load.tally.waiting
    with pytest.raises(RayError, match="lost 1 of 2 nodes"):
        running._watch(load, num_nodes=2, silence_s=patience + 1)
