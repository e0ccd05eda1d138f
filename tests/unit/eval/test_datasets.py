from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile, parse_qrels, parse_queries, read_file, read_qrels, read_queries
from lrem_os.types import Query


def write(tmp_path: Path, data: str | bytes, name: str = "data") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


JSONL = '{"qid": "q1", "query": "red bag", "type": "easy"}\n{"query_id": 7, "text": "sofa", "type": null}\n'


def test_jsonl_queries_under_either_name(tmp_path: Path) -> None:
    assert read_queries(write(tmp_path, JSONL)) == (Query("q1", "red bag", "easy"), Query("7", "sofa"))


def test_tsv_queries(tmp_path: Path) -> None:
    assert read_queries(write(tmp_path, "q1\tred bag\nq2\tsofa, green\n")) == (
        Query("q1", "red bag"),
        Query("q2", "sofa, green"),
    )


@pytest.mark.parametrize(
    "data",
    [
        JSONL.encode(),
        b"\xef\xbb\xbf" + JSONL.encode(),
        JSONL.replace("\n", "\r\n").encode(),
        JSONL.replace("\n", "\n\n \n").encode(),
        JSONL.rstrip("\n").encode(),
        gzip.compress(JSONL.encode()),
    ],
    ids=["plain", "byte order mark", "CRLF", "blank lines", "no last newline", "gzip"],
)
def test_the_same_queries_however_the_file_is_written(tmp_path: Path, data: bytes) -> None:
    assert read_queries(write(tmp_path, data)) == (Query("q1", "red bag", "easy"), Query("7", "sofa"))


def test_checksum_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    # sha256sum of the three bytes "a\tb"
    assert read_file(write(tmp_path, "a\tb")).sha256 == (
        "894891f8b78a9945b0aa07e70d5f71f10b1f1990af127de561cc0ac36024c188"
    )


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_newline_ends_a_line(tmp_path: Path, separator: str) -> None:
    text = f"red{separator}bag"
    assert read_queries(write(tmp_path, f"q1\t{text}\nq2\tsofa")) == (Query("q1", text), Query("q2", "sofa"))
    assert read_qrels(write(tmp_path, f"q1 0 a{separator}b 1\n")) == {"q1": {f"a{separator}b": 1}}


@given(
    st.lists(
        st.tuples(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip), st.text()),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_jsonl_keeps_every_text(rows: list[tuple[str, str, str]]) -> None:
    lines = [json.dumps({"qid": qid, "query": text, "type": kind}, ensure_ascii=False) for qid, text, kind in rows]
    file = DataFile("q.jsonl", "", tuple(enumerate(lines, 1)))
    assert parse_queries(file) == tuple(Query(*row) for row in rows)


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ('{"qid": "q1", "query": "a"}\n{"qid": "q2", "query": ', 2, "broken JSON"),
        ('{"qid": "q1", "query": "a"}\n["q2", "b"]', 2, '\'["q2", "b"]\' is not a JSON object'),
        ('{"id": "q1", "query": "a"}', 1, "no qid or query_id; the line has id, query"),
        ('{"qid": "q1", "q": "a"}', 1, "no query or text; the line has qid, q"),
        ('{"qid": "q1", "query": " "}', 1, "the query is ' ': want text"),
        ('{"qid": "q1", "query": 5}', 1, "the query is 5: want text"),
        ('{"qid": true, "query": "a"}', 1, "True is no id"),
        ('{"qid": "", "query": "a"}', 1, "'' is no id"),
        ('{"qid": "q1", "query": "a", "type": 3}', 1, "type is 3: want text"),
        ('{"qid": 1, "query": "a"}\n\n{"qid": "1", "query": "b"}', 3, "query id '1' is already on line 1"),
        ("q1\tbag\nq2", 2, "'q2' has 1 columns"),
        ("q1\tbag\textra", 1, "has 3 columns"),
        ("q1\t \n", 1, "has 2 columns"),
        (b"q1\tbag\nq2\tcaf\xe9\n", 2, "not UTF-8: byte 0xe9 at column 7"),
        ("q1\tbag".encode("utf-16"), 1, "not UTF-8: byte 0xff at column 1"),
    ],
)
def test_a_query_that_cannot_be_used_is_named(tmp_path: Path, data: str | bytes, line: int, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(DatasetError) as caught:
        read_queries(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"")])
def test_an_empty_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    with pytest.raises(DatasetError, match="the file is empty"):
        read_qrels(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.txt: cannot read it: No such file"):
        read_queries(tmp_path / "nothing.txt")
    with pytest.raises(DatasetError, match="cannot read it: Is a directory"):
        read_queries(tmp_path)
    with pytest.raises(DatasetError, match="broken gzip"):
        read_queries(write(tmp_path, gzip.compress(JSONL.encode() * 50)[:-9]))
    with pytest.raises(DatasetError, match=r"broken gzip|cannot read it"):
        read_queries(write(tmp_path, b"\x1f\x8bnot gzip at all"))


def test_trec_and_jsonl_qrels_agree(tmp_path: Path) -> None:
    trec = "q1 0 d1 3\nq1\t0\td2\t0\n  q2  Q0 \t d1 1 \n"
    jsonl = '{"qid":"q1","doc_id":"d1","grade":3}\n{"query_id":"q1","doc_id":"d2","grade":0}\n'
    jsonl += '{"qid":"q2","doc_id":"d1","grade":1}\n'
    expected = {"q1": {"d1": 3, "d2": 0}, "q2": {"d1": 1}}
    assert read_qrels(write(tmp_path, trec)) == expected
    assert read_qrels(write(tmp_path, jsonl)) == expected


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ("q1 0 d1 1\nq1 0 d2 -1\n", 2, "grade '-1'"),
        ("q1 0 d1 1.5\n", 1, "grade '1.5'"),
        ("q1 0 d1 1_0\n", 1, "grade '1_0'"),
        ("q1 0 d1 \u0663\n", 1, "grade '\u0663'"),
        (f"q1 0 d1 {'9' * 400}\n", 1, "grade '999"),
        ("q1 0 d1 high\n", 1, "grade 'high'"),
        ("q1 d1 1\n", 1, "has 3 columns: want 4"),
        ("q1 0 my doc 1\n", 1, "has 5 columns: want 4"),
        ("q1 0 d1 1\nq2 0 d1 1\nq1 0 d1 2\n", 3, "already judged on line 1 (grade 1, here 2)"),
        ("q1 0 d1 1\nq1 0 d1 1\n", 2, "already judged on line 1"),
        ('{"qid": "q1", "doc_id": "d1", "grade": -1}', 1, "grade -1"),
        ('{"qid": "q1", "doc_id": "d1", "grade": 1.0}', 1, "grade 1.0"),
        ('{"qid": "q1", "doc_id": "d1", "grade": true}', 1, "grade True"),
        ('{"qid": "q1", "doc_id": "d1", "grade": "1"}', 1, "grade '1'"),
        ('{"qid": "q1", "doc_id": "d1"}', 1, "no grade"),
        ('{"qid": "q1", "doc_id": null, "grade": 1}', 1, "None is no id"),
    ],
)
def test_a_judgment_that_cannot_be_used_is_named(tmp_path: Path, data: str, line: int, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(DatasetError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)


def test_an_id_with_blanks_has_a_place_in_jsonl() -> None:
    file = DataFile("x", "", ((1, '{"qid": "q 1", "doc_id": "my doc", "grade": 1}'),))
    assert parse_qrels(file) == {"q 1": {"my doc": 1}}
