"""Queries and relevance judgments: files in, values out, and every wrong line named.

The formats are told apart by their content, so a pipe (``<(zcat …)``) works as well as a file; gzip is undone where it
is found. Lines end at ``\\n`` and nowhere else: product texts hold U+2028.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.judgments.documents import is_document, judged_rows
from lrem_os.eval.tables import Row, find_name, has_header, read_table, value_of
from lrem_os.eval.topics import read_topics
from lrem_os.text import normalise_query
from lrem_os.types import Query

Qrels = Mapping[str, Mapping[str, int]]
"""Judgments: query id → document id → grade; 0 is judged and not relevant."""

Columns = Mapping[str, str]
"""What a file calls its columns: our name → its name. See ``lrem_os.eval.tables.NAMES``."""

COLUMNS = re.compile(r"[ \t]+")
"""What separates the columns of a TREC file. Other blanks (U+00A0, U+2028) may be part of an id."""

_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_WHOLE = re.compile(r"[0-9]{1,9}")
_GRADE = re.compile(r"[0-9]{1,9}(\.0*)?")
_MAX_GRADE = 999_999_999
_TSV_HINT = 'or write JSONL: {"qid": "q1", "query": "red handbag"}; or CSV under a header: qid,query,frequency'


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


def read_queries(path: str | Path, columns: Columns | None = None) -> tuple[Query, ...]:
    """Return the queries of a file, in its order. See ``parse_queries``."""
    return parse_queries(read_file(path), columns)


def read_qrels(
    path: str | Path, queries: Sequence[Query] = (), columns: Columns | None = None
) -> dict[str, dict[str, int]]:
    """Return the judgments of a file. See ``parse_qrels``."""
    return parse_qrels(read_file(path), queries, columns)


def text_id(text: str) -> str:
    """Return the id of a query that has none: the same wherever the same text is, case and white space aside.

    >>> text_id("Red  bag") == text_id("red bag"), len(text_id("red bag"))
    (True, 18)
    """
    return "q-" + hashlib.blake2b(_folded(text).encode(), digest_size=8).hexdigest()


def parse_queries(file: DataFile, columns: Columns | None = None) -> tuple[Query, ...]:
    """Return the queries, in the order in which they first come.

    JSONL (``qid`` or ``query_id``, ``query`` or ``text``, maybe ``type`` and ``frequency``), CSV or TSV with such a
    header, ``qid<TAB>text`` lines, TREC topics, an export of ``ubi_queries``. A query that comes again is one query
    asked more often: its frequencies add up. Lines without ids (a log) are the same query where their text is the same,
    case and white space aside; where the text is called ``user_query`` the id is that of a single search, and counts
    for nothing.

    Args:
        file: The file.
        columns: Names of columns or keys that are none of the usual.

    Raises:
        DatasetError: A line cannot be used, or an id stands for two texts; names file, line and value.
    """
    queries: dict[str, Query] = {}
    first_line: dict[str, int | None] = {}
    for row in _query_rows(file, columns):
        query = _query(row, file.path, columns)
        known = queries.get(query.query_id)
        if known is None:
            queries[query.query_id] = query
            first_line[query.query_id] = row.line
        elif _folded(known.text) == _folded(query.text):
            total = known.frequency + query.frequency
            queries[query.query_id] = replace(known, type=known.type or query.type, frequency=total)
        else:
            raise DatasetError(
                f"query id {query.query_id!r} is already on line {first_line[query.query_id]}, with another text",
                path=file.path,
                line=row.line,
                hint="ids must be unique; leave the ids out of a log, and equal texts are one query",
            )
    return tuple(queries.values())


def parse_qrels(
    file: DataFile, queries: Sequence[Query] = (), columns: Columns | None = None, scale: float | None = None
) -> dict[str, dict[str, int]]:
    """Return the judgments as query id → document id → grade.

    TREC (``qid iteration docid grade``, separated by blanks or tabs); JSONL or CSV with ``qid`` or ``query``,
    ``doc_id`` or ``docid``, ``grade`` or ``rating``; exports of Quepid and of the Search Relevance Workbench, which
    name a query by its text. A row without a grade, as in a judging sheet that is not full, judges nothing.

    Args:
        file: The file.
        queries: Give their ids to judgments that name a text; without them the id is ``text_id``'s.
        columns: Names of columns or keys that are none of the usual.
        scale: Grades are numbers from 0 to 1, to be multiplied by this and rounded half up.

    Raises:
        DatasetError: A line cannot be used, a grade is negative or no integer, a pair is judged twice, or nothing is
            judged.
    """
    ids: dict[str, list[str]] = {}
    for query in queries:
        ids.setdefault(_folded(query.text), []).append(query.query_id)
    qrels: dict[str, dict[str, int]] = {}
    for line, query_ids, doc_id, grade in _judgments(file, columns, ids, scale):
        for query_id in query_ids:
            documents = qrels.setdefault(query_id, {})
            if doc_id in documents:
                first = next(row[0] for row in _judgments(file, columns, ids, scale) if _is(row, query_id, doc_id))
                raise _judged_twice(query_id, doc_id, first, documents[doc_id], grade, file.path, line)
            documents[doc_id] = grade
    if not qrels:
        raise DatasetError("no row has a grade", path=file.path, hint="fill in the column grade")
    return qrels


def _query_rows(file: DataFile, columns: Columns | None) -> Iterator[Row]:
    first = file.lines[0][1]
    if first.lstrip().startswith("{"):
        yield from json_rows(file)
    elif first.lstrip().startswith("<"):
        yield from read_topics(file.lines, file.path)
    elif columns or has_header(first, ("query",)):
        yield from read_table(file.lines, file.path, columns)
    else:
        yield from (_tsv_query(line, file.path, number) for number, line in file.lines)


_Judged = tuple[int | None, Sequence[str], str, int]
"""Line, ids of the queries, id of the document, grade."""


def _judgments(
    file: DataFile, columns: Columns | None, ids: Mapping[str, Sequence[str]], scale: float | None
) -> Iterator[_Judged]:
    """Yield the rows that judge something."""
    first = file.lines[0][1]
    if first.lstrip().startswith(("{", "[")):
        document = is_document(file.lines)
        rows = json_rows(file) if document is None else judged_rows(document, file.path)
    elif columns or has_header(first, ("doc_id", "grade")):
        rows = read_table(file.lines, file.path, columns)
    else:
        yield from (_trec_judgment(line, file.path, number, scale) for number, line in file.lines)
        return
    for row in rows:
        query_ids, doc_id, grade = _judgment(row, file.path, columns, ids, scale)
        if grade is not None:
            yield row.line, query_ids, doc_id, grade


def _is(row: _Judged, query_id: str, doc_id: str) -> bool:
    return row[2] == doc_id and query_id in row[1]


def _query(row: Row, path: str, columns: Columns | None) -> Query:
    name = next((key for key in find_name("query", columns) if key in row.values), None)
    text = value_of(row, "query", columns)
    if name is None:
        raise _missing("query", row, path, columns)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"the query is {text!r}: want text", path=path, line=row.line)
    kind = value_of(row, "type", columns)
    if kind is not None and not isinstance(kind, str):
        raise DatasetError(f"type is {kind!r}: want text", path=path, line=row.line)
    query_id = value_of(row, "qid", columns)
    is_search = name == "user_query" and not (columns and "qid" in columns)
    if query_id is None and "id" in row.values:
        raise _missing("qid", row, path, columns, hint="if the ids are in 'id': --columns qid=id")
    known_id = text_id(text) if query_id is None or is_search else _id(query_id, path, row.line)
    return Query(known_id, text, kind or "", _frequency(value_of(row, "frequency", columns), path, row.line))


def _frequency(value: Any, path: str, line: int | None) -> float:
    if value is None or value == "":
        return 1.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise DatasetError(f"frequency {value!r}: want a number above 0", path=path, line=line)
    return number


def _judgment(
    row: Row, path: str, columns: Columns | None, ids: Mapping[str, Sequence[str]], scale: float | None
) -> tuple[Sequence[str], str, int | None]:
    """Return the queries' ids, the document's, and the grade; ``None`` where none was given."""
    query_id, text = value_of(row, "qid", columns), value_of(row, "query", columns)
    if query_id is None and text is None:
        raise _missing("qid", row, path, columns)
    if list(row.values) == ["query"]:  # Quepid's CSV has a query that nobody rated as its text alone
        return (), "", None
    for name in ("doc_id", "grade"):
        if not any(key in row.values for key in find_name(name, columns)):
            raise _missing(name, row, path, columns)
    doc_id = _id(value_of(row, "doc_id", columns), path, row.line)
    grade = value_of(row, "grade", columns)
    if grade is None or (isinstance(grade, str) and not grade.strip()):
        return (), doc_id, None
    if query_id not in (None, "") or not text:
        return (_id(query_id, path, row.line),), doc_id, _grade(grade, path, row.line, scale)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"the query is {text!r}: want text", path=path, line=row.line)
    return ids.get(_folded(text)) or (text_id(text),), doc_id, _grade(grade, path, row.line, scale)


def _grade(grade: Any, path: str, line: int | None, scale: float | None) -> int:
    """Return a whole grade; the Workbench writes ``"3.000"``, and CSV has only texts."""
    if scale is not None:
        return _scaled(grade, path, line, scale)
    if isinstance(grade, str) and _GRADE.fullmatch(grade.strip()):
        return int(float(grade))
    if isinstance(grade, float) and grade.is_integer():
        grade = int(grade)
    if isinstance(grade, int) and not isinstance(grade, bool) and 0 <= grade <= _MAX_GRADE:
        return grade
    raise DatasetError(
        f"grade {grade!r}: want an integer from 0 (not relevant) up",
        path=path,
        line=line,
        hint="graded judgments are usually 0 to 3"
        + ("; `lrem-os eval convert --scale 3` makes such of ratings from 0 to 1" if "." in str(grade) else ""),
    )


def _scaled(grade: Any, path: str, line: int | None, scale: float) -> int:
    try:
        number = math.nan if isinstance(grade, bool) else float(grade)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise DatasetError(
            f"grade {grade!r}: --scale wants ratings from 0 to 1", path=path, line=line, hint="leave --scale out"
        )
    return math.floor(number * scale + 0.5)


def _judged_twice(
    query_id: str, doc_id: str, first: int | None, known: int, grade: int, path: str, line: int | None
) -> DatasetError:
    where = "" if first is None else f" on line {first}"
    return DatasetError(
        f"query {query_id!r} and document {doc_id!r} are already judged{where} (grade {known}, here {grade})",
        path=path,
        line=line,
        hint="keep one judgment a pair",
    )


def _folded(text: str) -> str:
    return normalise_query(text).casefold()


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


def json_rows(file: DataFile) -> Iterator[Row]:
    """Yield the objects of JSON lines; an export's ``_source`` is unwrapped."""
    for number, line in file.lines:
        row = _json_object(line, file.path, number)
        inner = row.get("_source")
        yield Row(number, inner if isinstance(inner, dict) else row)


