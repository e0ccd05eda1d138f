"""Input files as streams: JSON Lines, tables with a tab, plain lines, each maybe gzipped; a bad line never ends one."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import orjson

from lrem_os.errors import DatasetError
from lrem_os.model.prompts import one_line

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is refused: a file without line breaks must not fill the memory."""

MAX_QUERY_CHARS = 2000
"""Nobody types more; what is longer is a robot's, or not a query log."""

QueryFormat = Literal["auto", "jsonl", "tsv", "plain"]
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Unusable:
    """A line that was left out.

    Args:
        line: Its number, from 1.
        reason: Why.
        text: Its beginning.
        duplicate: Whether it is merely the same again.
    """

    line: int
    reason: str
    text: str = ""
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class QueryLine:
    """A query of a log.

    Args:
        query_id: Its own id, or one made of the file's name and the line.
        text: What was typed.
        type: Its kind, empty when unknown.
        reasoning: A teacher's keywords that came with it; ``None``: none came, empty: nothing to add.
        line: Where it stands, from 1.
    """

    query_id: str
    text: str
    type: str = ""
    reasoning: str | None = None
    line: int = 0


def checksum(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as they lie on disk. Raises ``DatasetError``."""
    with _readable(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: str | Path) -> Iterator[tuple[int, str] | Unusable]:
    r"""Yield number and text of every line that is not blank, split at ``\n`` only: texts may hold U+2028.

    Raises:
        DatasetError: The file as a whole cannot be read.
    """
    with _readable(path), _open(Path(path)) as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                yield Unusable(number, f"is longer than {MAX_LINE_BYTES // 2**20} MiB", _shown(raw))
                _skip_rest(file, raw)
                continue
            raw = raw.removeprefix(_BOM) if number == 1 else raw
            try:
                text = raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as exc:
                yield Unusable(number, f"is not UTF-8 at byte {exc.start + 1}", _shown(raw))
                continue
            if text.strip():
                yield number, text


def read_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any]] | Unusable]:
    """Yield number and object of every line of a JSONL file. An export's ``_source`` is unwrapped."""
    for entry in read_lines(path):
        yield entry if isinstance(entry, Unusable) else _parse_object(*entry)


def read_queries(path: str | Path, file_format: QueryFormat = "auto") -> Iterator[QueryLine | Unusable]:
    r"""Yield the queries of a file, each text once (white space and case aside).

    Args:
        path: JSONL (``qid?``, ``query``, ``type?``, ``cot?``), ``qid<TAB>query`` with maybe ``<TAB>type``, or one query
            a line.
        file_format: Which of them; ``auto`` goes by the first line.
    """
    stem = Path(path).name.removesuffix(".gz").rpartition(".")[0] or Path(path).name
    with closing(_Seen()) as seen:
        for entry in read_lines(path):
            if file_format == "auto" and not isinstance(entry, Unusable):
                file_format = _format_of(entry[1])
            query = entry if isinstance(entry, Unusable) else _parse_query(*entry, file_format, stem)
            if isinstance(query, QueryLine) and not seen.add(f"text {one_line(query.text).casefold()}"):
                yield Unusable(query.line, "the query came before", query.text, duplicate=True)
            elif isinstance(query, QueryLine) and not seen.add(f"id {query.query_id}"):
                yield Unusable(query.line, f"the id {query.query_id!r} belongs to another query", query.text)
            else:
                yield query


class _Seen:
    """Hashes of what came before, on disk beyond SQLite's small cache, so that a long log does not fill the memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # a private file, deleted when it is closed
        self._database.execute("CREATE TABLE seen (hash INTEGER PRIMARY KEY)")

    def add(self, text: str) -> bool:
        """Return whether this is new."""
        key = int.from_bytes(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True
        )
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def close(self) -> None:
        """Delete it."""
        self._database.close()


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DatasetError(f"the gzip data is damaged or cut off: {exc}", path=path) from exc
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror or exc}", path=path) from exc


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        gzipped = probe.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if gzipped else path.open("rb")


def _skip_rest(file: IO[bytes], raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(MAX_LINE_BYTES)


def _format_of(first_line: str) -> QueryFormat:
    if first_line.lstrip().startswith("{"):
        return "jsonl"
    return "tsv" if "\t" in first_line.strip() else "plain"


def _parse_object(number: int, text: str) -> tuple[int, dict[str, Any]] | Unusable:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return Unusable(number, f"is not JSON: {exc}", text[:200])
    if isinstance(value, dict) and isinstance(value.get("_source"), dict):
        value = value["_source"]
    return (number, value) if isinstance(value, dict) else Unusable(number, "is not a JSON object", text[:200])


def _parse_query(number: int, text: str, file_format: QueryFormat, stem: str) -> QueryLine | Unusable:
    if file_format == "jsonl":
        entry = _parse_object(number, text)
        return entry if isinstance(entry, Unusable) else _query_of(entry[1], number, stem)
    row: dict[str, Any] = {"query": text}
    if file_format == "tsv":
        columns = [column.strip() for column in text.split("\t")]
        if len(columns) not in (2, 3):
            return Unusable(number, f"has {len(columns)} columns: want an id, a tab and the query", text[:200])
        row = dict(zip(("qid", "query", "type"), columns, strict=False))
    return _query_of(row, number, stem)


def _query_of(row: dict[str, Any], number: int, stem: str) -> QueryLine | Unusable:
    text = row.get("query", row.get("text"))
    if not isinstance(text, str) or not text.strip():
        return Unusable(number, "has no text under 'query'", str(row)[:200])
    if len(text) > MAX_QUERY_CHARS:
        return Unusable(number, f"has {len(text)} characters, more than {MAX_QUERY_CHARS}", text[:200])
    reasoning = row.get("cot", row.get("reasoning"))
    if reasoning is not None and not isinstance(reasoning, str):
        return Unusable(number, f"'cot' is {type(reasoning).__name__}, not text", text[:200])
    query_id = row.get("qid", row.get("query_id")) or f"{stem}-{number}"
    return QueryLine(str(query_id), one_line(text), str(row.get("type") or ""), reasoning, number)


def _shown(raw: bytes) -> str:
    return raw[:200].decode("utf-8", "replace").strip()
