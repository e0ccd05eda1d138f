from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import DatasetError
from lrem_os.train.construct import lines
from lrem_os.train.construct.lines import QueryLine, Unusable, checksum, read_lines, read_objects, read_queries


def write(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


def usable(path: Path) -> list[QueryLine]:
    return [entry for entry in read_queries(path) if isinstance(entry, QueryLine)]


def test_jsonl_with_all_fields(tmp_path: Path) -> None:
    row = {"qid": 7, "query": " la mer\u2028dupe ", "type": "alternative", "cot": "Winona"}
    [query] = read_queries(write(tmp_path / "log.jsonl", row))
    assert query == QueryLine("7", "la mer dupe", "alternative", "Winona", 1)


def test_empty_reasoning_is_not_no_reasoning(tmp_path: Path) -> None:
    found = usable(write(tmp_path / "log.jsonl", {"query": "a", "cot": ""}, {"query": "b"}))
    assert [query.reasoning for query in found] == ["", None]
    assert [query.query_id for query in found] == ["log-1", "log-2"]


def test_table_and_plain_lines_are_told_apart(tmp_path: Path) -> None:
    assert usable(write(tmp_path / "a.tsv", b"q1\tred bag\teasy", b"q2\tblue bag")) == [
        QueryLine("q1", "red bag", "easy", None, 1),
        QueryLine("q2", "blue bag", "", None, 2),
    ]
    assert [query.text for query in usable(write(tmp_path / "log.txt", b"red bag", b"", b"blue bag"))] == [
        "red bag",
        "blue bag",
    ]


def test_gzip_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "log.txt.gz"
    path.write_bytes(gzip.compress("\ufeffred bag\r\nblue bag\r\n".encode()))
    assert [(query.text, query.query_id) for query in usable(path)] == [("red bag", "log-1"), ("blue bag", "log-2")]


def test_the_same_query_comes_once_and_an_id_belongs_to_one(tmp_path: Path) -> None:
    rows = [{"qid": "1", "query": "Red  Bag"}, {"qid": "2", "query": "red bag"}, {"qid": "1", "query": "hat"}]
    first, second, third = read_queries(write(tmp_path / "log.jsonl", *rows))
    assert isinstance(first, QueryLine)
    assert isinstance(second, Unusable)
    assert second.duplicate
    assert isinstance(third, Unusable)
    assert not third.duplicate
    assert "'1' belongs to another query" in third.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{broken", "is not JSON"),
        (b'["list"]', "not a JSON object"),
        ({"qid": "1"}, "no text under 'query'"),
        ({"query": "  "}, "no text under 'query'"),
        ({"query": "a", "cot": 3}, "'cot' is int"),
        ({"query": "x" * 2001}, "2001 characters"),
        (b'{"query": "\xff"}', "is not UTF-8 at byte 12"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path: Path, row: object, reason: str) -> None:
    found = list(read_queries(write(tmp_path / "log.jsonl", {"query": "first"}, row, {"query": "last"})))
    assert [entry.text for entry in found if isinstance(entry, QueryLine)] == ["first", "last"]
    [bad] = [entry for entry in found if isinstance(entry, Unusable)]
    assert bad.line == 2
    assert reason in bad.reason


def test_an_endless_line_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 20)
    path = write(tmp_path / "log.txt", b"x" * 100, b"red bag")
    bad, good = read_lines(path)
    assert isinstance(bad, Unusable)
    assert good == (2, "red bag")


def test_an_export_is_unwrapped(tmp_path: Path) -> None:
    path = write(tmp_path / "ubi.jsonl", {"_index": "ubi_queries", "_id": "x", "_source": {"query_id": "1"}}, {"a": 1})
    assert list(read_objects(path)) == [(1, {"query_id": "1"}), (2, {"a": 1})]


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        list(read_lines(tmp_path / "absent"))
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"red bag\n" * 1000)[:-10])
    with pytest.raises(DatasetError, match="damaged or cut off"):
        list(read_lines(cut))


def test_the_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"red")
    assert checksum(path) == hashlib.sha256(b"red\n").hexdigest()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x00"), min_size=1, max_size=20), max_size=8)
)
def test_every_query_comes_back_in_order(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = write(tmp_path_factory.mktemp("log") / "log.jsonl", *({"query": text} for text in texts))
    expected: dict[str, str] = {}
    for text in texts:
        if text.strip():
            expected.setdefault(" ".join(text.split()).casefold(), " ".join(text.split()))
    assert [query.text for query in usable(path)] == list(expected.values())
