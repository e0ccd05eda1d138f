"""The stages of the Ray engine, called here as Ray calls them there: on tables, each in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os import __version__
from lrem_os.config import CatalogSettings, IngestSettings, SearchSettings
from lrem_os.errors import IndexMismatch, RayError, SearchError
from lrem_os.ingest.deadletter import Letter
from lrem_os.ingest.on_ray import stages, tables
from lrem_os.ingest.on_ray.cluster import Pool
from lrem_os.ingest.on_ray.stages import EmbedRows, Job, WriteRows, read_files
from lrem_os.ingest.sources import Source
from lrem_os.ingest.stages import Checked
from lrem_os.types import Document
from tests.fakes.embedder import HashEmbedder, hash_vector
from tests.fakes.memory_port import MemoryPort
from tests.fakes.rows import row

POOL = Pool(1, 1, 0.0)


class Run:
    """A run over files, with an index in memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port, self.folder = MemoryPort(), folder
        self.superseded: dict[int, dict[int, str]] = {}
        self.embedder = HashEmbedder()
        self.settings = IngestSettings(window=4, bulk_docs=2, senders=2)
        self.lookup = False
        self.version = __version__
        self.sources: list[Source] = []
        monkeypatch.setattr(Job, "port", lambda _job: self.port)
        monkeypatch.setattr(stages.ray, "get", lambda reference: reference)

    @property
    def job(self) -> Job:
        names = (SearchSettings(), "shop", CatalogSettings(), self.settings, "lrem_vector")
        return Job(*names, self.sources, self.superseded, self.lookup, self.version)

    def add(self, rows: Sequence[Any]) -> None:
        path = self.folder / f"{len(self.sources)}.jsonl"
        path.write_bytes(b"".join(entry if isinstance(entry, bytes) else orjson.dumps(entry) + b"\n" for entry in rows))
        self.sources.append(Source(path, path.name, "jsonl"))

    def read(self) -> list[Any]:
        return list(read_files(pa.table({"source": list(range(len(self.sources)))}), self.job))

    def embed(self, rows: Any) -> Any:
        return EmbedRows(lambda: self.embedder, self.embedder.identity, POOL, self.job)(rows)

    def all(self) -> list[tables.Verdict]:
        embed = EmbedRows(lambda: self.embedder, self.embedder.identity, POOL, self.job)
        write = WriteRows(self.job, senders=2)
        return [verdict for rows in self.read() for verdict in tables.verdicts(write(embed(rows)))]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Run(tmp_path, monkeypatch)


def letter(verdict: tables.Verdict) -> dict[str, Any]:
    assert verdict.letter is not None
    entry: dict[str, Any] = json.loads(verdict.letter)
    return entry


def test_every_row_ends_with_one_verdict(run: Run) -> None:
    run.embedder = HashEmbedder(fails_on="poison", nan_on="broken")
    run.add([row("a", "first"), b"{\n", row("b", "poison"), row("c", "broken"), row("a", "second"), row("d", "Hat")])
    run.superseded = {0: {1: "0.jsonl:5"}}
    states = [(verdict.state, verdict.code) for verdict in run.all()]
    assert states == [
        (tables.SUPERSEDED, "duplicate_id"),
        (tables.FAILED, "bad_row"),
        (tables.FAILED, "model"),
        (tables.FAILED, "model"),
        (tables.INDEXED, None),
        (tables.INDEXED, None),
    ]
    assert {doc_id: body["title"] for doc_id, body in run.port.written.items()} == {"a": "second", "d": "Hat"}
    for doc_id, text in (("a", "second"), ("d", "Hat")):
        stored = np.array(run.port.written[doc_id]["lrem_vector"], dtype=np.float32)
        assert np.array_equal(stored, hash_vector(text, 8))


def test_a_letter_says_all_that_is_needed_to_mend_the_row(run: Run) -> None:
    run.embedder = HashEmbedder(fails_on="poison")
    run.add([row("b", "poison", price=3)])
    (verdict,) = run.all()
    assert letter(verdict) == {
        "path": "0.jsonl",
        "line": 1,
        "id": "b",
        "code": "model",
        "reason": "the model fails on 'poison'",
        "row": row("b", "poison", price=3),
    }


