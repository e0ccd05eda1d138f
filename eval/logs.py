"""Query logs in OpenSearch's User Behavior Insights, and logs that may be shown: hashed ids, redacted texts.

What ``client_id``, ``session_id`` and their like hold is never asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson

from lrem_os.errors import InputError
from lrem_os.eval.datasets import DataFile, read_file, text_id
from lrem_os.types import Query

if TYPE_CHECKING:
    from pathlib import Path

Redaction = Literal["none", "pii", "all"]
"""What is left of a text: all of it; all but what looks like a person's data; a keyed hash."""

UBI = "ubi:"
QUERIES_INDEX = "ubi_queries"
EVENTS_INDEX = "ubi_events"
TIME_FIELD = "timestamp"
MIN_KEY_BYTES = 16

_AGO = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WINDOW_HINT = "ubi:7d (or 30m, 12h, 2w), ubi:2026-01-01..2026-02-01, or ubi:all; another index: ubi:7d@my_queries"

# Wide on purpose: in a log that is handed on, a product number that is gone does less harm than a phone number that is
# not. Digits may be grouped by blanks, dots, dashes, slashes, brackets.
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_DIGITS = re.compile(r"(?<![\w.])(?:\+|\(\+?)?\d(?:[ .()/-]{0,2}\d){6,18}(?!\w)")
_CARD_DIGITS = range(13, 20)
_PHONE_DIGITS = range(7, 16)


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of which index is read.

    Args:
        start: Inclusive; ``None``: from the beginning.
        end: Exclusive; ``None``: to the end.
        index: Name, alias or pattern; empty: the one that UBI calls so.
    """

    start: datetime | None
    end: datetime | None
    index: str = ""

    def query(self) -> dict[str, Any]:
        """Return the query that selects it."""
        limits = {"gte": self.start, "lt": self.end}
        found = {name: when.isoformat() for name, when in limits.items() if when is not None}
        return {"range": {TIME_FIELD: found}} if found else {"match_all": {}}


Pages = Callable[[str, Mapping[str, Any], list[str], str], Iterator[list[dict[str, Any]]]]
"""``pages(index, query, fields, time_field)``: the documents of an index, as ``lrem_os.search.pages`` reads them."""


def parse_window(source: str, *, now: datetime | None = None) -> Window:
    """Return what ``ubi:…`` stands for; times without a zone are UTC, a date is its midnight.

    Raises:
        InputError: It is no window of time.

    >>> parse_window("ubi:2026-01-01..2026-02-01@shop_queries").index
    'shop_queries'
    """
    text, _, index = source.removeprefix(UBI).partition("@")
    if text == "all":
        return Window(None, None, index)
    if match := _AGO.fullmatch(text):
        try:
            ago = timedelta(**{_UNITS[match[2]]: int(match[1])})
            return Window((now or datetime.now(UTC)) - ago, None, index)
        except OverflowError as exc:
            raise InputError(f"{source!r} reaches back before the calendar begins", hint=_WINDOW_HINT) from exc
    start, dots, end = text.partition("..")
    if not dots or not (start or end):
        raise InputError(f"{source!r} is no window of time", hint=_WINDOW_HINT)
    window = Window(_time(start, source), _time(end, source), index)
    if window.start and window.end and window.start >= window.end:
        raise InputError(f"{source!r} ends before it begins", hint=_WINDOW_HINT)
    return window


def read_source(source: str | Path, pages: Pages | None = None) -> DataFile:
    """Return a file, or, for ``ubi:…``, the queries of an index as JSON lines, most frequent first.

    The checksum of the latter is of these lines: it changes when the window holds other queries.

    Args:
        source: Path, or ``ubi:`` with a window of time, see ``parse_window``.
        pages: Reads an index; asked only for ``ubi:…``.

    Raises:
        DatasetError: The file cannot be read.
        InputError: The window cannot be understood, or holds no query.
        SearchError: OpenSearch could not answer.
    """
    if not str(source).startswith(UBI):
        return read_file(source)
    window = parse_window(str(source))
    if pages is None:
        raise InputError(f"{source!r} needs a cluster", hint="set search.hosts")
    queries = _fold(pages(window.index or QUERIES_INDEX, window.query(), ["user_query"], TIME_FIELD))
    if not queries:
        raise InputError(f"{source!r} holds no query", hint=f"is the field user_query filled? {_WINDOW_HINT}")
    lines = [orjson.dumps(query_row(query)).decode() for query in queries]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return DataFile(str(source), digest, tuple(enumerate(lines, 1)))


def query_row(query: Query) -> dict[str, Any]:
    """Return a query as a line of JSONL has it."""
    row: dict[str, Any] = {"qid": query.query_id, "query": query.text}
    if query.type:
        row["type"] = query.type
    return row | {"frequency": int(query.frequency) if query.frequency.is_integer() else query.frequency}


def keyed_hash(value: str, key: bytes) -> str:
    """Return 20 hex digits that stand for a value: the same under the same key, and not to be guessed without it.

    A plain hash of a query text is no secret: whoever has a list of queries hashes them all. BLAKE2's keyed mode is a
    MAC (RFC 7693, 2.9).

    Raises:
        InputError: The key is shorter than 16 bytes.
    """
    if len(key) < MIN_KEY_BYTES:
        raise InputError(
            f"the key for hashed ids has {len(key)} bytes: want {MIN_KEY_BYTES} or more",
            hint="openssl rand -hex 16; keep it: the same key gives the same ids",
        )
    secret = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=secret, digest_size=10).hexdigest()


def redact_text(text: str) -> str:
    """Return a text without what looks like an e-mail address, a card number or a phone number.

    A card number has 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1); a phone number 7 to 15 (E.164). So a
    long product number is taken for a phone number, and names and addresses stay: this lowers a risk, no more.

    >>> redact_text("call +49 (30) 901820, jo@example.org, 4111 1111 1111 1111; iphone 15 256")
    'call [phone], [email], [card]; iphone 15 256'
    """
    return _DIGITS.sub(_number_mark, _EMAIL.sub("[email]", text))


def anonymise(
    queries: Sequence[Query], *, redaction: Redaction = "none", hash_ids: bool = False, key: bytes = b""
) -> tuple[Query, ...]:
    """Return the queries with their ids hashed, their texts redacted, or both; queries that become one are kept apart.

    Raises:
        InputError: A key is needed, and none was given or it is too short.
    """
    return tuple(
        replace(
            query,
            query_id=keyed_hash(query.query_id, key) if hash_ids else query.query_id,
            text=_redacted(query.text, redaction, key),
        )
        for query in queries
    )


def _redacted(text: str, redaction: Redaction, key: bytes) -> str:
    if redaction == "all":
        return keyed_hash(text, key)
    return redact_text(text) if redaction == "pii" else text


def _number_mark(match: re.Match[str]) -> str:
    digits = [int(char) for char in match[0] if char.isdigit()]
    if len(digits) in _CARD_DIGITS and _passes_luhn(digits):
        return "[card]"
    return "[phone]" if len(digits) in _PHONE_DIGITS else match[0]


def _passes_luhn(digits: Sequence[int]) -> bool:
    doubled = [digit if idx % 2 == 0 else digit * 2 - 9 * (digit > 4) for idx, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _fold(pages: Iterator[list[dict[str, Any]]]) -> list[Query]:
    """Return each text once, with how often it was asked; texts differ in more than case and white space."""
    queries: dict[str, Query] = {}
    for page in pages:
        for row in page:
            text = row.get("user_query")
            if isinstance(text, str) and text.strip():
                qid = text_id(text)
                known = queries.get(qid)
                queries[qid] = Query(qid, text) if known is None else replace(known, frequency=known.frequency + 1)
    return sorted(queries.values(), key=lambda query: (-query.frequency, query.query_id))


def _time(text: str, source: str) -> datetime | None:
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"{source!r}: {text!r} is no date", hint=_WINDOW_HINT) from exc
    return when if when.tzinfo else when.replace(tzinfo=UTC)
