from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings, IngestSettings
from lrem_os.errors import EmbeddingError, SearchRejected, SearchUnavailable
from lrem_os.ingest import throttle
from lrem_os.ingest.deadletter import DeadLetters
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.pipeline import Pipeline
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.sources import Source
from lrem_os.search.bulk import BulkItem, Outcome
from lrem_os.text import embedded_text
from lrem_os.types import Vectors
from tests.fakes.embedder import HashEmbedder, hash_vector
from tests.fakes.memory_port import MemoryPort

CATALOG = CatalogSettings()
MakeSource = Callable[..., Source]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(throttle, "_LONGEST_WAIT_S", 0.004)


@dataclass
class Stage:
    """A pipeline over an index in memory."""

    folder: Path
    port: MemoryPort | None = field(default_factory=MemoryPort)
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    settings: IngestSettings = field(default_factory=IngestSettings)
    lookup: bool = True
    runs: int = 0

    def run(self, *sources: Source) -> IngestReport:
        self.runs += 1
        letters = DeadLetters(self.folder / f"{self.runs}.dead.jsonl")
        tally = Tally()
        pipeline = Pipeline(
            CATALOG,
            self.settings,
            "lrem_vector",
            embedder=None if self.port is None else self.embedder,
            index=self.port,
            tally=tally,
            dead_letters=letters,
            lookup=self.lookup,
        )
        try:
            with Manifest(sources, CATALOG) as manifest:
                manifest.build()
                pipeline.run(sources, manifest)
        finally:
            letters.close()
        return tally.report(
            alias="", index="", dead_letters=str(letters.path), published=True, previous=None, dry_run=False
        )

    @property
    def letters(self) -> list[dict[str, Any]]:
        path = self.folder / f"{self.runs}.dead.jsonl"
        return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    @property
    def written(self) -> dict[str, dict[str, Any]]:
        assert self.port is not None
        return self.port.written


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def row(doc_id: str, title: str = "Bag", **fields: Any) -> dict[str, Any]:
    return {"id": doc_id, "title": title, **fields}


def counts(report: IngestReport) -> tuple[int, int, int, int, int]:
    assert report.adds_up
    return report.read, report.indexed, report.unchanged, report.superseded, report.failed


def test_rows_are_written_with_their_vectors(stage: Stage, source: MakeSource) -> None:
    report = stage.run(source([row("a", "Red bag", brand="Acme"), row("b", "Hat")]))
    assert counts(report) == (2, 2, 0, 0, 0)
    for doc_id, text in (("a", "Red bag\nAcme"), ("b", "Hat")):
        stored = np.array(stage.written[doc_id]["lrem_vector"], dtype=np.float32)
        assert np.array_equal(stored, hash_vector(text, 8))  # to the bit, through JSON
    assert {key: value for key, value in stage.written["a"].items() if not key.startswith("lrem_")} == row(
        "a", "Red bag", brand="Acme"
    )


def test_the_same_catalog_again_is_neither_embedded_nor_written(stage: Stage, source: MakeSource) -> None:
    catalog = source([row("a"), row("b")])
    stage.run(catalog)
    stage.embedder.texts.clear()
    assert counts(stage.run(catalog)) == (2, 0, 2, 0, 0)
    assert stage.embedder.texts == []
    assert stage.port is not None
    assert len(stage.port.sent) == 1


@pytest.mark.parametrize(
    ("before", "after", "embedded"),
    [
        pytest.param([row("a", "x")], [row("a", "y")], ["y"], id="same id, new text"),
        pytest.param([row("a", "x")], [row("a", "x"), row("b", "x")], ["x"], id="new id, same text"),
        pytest.param([row("a", "x")], [row("a", "x")], [], id="same id, same text"),
        pytest.param([row("a", "x"), row("b", "y")], [row("a", "y"), row("b", "x")], ["y", "x"], id="swapped"),
        pytest.param([row("a", "x", price=1)], [row("a", "x", price=2)], ["x"], id="same text, new body"),
    ],
)
def test_ingesting_again(
    stage: Stage, source: MakeSource, before: list[Any], after: list[Any], embedded: list[str]
) -> None:
    """Trap T5."""
    stage.run(source(before))
    stage.embedder.texts.clear()
    assert stage.run(source(after)).adds_up
    assert stage.embedder.texts == embedded
    assert {doc_id: body["title"] for doc_id, body in stage.written.items()} == {r["id"]: r["title"] for r in after}
    for body in stage.written.values():
        assert np.array_equal(np.array(body["lrem_vector"], dtype=np.float32), hash_vector(body["title"], 8))


def test_of_rows_with_the_same_id_the_last_good_one_wins(stage: Stage, source: MakeSource) -> None:
    rows = [row("a", "one"), row("b", "other"), row("a", "two"), row("a", ""), row("a", "three", price="x")]
    report = stage.run(source(rows))
    assert counts(report) == (5, 2, 0, 1, 2)
    assert stage.written["a"]["title"] == "two"
    assert [(letter["line"], letter["id"], letter["code"]) for letter in stage.letters] == [
        (1, "a", "duplicate_id"),
        (4, "a", "bad_row"),
        (5, "a", "bad_row"),
    ]
    assert stage.letters[0]["reason"] == "replaced by catalog.jsonl:3, which has the same id"
    assert stage.letters[0]["row"] == rows[0]