def test_what_the_index_has_is_neither_embedded_nor_written(run: Run) -> None:
    run.add([row("a", "x"), row("b", "y")])
    run.all()
    run.lookup = True
    run.embedder.texts.clear()
    run.port.written.pop("b")
    assert [verdict.state for verdict in run.all()] == [tables.UNCHANGED, tables.INDEXED]
    assert run.embedder.texts == ["y"]


def test_rows_that_are_written_twice_are_there_once(run: Run) -> None:
    """A block whose actor was lost is worked on again."""
    run.add([row("a", "x"), row("b", "y")])
    assert run.all() == run.all()
    assert run.port.written.keys() == {"a", "b"}


def test_a_file_without_rows_has_columns(run: Run) -> None:
    run.add([])
    (rows,) = run.read()
    assert rows.schema == tables.ROWS
    assert run.embed(rows).schema == tables.ROWS
    assert run.all() == []
    assert run.embedder.batches == []


def test_notes_arrive(run: Run) -> None:
    run.settings = run.settings.model_copy(update={"max_text_chars": 100})
    run.add([row("a", "x" * 200), row("b")])
    first, second = run.all()
    assert [(note.path, note.line, note.doc_id) for note in first.notes] == [("0.jsonl", 1, "a")]
    assert "cut from 200 to 100" in first.notes[0].message
    assert second.notes == ()


def test_refused_documents_do_not_hold_up_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.add([row(f"p{number}") for number in range(9)])
    send = run.port.send

    def picky(batch: Sequence[Any]) -> Any:
        outcome = send(batch)
        bad = [item for item in outcome.done if item.document.doc_id == "p5"]
        return type(outcome)(
            [item for item in outcome.done if item not in bad], [], [(item, "too odd") for item in bad]
        )

    monkeypatch.setattr(run.port, "send", picky)
    verdicts = run.all()
    assert [verdict.state for verdict in verdicts].count(tables.INDEXED) == 8
    (failed,) = [verdict for verdict in verdicts if verdict.state == tables.FAILED]
    assert (failed.code, letter(failed)["id"], letter(failed)["reason"]) == ("refused", "p5", "too odd")


def test_a_cluster_that_refuses_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_batch: Sequence[Any]) -> Any:
        raise SearchError("no")

    run.add([row("a")])
    monkeypatch.setattr(run.port, "send", refuse)
    with pytest.raises(SearchError, match="no"):
        run.all()


def test_a_node_with_another_model_writes_nothing(run: Run) -> None:
    run.add([row("a")])
    embed = EmbedRows(lambda: HashEmbedder(name="other"), run.embedder.identity, POOL, run.job)
    with pytest.raises(IndexMismatch, match="another model"):
        embed(run.read()[-1])


@pytest.mark.parametrize("stage", ["read", "embed", "write"])
def test_a_node_with_another_version_is_refused(run: Run, stage: str) -> None:
    run.add([row("a")])
    (_, rows), run.version = run.read(), "0.0.1"
    begin: dict[str, Callable[[], object]] = {
        "read": run.read,
        "embed": lambda: run.embed(rows),
        "write": lambda: WriteRows(run.job, senders=1)(rows),
    }
    with pytest.raises(RayError, match=r"the command is 0\.0\.1"):
        begin[stage]()


def test_times_are_told_once_a_batch(run: Run) -> None:
    run.add([row("a"), row("b")])
    for rows in run.read():
        done = run.embed(rows)
        assert done.column("embed_s").null_count == max(0, done.num_rows - 1)
        assert tables.total(done, "embed_s") >= 0


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, st.dictionaries(texts, values, max_size=4)), max_size=5))
def test_documents_travel_unchanged(rows: list[tuple[str, str, dict[str, Any]]]) -> None:
    documents = [
        Document(doc_id, text, source, f"{line}", "c.jsonl", line) for line, (doc_id, text, source) in enumerate(rows)
    ]
    letters = [Letter("c.jsonl", 99, None, "bad_row", "why", "raw")]
    table = tables.checked_table(Checked(documents, letters, []), 0, {})
    positions, arrived = tables.open_documents(table, ["c.jsonl"])
    assert arrived == documents
    assert positions == list(range(1, len(documents) + 1))
