from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile, parse_qrels, parse_queries, read_file, read_qrels, read_queries, text_id
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
        ('{"qid": "q1", "doc_id": "d1", "grade": 1.5}', 1, "grade 1.5"),
        ('{"qid": "q1", "doc_id": "d1", "grade": true}', 1, "grade True"),
        ('{"qid": "q1", "doc_id": "d1", "grade": "high"}', 1, "grade 'high'"),
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


def test_a_log_is_folded_into_queries_with_frequencies(tmp_path: Path) -> None:
    rows = [{"query": "Red  bag"}, {"query": "sofa", "frequency": 2.5}, {"query": "red bag", "type": "easy"}]
    path = write(tmp_path, "\n".join(json.dumps(row) for row in rows))
    assert read_queries(path) == (
        Query(text_id("red bag"), "Red  bag", "easy", 2.0),
        Query(text_id("sofa"), "sofa", "", 2.5),
    )


def test_the_same_id_with_the_same_text_was_asked_again(tmp_path: Path) -> None:
    path = write(tmp_path, "qid,query,frequency,type\n1,bag,3,easy\n2,bag,1,\n1,BAG ,4,\n")
    assert read_queries(path) == (Query("1", "bag", "easy", 7.0), Query("2", "bag", "", 1.0))


def test_an_export_of_ubi_queries_has_an_id_a_search(tmp_path: Path) -> None:
    rows = [{"_source": {"query_id": f"s{number}", "user_query": "bag", "client_id": "c"}} for number in range(3)]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)))
    assert read_queries(path) == (Query(text_id("bag"), "bag", "", 3.0),)


def test_columns_by_other_names(tmp_path: Path) -> None:
    columns = {"qid": "id", "query": "q", "frequency": "n", "type": "kind"}
    expected = (Query("7", "red, bag", "qa", 4.0),)
    assert read_queries(write(tmp_path, 'n,id,q,kind,user\n4,7,"red, bag",qa,jo\n'), columns) == expected
    assert read_queries(write(tmp_path, '{"n": 4, "id": 7, "q": "red, bag", "kind": "qa"}'), columns) == expected


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan", "inf"])
def test_a_frequency_that_cannot_be_used_is_named(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"query,frequency\nbag,1\nsofa,{value}\n")
    with pytest.raises(DatasetError, match=rf":3: frequency '{value}': want a number above 0"):
        read_queries(path)


def test_ids_under_an_unknown_name_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no qid or query_id; the line has id, query") as caught:
        read_queries(write(tmp_path, '{"id": "q1", "query": "a"}'))
    assert caught.value.hint == "if the ids are in 'id': --columns qid=id"


QUEPID_CSV = 'query,docid,rating\n"red, bag",b,0\n"red, bag",a,3\nsofa\n'
QUEPID_CASE = {
    "case_name": "x",
    "queries": [{"query_text": "red, bag", "ratings": {"a": 3, "b": 0}}, {"query_text": "y"}],
}
QUEPID_RATINGS = {"queries": [{"query": "red, bag", "ratings": {"a": 3.0, "b": 0.0}}, {"query": "y", "ratings": {}}]}
QUEPID_BOOK = {
    "name": "x",
    "query_doc_pairs": [
        {"query_text": "red, bag", "doc_id": "a", "judgements": [{"rating": 3.0}, {"rating": 2.0}]},
        {"query_text": "red, bag", "doc_id": "b", "judgements": [{"rating": 0.0}, {"rating": 3.0, "unrateable": True}]},
        {"query_text": "red, bag", "doc_id": "c", "judgements": [{"rating": None, "judge_later": True}]},
        {"query_text": "red, bag", "doc_id": "d", "judgements": []},
    ],
}
RATINGS = [{"query": "Red, Bag", "ratings": [{"docId": "a", "rating": "3.000"}, {"docId": "b", "rating": 0}]}]
WORKBENCH = {"name": "x", "type": "IMPORT_JUDGMENT", "judgmentRatings": RATINGS}
WORKBENCH_ANSWER = {"took": 1, "hits": {"total": {"value": 1}, "hits": [{"_id": "1", "_source": WORKBENCH}]}}