def test_a_row_too_deep_for_json_does_not_take_its_id_from_a_good_one(stage: Stage, source: MakeSource) -> None:
    """It is read, passes every check of a field, and fails only when it is written."""
    deep = '{"id": "a", "title": "deep", "x": ' + '{"k":' * 300 + "1" + "}" * 300 + "}"
    report = stage.run(source('{"id": "a", "title": "good"}\n' + deep + "\n"))
    assert counts(report) == (2, 1, 0, 0, 1)
    assert stage.written["a"]["title"] == "good"
    assert stage.letters[0]["row"] is None
    assert "Recursion limit" in stage.letters[0]["reason"]


def test_windows_and_batches_of_any_size_hold_every_row(stage: Stage, source: MakeSource) -> None:
    catalog = [source([row(f"{n}-{i}") for i in range(7)], name=f"{n}.jsonl") for n in range(3)]
    for window, bulk_docs in ((1, 1), (2, 3), (7, 7), (100, 2)):
        stage.port, stage.settings = MemoryPort(), IngestSettings(window=window, bulk_docs=bulk_docs)
        assert counts(stage.run(*catalog)) == (21, 21, 0, 0, 0)
        assert len(stage.written) == 21
        assert max(len(ids) for ids in stage.port.sent) <= bulk_docs


@pytest.mark.parametrize("long", [{"title": "x" * 400}, {"attributes": {"a": ["x" * 400]}}, {"other": ["x" * 400]}])
def test_long_rows_make_short_windows(
    stage: Stage, source: MakeSource, monkeypatch: pytest.MonkeyPatch, long: dict[str, Any]
) -> None:
    monkeypatch.setattr("lrem_os.ingest.stages._WINDOW_BYTES", 1000)
    stage.run(source([row(str(n)) | long for n in range(10)]))
    assert max(stage.embedder.batches) == 3
    assert len(stage.written) == 10


def test_a_text_the_model_fails_on_costs_only_its_own_row(stage: Stage, source: MakeSource) -> None:
    stage.embedder = HashEmbedder(fails_on="poison")
    titles = [f"t{n}" for n in range(30)]
    titles[17] = titles[4] = "poison"
    report = stage.run(source([row(str(n), title) for n, title in enumerate(titles)]))
    assert counts(report) == (30, 28, 0, 0, 2)
    assert report.failures == {"model": 2}
    assert sorted(letter["id"] for letter in stage.letters) == ["17", "4"]
    assert "the model fails on 'poison'" in stage.letters[0]["reason"]
    for doc_id, body in stage.written.items():
        assert np.array_equal(np.array(body["lrem_vector"], dtype=np.float32), hash_vector(titles[int(doc_id)], 8))


