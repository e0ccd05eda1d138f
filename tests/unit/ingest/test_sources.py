from __future__ import annotations

import gzip
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import DatasetError
from lrem_os.ingest import sources
from lrem_os.ingest.sources import Row, Source, expand_sources, read_rows

Rows = Callable[..., list[Row]]
MakeSource = Callable[..., Source]


def expand(patterns: list[str], **options: Any) -> list[Source]:
    """Expand what needs no copy."""
    return expand_sources(patterns, spool=pytest.fail, **options)


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a line be at most 2 KiB (the unit of the message is MiB, so it says 0)."""
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 2048)
    return 2048


def test_json_lines_are_numbered_from_one_and_blank_ones_skipped(rows: Rows) -> None:
    assert rows('{"id":"a"}\n\n   \t\n{"id":"b"}\r\n{"id":"c"}') == [
        Row(1, {"id": "a"}),
        Row(4, {"id": "b"}),
        Row(5, {"id": "c"}),
    ]


def test_line_separators_inside_strings_do_not_end_a_line(rows: Rows) -> None:
    value = {"id": "a", "title": "x\u2028y\u2029z\x85\x0b\x0c\x1c"}
    (row,) = rows(json.dumps(value, ensure_ascii=False) + "\n")
    assert row.value == value


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a", "title":', "broken JSON"),
        (b'{"id": "a"} {"id": "b"}', "broken JSON"),
        (b"not json at all", "broken JSON"),
        (b"[1, 2]", "JSON array, not an object"),
        (b'"text"', "JSON string, not an object"),
        (b"3", "JSON number, not an object"),
        (b"null", "JSON null, not an object"),
        (b"true", "JSON boolean, not an object"),
        (b"NaN", "JSON number, not an object"),
        ('{"id": "a", "title": "caf\xe9"}'.encode("latin-1"), "not valid UTF-8 at byte 26 (0xE9)"),
        (b'{"id": "\\ud800"}', "broken JSON"),
        (b'{"id": ' + b"[" * 2000 + b"]" * 2000 + b"}", "broken JSON"),
        (b"\x00", "broken JSON"),
    ],
    ids=repr,
)
def test_a_bad_line_is_named_and_the_next_one_read(rows: Rows, line: bytes, reason: str) -> None:
    bad, good = rows(line + b'\n{"id": "good"}\n')
    assert bad.line == 1
    assert bad.value is None
    assert reason in (bad.error or "")
    assert bad.raw == line[:2000].decode("utf-8", "replace")
    assert good == Row(2, {"id": "good"})


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks_are_left_to_the_check_of_the_field(rows: Rows, constant: str) -> None:
    (row,) = rows(f'{{"id": "a", "price": {constant}}}\n')
    assert row.value is not None
    assert row.value["price"] != 0
    assert isinstance(row.value["price"], float)


def test_bom_is_no_part_of_the_first_line(rows: Rows) -> None:
    assert rows(b'\xef\xbb\xbf{"id":"a"}\n') == [Row(1, {"id": "a"})]
    assert rows(b"\xef\xbb\xbfid,title\n1,x\n", name="c.csv") == [Row(2, {"id": "1", "title": "x"})]


def test_every_line_of_a_utf_16_file_is_refused(rows: Rows) -> None:
    found = rows('{"id":"a"}\n{"id":"b"}\n'.encode("utf-16"))
    assert found
    assert all(row.value is None for row in found)
    assert "not valid UTF-8 at byte 1" in (found[0].error or "")


def test_an_over_long_json_line_is_refused_once(rows: Rows, short_lines: int) -> None:
    for length in (short_lines + 1, 2 * short_lines + 2, 5 * short_lines):
        found = rows(b'{"id":"a"}\n' + b'{"x":"' + b"y" * length + b'"}\n{"id":"b"}\n')
        assert [row.line for row in found] == [1, 2, 3]
        assert "longer than" in (found[1].error or "")
        assert found[2].value == {"id": "b"}
    assert [row.line for row in rows(b"y" * 5 * short_lines)] == [1]


def test_a_line_of_sixteen_mebibytes_is_too_long(rows: Rows) -> None:
    found = rows(b'{"id":"' + b"y" * sources.MAX_LINE_BYTES + b'"}\n{"id":"b"}')
    assert found[0].error == "the line is longer than 16 MiB"
    assert len(found[0].raw or "") == 2000
    assert found[1:] == [Row(2, {"id": "b"})]


def test_a_megabyte_of_text_is_no_trouble(rows: Rows) -> None:
    text = "x" * 2**20
    assert rows([{"id": "a", "title": text}])[0].value == {"id": "a", "title": text}
    assert rows(f"id,title\na,{text}\n", name="c.csv")[0].value == {"id": "a", "title": text}


def test_empty_files_have_no_rows(rows: Rows) -> None:
    for name in ("c.jsonl", "c.csv", "c.tsv"):
        for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
            assert rows(content, name=name) == []
    assert rows("id,title\n", name="c.csv") == []


def test_csv_cells_are_texts_and_empty_ones_missing(rows: Rows) -> None:
    text = 'id,title,price\n1,"a ""quoted"", one",\n\n2,"two\nlines",3.5\n'
    assert rows(text, name="c.csv") == [
        Row(2, {"id": "1", "title": 'a "quoted", one'}),
        Row(5, {"id": "2", "title": "two\nlines", "price": "3.5"}),
    ]


def test_tsv_is_split_at_tabs(rows: Rows) -> None:
    assert rows("id\ttitle\n1\ta, b\n", name="c.tsv") == [Row(2, {"id": "1", "title": "a, b"})]


def test_csv_header_may_follow_blank_lines(rows: Rows) -> None:
    assert rows("\n\nid,title\n1,x\n", name="c.csv") == [Row(4, {"id": "1", "title": "x"})]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"1\n", "has 1 cells, the header 2"),
        (b"1,x,y\n", "has 3 cells, the header 2"),
        (b'1,"x"y\n', "broken CSV: ',' expected after '\"'"),
        ("1,caf\xe9\n".encode("latin-1"), "not valid UTF-8"),
    ],
)
def test_a_bad_csv_row_is_named_and_the_next_one_read(rows: Rows, lines: bytes, reason: str) -> None:
    bad, good = rows(b"id,title\n" + lines + b"2,good\n", name="c.csv")
    assert (bad.line, bad.value) == (2, None)
    assert reason in (bad.error or "")
    assert good == Row(3, {"id": "2", "title": "good"})


def test_csv_may_hold_nul(rows: Rows) -> None:
    assert rows(b"id,title\n1,a\x00b\n", name="c.csv") == [Row(2, {"id": "1", "title": "a\0b"})]


def test_an_open_quote_says_where_it_began(rows: Rows) -> None:
    good, bad = rows('id,title\n1,x\n2,"never closed\n3,y\n4,z\n', name="c.csv")
    assert good == Row(2, {"id": "1", "title": "x"})
    assert bad.line == 5
    assert "unexpected end of data (the row begins on line 3)" in (bad.error or "")


def test_an_over_long_csv_line_is_refused_not_cut(rows: Rows, short_lines: int) -> None:
    """Each cell is short enough: only the line is too long. Cut, it would be a good row with half a text."""
    long = f"2,{'x' * 1500},{'y' * 1500}\n"
    found = rows(f"id,title,description\n1,a,b\n{long}3,c,d\n", name="c.csv")
    assert [row.line for row in found] == [2, 3, 4]
    assert [row.value is None for row in found] == [False, True, False]
    assert "a line is longer than" in (found[1].error or "")
    quoted = f'2,"{"x" * 3000}",y\n'
    assert [row.value is None for row in rows(f"id,title,d\n{quoted}3,c,d\n", name="c.csv")] == [True, False]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"id,title,id\n", "names column 'id' twice"),
        ("id,t\xeftle\n".encode("latin-1"), "header is not valid UTF-8"),
        ("id,title\n".encode("utf-16"), "header is not valid UTF-8"),
        (b'id,"ti"tle\n', "header cannot be read"),
        (b"id,title\r1,x\r2,y", "header cannot be read"),  # line ends of a Mac before 2001
    ],
)
def test_a_bad_header_refuses_the_file(rows: Rows, header: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason) as caught:
        rows(header + b"1,x,y\n", name="c.csv")
    assert "c.csv" in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2)))
def test_what_python_writes_as_csv_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    import csv

    path = tmp_path_factory.getbasetemp() / "given.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "title"], *cells])
    expected = [{name: cell for name, cell in zip(("id", "title"), row, strict=True) if cell} for row in cells]
    assert [row.value for row in read_rows(Source(path, "given.csv", "csv"))] == expected


def test_rows_say_about_how_much_they_hold(rows: Rows, tmp_path: Path) -> None:
    text = "x" * 5000
    found = [
        *rows([{"id": "a", "title": text}]),
        *rows([{"id": "a", "attributes": {"deep": [text]}}]),
        *rows(f"id,title\na,{text}\n", name="c.csv"),
        *_parquet_rows(_parquet(tmp_path, {"id": ["a"], "attributes": [{"deep": [text]}]})),
    ]
    assert [5000 <= row.num_bytes <= 5100 for row in found] == [True] * 4


def test_gzip_is_recognised_by_its_content(rows: Rows) -> None:
    packed = gzip.compress(b'{"id":"a"}\n') + gzip.compress(b'{"id":"b"}\n')
    for name in ("c.jsonl.gz", "c.jsonl"):
        assert [row.value for row in rows(packed, name=name)] == [{"id": "a"}, {"id": "b"}]
    assert rows(gzip.compress(b"id\n1\n"), name="c.csv.gz") == [Row(2, {"id": "1"})]
    assert rows(b'{"id":"a"}\n', name="c.jsonl.gz") == [Row(1, {"id": "a"})]


def test_damaged_gzip_refuses_the_file_after_the_rows_before(source: MakeSource) -> None:
    packed = gzip.compress(b"".join(b'{"id":"%d"}\n' % number for number in range(5000)), mtime=0)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    for broken in (packed[: len(packed) // 2], packed[:-4], bytes(flipped), packed + b"garbage"):
        reader = read_rows(source(broken, name="c.jsonl.gz"))
        with pytest.raises(DatasetError, match=r"c\.jsonl\.gz: the gzip data is damaged or cut off"):
            list(reader)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a directory"):
        list(read_rows(Source(tmp_path, "folder", "jsonl")))
    with pytest.raises(DatasetError, match="folder"):
        list(read_rows(Source(tmp_path, "folder", "parquet")))
    with pytest.raises(DatasetError, match=r"gone.jsonl: cannot be read: No such file"):
        list(read_rows(Source(tmp_path / "gone", "gone.jsonl", "jsonl")))


def test_parquet_rows_are_numbered_and_nulls_missing(tmp_path: Path) -> None:
    path = _parquet(tmp_path, {"id": ["a", "b"], "price": [1.5, None]})
    assert _parquet_rows(path) == [Row(1, {"id": "a", "price": 1.5}), Row(2, {"id": "b"})]


def test_parquet_in_many_batches(tmp_path: Path) -> None:
    path = _parquet(tmp_path, {"id": [str(number) for number in range(1300)]})
    assert [(row.line, row.value) for row in _parquet_rows(path)] == [
        (number + 1, {"id": str(number)}) for number in range(1300)
    ]


def test_parquet_text_that_is_not_utf_8_spoils_one_row(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    texts = arrow.array([b"ok", b"\xff\xfe", b"fine"], type=arrow.binary()).view(arrow.string())
    found = _parquet_rows(_parquet(tmp_path, {"id": ["a", "b", "c"], "title": texts}))
    assert [row.line for row in found] == [1, 2, 3]
    assert [row.value is None for row in found] == [False, True, False]
    assert "not valid UTF-8" in (found[1].error or "")


def test_damaged_parquet_refuses_the_file(tmp_path: Path) -> None:
    path = _parquet(tmp_path, {"id": [str(number) * 20 for number in range(20_000)]})
    whole = path.read_bytes()
    middle, footer = bytearray(whole), bytearray(whole)
    middle[5000:9000] = b"\xff" * 4000
    footer[-40:-8] = b"\xff" * 32
    for broken in (middle, footer, whole[: len(whole) // 2], whole[:-1] + b"X", b"", b'{"id":"a"}\n'):
        path.write_bytes(broken)
        with pytest.raises(DatasetError, match=r"catalog\.parquet"):
            _parquet_rows(path)


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "catalog.parquet"
    parquet.write_table(arrow.Table.from_arrays([arrow.array(["x"]), arrow.array(["y"])], names=["id", "id"]), path)
    with pytest.raises(DatasetError, match="has column 'id' twice"):
        _parquet_rows(path)


def test_files_are_expanded_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv.gz", "d.TSV", "odd[1].parquet"):
        (tmp_path / name).touch()
    found = expand([str(tmp_path / "*.jsonl"), *(str(tmp_path / n) for n in ("c.csv.gz", "d.TSV"))])
    assert [(source.path.name, source.format) for source in found] == [
        ("a.jsonl", "jsonl"),
        ("b.jsonl", "jsonl"),
        ("c.csv.gz", "csv"),
        ("d.TSV", "tsv"),
    ]
    assert expand([str(tmp_path / "odd[1].parquet")])[0].format == "parquet"  # a name, not a pattern
    assert expand([str(tmp_path / "a.jsonl")], file_format="tsv")[0].format == "tsv"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("missing.jsonl", "no such file"),
        ("*.nothing", "no such file"),
        (".", "is a directory"),
        ("", "no such file"),
        ("notes.txt", "unknown kind of file"),
        ("bare", "unknown kind of file"),
        ('{"id": "a"}' * 100, "no such file"),  # longer than a file name may be
    ],
)
def test_what_is_no_catalog_file_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.txt", "bare"):
        Path(name).touch()
    with pytest.raises(DatasetError, match=reason):
        expand([pattern])


def test_standard_input_is_kept_for_the_second_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"id":"a"}\n')))
    (source,) = expand_sources(["-"], spool=lambda: tmp_path)
    assert (source.label, source.format) == ("-", "jsonl")
    assert list(read_rows(source)) == list(read_rows(source)) == [Row(1, {"id": "a"})]


def test_a_pipe_is_kept_for_the_second_reading(tmp_path: Path) -> None:
    """``lrem-os ingest <(zcat catalog.gz)``: read twice from the pipe it would be empty, or hang."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"id\n1\n",))
    writer.start()
    (source,) = expand_sources([str(pipe)], spool=lambda: tmp_path)
    writer.join()
    assert source.label == str(pipe)
    assert list(read_rows(source)) == list(read_rows(source)) == [Row(2, {"id": "1"})]


def _parquet(folder: Path, columns: dict[str, Any]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = folder / "catalog.parquet"
    parquet.write_table(arrow.table(columns), path)
    return path


def _parquet_rows(path: Path) -> list[Row]:
    return list(read_rows(Source(path, path.name, "parquet")))