def _tsv_query(line: str, path: str, number: int) -> Row:
    columns = line.split("\t")
    if len(columns) != 2 or not all(column.strip() for column in columns):
        raise DatasetError(
            f"{_shorten(line)} has {len(columns)} columns: want a query id, a tab and the query",
            path=path,
            line=number,
            hint=_TSV_HINT,
        )
    return Row(number, {"qid": columns[0].strip(), "query": columns[1].strip()})


def _trec_judgment(line: str, path: str, number: int, scale: float | None) -> _Judged:
    columns = COLUMNS.split(line.strip(" \t"))
    if len(columns) != 4:
        raise DatasetError(
            f"{_shorten(line)} has {len(columns)} columns: want 4 (query id, 0, document id, grade)",
            path=path,
            line=number,
            hint='ids with blanks need JSONL: {"qid": "q1", "doc_id": "a b", "grade": 1}; CSV needs a header',
        )
    query_id, _, doc_id, grade = columns
    if scale is None and _WHOLE.fullmatch(grade):
        return number, (query_id,), doc_id, int(grade)
    return number, (query_id,), doc_id, _grade(grade, path, number, scale)


def _json_object(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"broken JSON: {exc}", path=path, line=number) from exc
    if not isinstance(row, dict):
        raise DatasetError(f"{_shorten(line)} is not a JSON object", path=path, line=number)
    return row


def _missing(name: str, row: Row, path: str, columns: Columns | None, hint: str | None = None) -> DatasetError:
    names = " or ".join(find_name(name, columns)[:2])
    return DatasetError(
        f"no {names}; the line has {', '.join(row.values) or 'nothing'}", path=path, line=row.line, hint=hint
    )


def _id(value: Any, path: str, line: int | None) -> str:
    """Return an id as text; numbers are common in exports and mean their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(f"{value!r} is no id: want text or an integer", path=path, line=line)
    return value


def _shorten(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "…")
