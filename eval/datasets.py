"""Queries and relevance judgments: files in, values out, and every wrong line named.

The formats are told apart by their content, so a pipe (``<(zcat …)``) works as well as a file; gzip is undone where it
is found. Lines end at ``\\n`` and nowhere else: product texts hold U+2028.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.types import Query

Qrels = Mapping[str, Mapping[str, int]]
"""Judgments: query id → document id → grade; 0 is judged and not relevant."""

COLUMNS = re.compile(r"[ \t]+")
"""What separates the columns of a TREC file. Other blanks (U+00A0, U+2028) may be part of an id."""

_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_GRADE = re.compile(r"[0-9]{1,9}")
_MAX_GRADE = 999_999_999
_QUERY_ID = ("qid", "query_id")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A text file, read once.

    Args:
        path: Where it came from, for messages.
        sha256: Checksum of its bytes as they lie on disk.
        lines: The lines that are not blank, with their numbers from 1.
    """

    path: str
    sha256: str
    lines: tuple[tuple[int, str], ...]


def read_file(path: str | Path) -> DataFile:
    """Return a UTF-8 text file's lines and checksum; gzip is undone.

    Raises:
        DatasetError: The file cannot be read, is not UTF-8, or holds no text.
    """
    try:
        data = Path(path).read_bytes()
        text = gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data
    except OSError as exc:  # gzip.BadGzipFile is one
        raise DatasetError(f"cannot read it: {exc.strerror or exc}", path=path) from exc
    except (EOFError, zlib.error) as exc:
        raise DatasetError(f"broken gzip: {exc}", path=path, hint="fetch the file again") from exc
    lines = tuple(
        (number, line)
        for number, raw in enumerate(text.removeprefix(_UTF8_MARK).split(b"\n"), 1)
        if (line := _decode(raw, path, number)).strip()
    )
    if not lines:
        raise DatasetError("the file is empty", path=path)
    return DataFile(str(path), hashlib.sha256(data).hexdigest(), lines)


def read_queries(path: str | Path) -> tuple[Query, ...]:
    """Return the queries of a file, in its order. See ``parse_queries``."""
    return parse_queries(read_file(path))


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Return the judgments of a file. See ``parse_qrels``."""
    return parse_qrels(read_file(path))


def parse_queries(file: DataFile) -> tuple[Query, ...]:
    """Return the queries, in the file's order.

    JSONL with ``qid`` (or ``query_id``), ``query`` (or ``text``) and maybe ``type``; or ``qid<TAB>text`` lines.

    Raises:
        DatasetError: A line cannot be used, or an id comes twice; names file, line and value.
    """
    parse = _json_query if _is_json(file) else _tsv_query
    queries: dict[str, Query] = {}
    first_line: dict[str, int] = {}
    for number, line in file.lines:
        query = parse(line, file.path, number)
        if query.query_id in queries:
            raise DatasetError(
                f"query id {query.query_id!r} is already on line {first_line[query.query_id]}",
                path=file.path,
                line=number,
            )
        queries[query.query_id] = query
        first_line[query.query_id] = number
    return tuple(queries.values())


def parse_qrels(file: DataFile) -> dict[str, dict[str, int]]:
    """Return the judgments as query id → document id → grade.

    TREC (``qid iteration docid grade``, separated by blanks or tabs), or JSONL with ``qid``, ``doc_id``, ``grade``.

    Raises:
        DatasetError: A line cannot be used, a grade is negative or no integer, or a pair is judged twice.
    """
    parse = _json_judgment if _is_json(file) else _trec_judgment
    qrels: dict[str, dict[str, int]] = {}
    first_line: dict[tuple[str, str], int] = {}
    for number, line in file.lines:
        query_id, doc_id, grade = parse(line, file.path, number)
        if (query_id, doc_id) in first_line:
            raise DatasetError(
                f"query {query_id!r} and document {doc_id!r} are already judged on line "
                f"{first_line[query_id, doc_id]} (grade {qrels[query_id][doc_id]}, here {grade})",
                path=file.path,
                line=number,
                hint="keep one judgment a pair",
            )
        first_line[query_id, doc_id] = number
        qrels.setdefault(query_id, {})[doc_id] = grade
    return qrels


def _decode(raw: bytes, path: str | Path, number: int) -> str:
    try:
        return raw.removesuffix(b"\r").decode()
    except UnicodeDecodeError as exc:
        raise DatasetError(
            f"not UTF-8: byte 0x{raw[exc.start]:02x} at column {exc.start + 1}",
            path=path,
            line=number,
            hint="save the file as UTF-8",
        ) from exc


def _is_json(file: DataFile) -> bool:
    return file.lines[0][1].lstrip().startswith("{")


def _json_query(line: str, path: str, number: int) -> Query:
    row = _json_object(line, path, number)
    kind = row.get("type")
    if kind is not None and not isinstance(kind, str):
        raise DatasetError(f"type is {kind!r}: want text", path=path, line=number)
    text = _field(row, ("query", "text"), path, number)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"the query is {text!r}: want text", path=path, line=number)
    return Query(_id(_field(row, _QUERY_ID, path, number), path, number), text, kind or "")


def _tsv_query(line: str, path: str, number: int) -> Query:
    columns = line.split("\t")
    if len(columns) != 2 or not all(column.strip() for column in columns):
        raise DatasetError(
            f"{_shorten(line)} has {len(columns)} columns: want a query id, a tab and the query",
            path=path,
            line=number,
            hint='or write JSONL: {"qid": "q1", "query": "red handbag", "type": "easy"}',
        )
    return Query(columns[0].strip(), columns[1].strip())


def _json_judgment(line: str, path: str, number: int) -> tuple[str, str, int]:
    row = _json_object(line, path, number)
    grade = _field(row, ("grade",), path, number)
    if not isinstance(grade, int) or isinstance(grade, bool) or not 0 <= grade <= _MAX_GRADE:
        raise _bad_grade(grade, path, number)
    query_id, doc_id = (_id(_field(row, names, path, number), path, number) for names in (_QUERY_ID, ("doc_id",)))
    return query_id, doc_id, grade


def _trec_judgment(line: str, path: str, number: int) -> tuple[str, str, int]:
    columns = COLUMNS.split(line.strip(" \t"))
    if len(columns) != 4:
        raise DatasetError(
            f"{_shorten(line)} has {len(columns)} columns: want 4 (query id, 0, document id, grade)",
            path=path,
            line=number,
            hint='ids with blanks need JSONL: {"qid": "q1", "doc_id": "a b", "grade": 1}',
        )
    query_id, _, doc_id, grade = columns
    if not _GRADE.fullmatch(grade):
        raise _bad_grade(grade, path, number)
    return query_id, doc_id, int(grade)


def _json_object(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"broken JSON: {exc}", path=path, line=number) from exc
    if not isinstance(row, dict):
        raise DatasetError(f"{_shorten(line)} is not a JSON object", path=path, line=number)
    return row


def _field(row: dict[str, Any], names: tuple[str, ...], path: str, number: int) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise DatasetError(f"no {' or '.join(names)}; the line has {', '.join(row) or 'nothing'}", path=path, line=number)


def _id(value: Any, path: str, number: int) -> str:
    """Return an id as text; numbers are common in exports and mean their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(f"{value!r} is no id: want text or an integer", path=path, line=number)
    return value


def _bad_grade(grade: Any, path: str, number: int) -> DatasetError:
    return DatasetError(
        f"grade {grade!r}: want an integer from 0 (not relevant) up",
        path=path,
        line=number,
        hint="graded judgments are usually 0 to 3",
    )


def _shorten(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "…")
