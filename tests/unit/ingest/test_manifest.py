from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings
from lrem_os.errors import DatasetError, InputError
from lrem_os.ingest import manifest as manifests
from lrem_os.ingest.manifest import Manifest
from lrem_os.ingest.sources import Source

CATALOG = CatalogSettings()
MakeSource = Callable[..., Source]


def row(doc_id: object, title: object = "Bag", **fields: Any) -> dict[str, Any]:
    return {"id": doc_id, "title": title, **fields}


def test_the_last_good_row_of_an_id_wins(source: MakeSource) -> None:
    rows = [row("a"), row("b"), row("a"), row("c"), row("a"), row("a", title="")]
    with Manifest([source(rows)], CATALOG) as manifest:
        assert manifest.build().rows_per_source == (6,)
        assert manifest.superseded_by(0, 1, 6) == {1: "catalog.jsonl:3", 3: "catalog.jsonl:5"}
        assert manifest.superseded_by(0, 2, 2) == {}
        assert manifest.superseded_by(0, 3, 3) == {3: "catalog.jsonl:5"}


def test_a_later_file_wins_over_an_earlier_one(source: MakeSource) -> None:
    files = [source([row("a"), row("b")], name="one.jsonl"), source([row("c"), row("a")], name="two.jsonl")]
    with Manifest(files, CATALOG) as manifest:
        assert manifest.build().rows_per_source == (2, 2)
        assert manifest.superseded_by(0, 1, 2) == {1: "two.jsonl:2"}
        assert manifest.superseded_by(1, 1, 2) == {}


def test_a_number_and_its_text_are_the_same_id(source: MakeSource) -> None:
    with Manifest([source([row(1), row("1")])], CATALOG) as manifest:
        manifest.build()
        assert manifest.superseded_by(0, 1, 2) == {1: "catalog.jsonl:2"}


def test_ids_that_differ_in_a_byte_are_two(source: MakeSource) -> None:
    ids = ["a", "A", "a ", "a\0", "a\0b", "e\u0301", "é", "x\u2028", "🎒"]
    with Manifest([source([row(doc_id) for doc_id in ids])], CATALOG) as manifest:
        manifest.build()
        assert manifest.superseded_by(0, 1, 100) == {}
        assert manifest.absent(ids) == []
        assert manifest.absent(["a\0c", "b", "É"]) == ["a\0c", "b", "É"]


def test_what_a_sync_must_keep(source: MakeSource) -> None:
    """A row that is bad but has an id is a product that exists."""
    rows = [row("good"), row("no title", title=None), row("bad price", price="x"), row(None), row("", title="x")]
    with Manifest([source(rows)], CATALOG) as manifest:
        scan = manifest.build()
        assert (scan.num_rows, scan.num_without_id) == (5, 2)
        assert manifest.absent(["good", "no title", "bad price", "gone"]) == ["gone"]


def test_unreadable_lines_count_as_rows_without_id(source: MakeSource) -> None:
    with Manifest([source('{"id": "a"\n\n[1]\n{"id": "b", "title": "t"}\n')], CATALOG) as manifest:
        scan = manifest.build()
    assert (scan.num_rows, scan.num_without_id) == (3, 2)


def test_a_file_that_cannot_be_read_is_an_error(source: MakeSource) -> None:
    with Manifest([source(b"\x1f\x8bgarbage")], CATALOG) as manifest, pytest.raises(DatasetError, match="damaged"):
        manifest.build()


def test_no_space_for_the_ids_is_said(source: MakeSource) -> None:
    with Manifest([source([row(str(number) * 50) for number in range(300)])], CATALOG) as manifest:
        manifest._db.execute("PRAGMA max_page_count = 4")
        with pytest.raises(InputError, match="cannot be kept in a temporary file") as caught:
            manifest.build()
    assert "TMPDIR" in (caught.value.hint or "")


def test_nothing_is_left_on_disk(source: MakeSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However the process ends: a killed run must not leave a copy of the ids behind."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    catalog = source([row(str(number) * 100) for number in range(30_000)])
    with Manifest([catalog], CATALOG) as manifest:
        manifest.build()
        assert list((tmp_path / "tmp").iterdir()) == []


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_agrees_with_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, bool]]], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    sources, last = [], {}
    for idx, rows in enumerate(files):
        path = folder / f"{idx}.jsonl"
        path.write_text(
            "".join(f'{{"id": "{doc_id}"{", " * is_good}{_TITLE * is_good}}}\n' for doc_id, is_good in rows)
        )
        sources.append(Source(path, path.name, "jsonl"))
        last |= {doc_id: (idx, line) for line, (doc_id, is_good) in enumerate(rows, 1) if is_good}
    with pytest.MonkeyPatch.context() as patch, Manifest(sources, CATALOG) as manifest:
        patch.setattr(manifests, "_BATCH", batch)
        manifest.build()
        for idx, rows in enumerate(files):
            losers = {line for line, (i, good) in enumerate(rows, 1) if good and last[i] != (idx, line)}
            assert manifest.superseded_by(idx, 1, len(rows)).keys() == losers
        assert manifest.absent("abcde") == sorted(set("abcde") - {doc_id for rows in files for doc_id, _ in rows})


_TITLE = '"title": "t"'
