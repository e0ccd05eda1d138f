from __future__ import annotations

import pytest

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.tables import Row, has_header, parse_columns, read_table, value_of


def lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def test_quotes_hold_delimiters_quotes_and_line_breaks() -> None:
    text = 'query,n\n"red, or ""dark red"", bag",3\n"two\nlines",4\n'
    rows = list(read_table(lines(text), "log.csv"))
    assert rows == [
        Row(2, {"query": 'red, or "dark red", bag', "n": "3"}),
        Row(3, {"query": "two\nlines", "n": "4"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_gives_the_delimiter(delimiter: str) -> None:
    text = "\n".join(delimiter.join(row) for row in (("qid", "query", "count"), ("1", "sofa", "2")))
    assert list(read_table(lines(text), "log")) == [Row(2, {"qid": "1", "query": "sofa", "count": "2"})]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('query,n\nred,1\n"blue,2\n', 3, "broken CSV"),
        ("query,n\nred,1,2\n", 2, "3 cells, the header has 2 columns"),
        ("query,n,query\nred,1,2\n", 1, "two columns are called 'query'"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        list(read_table(lines(text), "log.csv"))
    assert str(caught.value).startswith(f"log.csv:{line}: ")
    assert message in str(caught.value)


def test_columns_that_are_mapped_must_be_there() -> None:
    with pytest.raises(DatasetError, match=r"no column 'id', which --columns gives for qid; the columns are a, b"):
        list(read_table(lines("a,b\n1,2\n"), "log.csv", {"qid": "id"}))


def test_a_mapped_name_counts_before_the_usual_one() -> None:
    row = Row(1, {"query": "raw", "q": "clean"})
    assert value_of(row, "query", {"query": "q"}) == "clean"
    assert value_of(row, "query", None) == "raw"
    assert value_of(row, "type", None) is None


@pytest.mark.parametrize("text", ["qid", "qid=", "id=qid", "=q"])
def test_a_mapping_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="want NAME=COLUMN"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("query,timestamp,user", True),
        ("query\tn\tkind", True),
        ("qid\tquery", True),
        ("q1\tquery", False),
        ("1\tred bag", False),
        ("q1\tred bag, blue", False),
        ('"query","n"', True),
    ],
)
def test_a_header_is_told_from_data(line: str, expected: bool) -> None:
    assert has_header(line, ("query",)) is expected
