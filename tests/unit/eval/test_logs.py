from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import InputError
from lrem_os.eval.datasets import parse_queries, text_id
from lrem_os.eval.logs import anonymise, keyed_hash, parse_window, read_source, redact_text
from lrem_os.types import Query

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEY = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("source", "start", "end", "index"),
    [
        ("ubi:7d", "2026-03-03T12:00:00+00:00", None, ""),
        ("ubi:30m", "2026-03-10T11:30:00+00:00", None, ""),
        ("ubi:2w@shop", "2026-02-24T12:00:00+00:00", None, "shop"),
        ("ubi:2026-01-01..2026-02-01", "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00", ""),
        ("ubi:2026-01-01T06:00+02:00..", "2026-01-01T06:00:00+02:00", None, ""),
        ("ubi:..2026-02-01", None, "2026-02-01T00:00:00+00:00", ""),
        ("ubi:all", None, None, ""),
    ],
)
def test_windows(source: str, start: str | None, end: str | None, index: str) -> None:
    window = parse_window(source, now=NOW)
    assert (window.start and window.start.isoformat(), window.end and window.end.isoformat()) == (start, end)
    assert window.index == index
    limits = {name: when for name, when in (("gte", start), ("lt", end)) if when}
    assert window.query() == ({"range": {"timestamp": limits}} if limits else {"match_all": {}})


@pytest.mark.parametrize(
    "source", ["ubi:", "ubi:7", "ubi:7y", "ubi:..", "ubi:yesterday..", "ubi:2026-02-01..2026-01-01", "ubi:999999w"]
)
def test_a_window_that_makes_no_sense_is_refused(source: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_window(source, now=NOW)
    assert source in str(caught.value)


def test_ubi_queries_are_folded_and_only_the_text_is_asked_for() -> None:
    asked: list[tuple[str, Mapping[str, Any], list[str], str]] = []

    def pages(index: str, query: Mapping[str, Any], fields: list[str], time: str) -> Iterator[list[dict[str, Any]]]:
        asked.append((index, query, fields, time))
        yield [{"user_query": "sofa"}, {"user_query": "Red bag"}, {"user_query": None}, {}]
        yield [{"user_query": "red  bag"}, {"user_query": " "}]

    file = read_source("ubi:2026-01-01..2026-02-01", pages)
    assert parse_queries(file) == (Query(text_id("red bag"), "Red bag", "", 2.0), Query(text_id("sofa"), "sofa"))
    assert asked[0][0] == "ubi_queries"
    assert asked[0][2:] == (["user_query"], "timestamp")
    assert read_source("ubi:2026-01-01..2026-02-01", pages).sha256 == file.sha256


def test_an_empty_window_is_named() -> None:
    with pytest.raises(InputError, match="'ubi:1d' holds no query"):
        read_source("ubi:1d", lambda *_: iter([[]]))
    with pytest.raises(InputError, match="needs a cluster"):
        read_source("ubi:1d")


def test_what_is_no_window_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("q1\tbag\n")
    assert parse_queries(read_source(tmp_path / "q.tsv")) == (Query("q1", "bag"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("order status jo.doe+x@mail.example.org", "order status [email]"),
        ("+49 (30) 901820", "[phone]"),
        ("call 555-867-5309 now", "call [phone] now"),
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1112", "4111-1111-1111-1112"),  # 16 digits, no card number, too long for a phone
        ("iphone 15 pro 256 gb", "iphone 15 pro 256 gb"),
        ("2 x 100 cm sofa under 1500", "2 x 100 cm sofa under 1500"),
        ("50,000 mah", "50,000 mah"),
        ("b08n5wrwnw", "b08n5wrwnw"),
        ("ddr4-3200", "ddr4-3200"),
        ("@home decor", "@home decor"),
    ],
)
def test_what_looks_like_a_persons_data_goes(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)


def test_hashes_are_stable_under_a_key_and_differ_under_another() -> None:
    assert keyed_hash("q1", KEY) == keyed_hash("q1", KEY) != keyed_hash("q2", KEY)
    assert keyed_hash("q1", KEY) != keyed_hash("q1", KEY + b"x")
    assert keyed_hash("q1", KEY * 9) != keyed_hash("q1", KEY * 9 + b"x")  # all of a long key counts
    assert len(keyed_hash("q1", KEY)) == 20
    with pytest.raises(InputError, match="the key for hashed ids has 5 bytes: want 16 or more"):
        keyed_hash("q1", b"short")


def test_a_log_that_may_be_shown() -> None:
    queries = (Query("q1", "mail jo@example.org", "easy", 3.0), Query("q2", "sofa"))
    assert anonymise(queries, redaction="pii") == (Query("q1", "mail [email]", "easy", 3.0), Query("q2", "sofa"))
    hashed = anonymise(queries, redaction="all", hash_ids=True, key=KEY)
    assert [query.query_id for query in hashed] == [keyed_hash("q1", KEY), keyed_hash("q2", KEY)]
    assert hashed[1].text == keyed_hash("sofa", KEY)
    assert (hashed[0].type, hashed[0].frequency) == ("easy", 3.0)
    with pytest.raises(InputError, match="0 bytes"):
        anonymise(queries, hash_ids=True)