@pytest.mark.parametrize(
    "data",
    [
        QUEPID_CSV,
        json.dumps(QUEPID_CASE),
        json.dumps(QUEPID_CASE, indent=1),
        json.dumps(QUEPID_RATINGS),
        json.dumps(QUEPID_BOOK, indent=2),
        json.dumps(WORKBENCH),
        json.dumps(RATINGS, indent=2),
        json.dumps(WORKBENCH_ANSWER),
        "qid,query,doc_id,title,found_by,grade\nq7,x,b,t,r:1,0\nq7,x,a,t,r:2,3\nq7,x,c,t,r:3,\n",
        '{"qid": "q7", "doc_id": "a", "grade": 3}\n{"qid": "q7", "doc_id": "b", "grade": 0}\n'
        '{"qid": "q7", "doc_id": "c", "grade": null}',
        "query_id;docid;rating\nq7;a;3.0\nq7;b;0\n",
    ],
)
def test_exports_of_other_tools_are_told_apart_by_their_content(tmp_path: Path, data: str) -> None:
    found = read_qrels(write(tmp_path, data), [Query("q7", "red, bag")])
    assert found == {"q7": {"a": 3, "b": 0}}


def test_a_text_stands_for_every_query_that_has_it_and_else_for_its_own_id(tmp_path: Path) -> None:
    path = write(tmp_path, QUEPID_CSV)
    both = [Query("1", "red, bag"), Query("2", "Red, bag")]
    assert read_qrels(path, both) == {"1": {"b": 0, "a": 3}, "2": {"b": 0, "a": 3}}
    assert read_qrels(path) == {text_id("red, bag"): {"b": 0, "a": 3}}


def test_ratings_from_0_to_1_become_grades(tmp_path: Path) -> None:
    ratings = [{"query": "bag", "ratings": [{"docId": str(one), "rating": one} for one in (0, 0.5, "0.49", 1)]}]
    path = write(tmp_path, json.dumps(ratings))
    with pytest.raises(DatasetError, match=r"grade 0\.5: want an integer"):
        read_qrels(path)
    grades = parse_qrels(read_file(path), [Query("q", "bag")], scale=3)
    assert grades == {"q": {"0": 0, "0.5": 2, "0.49": 1, "1": 3}}
    with pytest.raises(DatasetError, match="--scale wants ratings from 0 to 1"):
        parse_qrels(read_file(write(tmp_path, "qid,doc_id,grade\n1,a,2\n")), scale=3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"queries": "x"}, "a JSON document with queries holds no judgments"),
        ({"judgmentRatings": [{"query": "x"}]}, r"judgmentRatings\[0\]: ratings is None"),
        (
            {"judgmentRatings": [{"query": "x", "ratings": [{"docId": "a"}]}]},
            r"ratings\[0\]: rating None: want a number",
        ),
        ({"queries": [{"query_text": 1}]}, r"queries\[0\]: query_text is 1"),
        ({"queries": [{"query_text": "x", "ratings": {"a": "good"}}]}, r"ratings\['a'\]: rating 'good': want a number"),
        ({"query_doc_pairs": [{"query_text": "x"}]}, r"query_doc_pairs\[0\]: doc_id is None"),
        ({"hits": {"hits": []}}, "holds 0 judgment lists"),
        ([1], r"\[0\]: query is 1"),
        ({"queries": [{"query_text": "x", "ratings": {"a": None}}]}, "no row has a grade"),
    ],
)
def test_a_document_that_cannot_be_used_is_named(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_qrels(write(tmp_path, json.dumps(data)))


def test_an_empty_sheet_judges_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no row has a grade"):
        read_qrels(write(tmp_path, "qid,doc_id,grade\nq1,a,\nq1,b,\n"))