def test_a_vector_with_nan_costs_only_its_own_row(stage: Stage, source: MakeSource) -> None:
    stage.embedder = HashEmbedder(nan_on="poison")
    report = stage.run(source([row("a", "x"), row("b", "poison"), row("c", "y")]))
    assert counts(report) == (3, 2, 0, 0, 1)
    assert stage.letters[0]["reason"] == "the model returned NaN or infinity for this text"
    assert np.array_equal(np.array(stage.written["c"]["lrem_vector"], dtype=np.float32), hash_vector("y", 8))


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (2, 7)])
def test_vectors_that_do_not_match_the_texts_end_the_run(
    stage: Stage, source: MakeSource, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """Or every product would get its neighbour's vector, and nobody would know."""

    def embed(_texts: Sequence[str]) -> Vectors:
        return np.ones(shape, dtype=np.float32)

    monkeypatch.setattr(stage.embedder, "embed_items", embed)
    with pytest.raises(EmbeddingError, match="shape"):
        stage.run(source([row("a"), row("b")]))
    assert stage.written == {}


def test_a_document_the_index_refuses_is_a_dead_letter(stage: Stage, source: MakeSource) -> None:
    def refuse(batch: Sequence[BulkItem]) -> Outcome:
        bad = [item for item in batch if item.document.doc_id == "b"]
        return Outcome([item for item in batch if item not in bad], [], [(item, "mapping") for item in bad])

    assert stage.port is not None
    stage.port.fault = refuse
    report = stage.run(source([row("a"), row("b", price=3), row("c")]))
    assert counts(report) == (3, 2, 0, 0, 1)
    assert stage.letters == [
        {
            "path": "catalog.jsonl",
            "line": 2,
            "id": "b",
            "code": "refused",
            "reason": "mapping",
            "row": row("b", price=3),
        }
    ]


def test_a_dry_run_counts_and_writes_nothing(stage: Stage, source: MakeSource) -> None:
    stage.port = None
    report = stage.run(source([row("a"), row("a"), row("", "x"), row("b")]))
    assert counts(report) == (4, 2, 0, 1, 1)
    assert stage.embedder.texts == []


def test_what_was_put_right_is_noted(stage: Stage, source: MakeSource) -> None:
    stage.settings = IngestSettings(max_text_chars=100)
    report = stage.run(source([row("a", "x" * 200), row("b", "nul\x00")]))
    assert [(note.doc_id, note.line, note.message.split(" ")[0]) for note in report.notes] == [
        ("a", 1, "embedded"),
        ("b", 2, "holds"),
    ]


def test_an_error_of_the_reader_reaches_the_caller(stage: Stage, source: MakeSource) -> None:
    catalog = source([row(str(n)) for n in range(10)])
    assert stage.port is not None

    def away(_ids: Sequence[str]) -> dict[str, str]:
        raise SearchUnavailable("away")

    stage.port.find_hashes = away  # type: ignore[method-assign]
    with pytest.raises(SearchUnavailable):
        stage.run(catalog)


def test_reading_embedding_and_writing_overlap(stage: Stage, source: MakeSource) -> None:
    """The model works on a window while the one before is still on its way."""
    assert stage.port is not None
    embedded_during_send = threading.Event()

    def slow(_batch: Sequence[BulkItem]) -> None:
        embedded_during_send.wait(30)

    original = stage.embedder.embed_items

    def embed(texts: Sequence[str]) -> Vectors:
        vectors = original(texts)
        if len(stage.embedder.batches) == 2:
            seen.append(len(stage.written))
            embedded_during_send.set()
        return vectors

    seen: list[int] = []
    stage.embedder.embed_items = embed  # type: ignore[method-assign]
    stage.port.fault = slow
    stage.settings = IngestSettings(window=2, senders=1)
    stage.run(source([row(str(n)) for n in range(6)]))
    assert seen == [0]  # the second window was embedded before the first was written
    assert len(stage.written) == 6


LINES = st.one_of(
    st.builds(
        lambda doc_id, title, price: orjson.dumps({"id": doc_id, "title": title, "price": price}),
        st.sampled_from(["a", "b", "c", 1, "1", "é", None, "", 1.5]),
        st.sampled_from(["Bag", "Hat", "poison", "refused", "", None, 3, "nul\0", "\u2028x"]),
        st.sampled_from([1, 2.5, "3", "x", None]),
    ),
    st.sampled_from([b"", b"  ", b"[]", b"{", b'{"id": "a", "title": "x", "price": NaN}', b"\xff\xfe", b'"s"']),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LINES, max_size=25),
    st.integers(1, 8),
    st.integers(1, 5),
    st.lists(st.sampled_from(["ok", "429", "503"]), max_size=5),
)
def test_any_mixture_adds_up_and_the_index_is_the_catalog(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], window: int, bulk_docs: int, weather: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    (folder / "c.jsonl").write_bytes(b"\n".join(lines))
    stage = Stage(
        folder, embedder=HashEmbedder(fails_on="poison"), settings=IngestSettings(window=window, bulk_docs=bulk_docs)
    )
    assert stage.port is not None
    stage.port.fault = _weather(weather)
    report = stage.run(Source(folder / "c.jsonl", "c.jsonl", "jsonl"))

    winners = _model(lines)
    expected = {doc_id: r for doc_id, r in winners.items() if r["title"] not in ("poison", "refused")}
    assert report.adds_up
    assert report.read == sum(bool(line.strip()) for line in lines)
    assert report.indexed == len(expected)
    assert report.failures.get("model", 0) == sum(r["title"] == "poison" for r in winners.values())
    assert report.failures.get("refused", 0) == sum(r["title"] == "refused" for r in winners.values())
    assert len(stage.letters) == report.failed + report.superseded
    assert Counter(letter["code"] for letter in stage.letters) == Counter(report.failures) + Counter(
        {"duplicate_id": report.superseded}
    )
    for doc_id, body in stage.written.items():
        assert {key: value for key, value in body.items() if not key.startswith("lrem_")} == expected[doc_id]
        vector = hash_vector(embedded_text(body, CATALOG.embed), 8)
        assert np.array_equal(np.array(body["lrem_vector"], dtype=np.float32), vector)
    assert stage.written.keys() == expected.keys()


def _weather(days: list[str]) -> Callable[[Sequence[BulkItem]], Outcome]:
    left = list(days)

    def fault(batch: Sequence[BulkItem]) -> Outcome:
        day = left.pop() if left else "ok"
        if day == "429":
            raise SearchRejected("busy")
        if day == "503":
            return Outcome([], list(batch), [])
        bad = [item for item in batch if item.document.source["title"] == "refused"]
        return Outcome([item for item in batch if item not in bad], [], [(item, "no") for item in bad])

    return fault


def _model(lines: list[bytes]) -> dict[str, dict[str, Any]]:
    """Return what the index must hold, told in the simplest way: the last good line of each id."""
    winners = {}
    for line in lines:
        try:
            value = orjson.loads(line)
            price = value["price"] if value["price"] is None else float(value["price"])
            is_good = value["title"].strip(" \0") and isinstance(value["id"], str | int) and value["id"] != ""
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if is_good:
            winners[str(value["id"])] = value | {"price": price}
    return winners
