"""Rows by name: CSV and TSV with a header, and the names under which columns and keys are known. Pure.

One table of names serves every format: a CSV's columns and a JSONL's keys are called the same things.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.errors import DatasetError, InputError

NAMES: dict[str, tuple[str, ...]] = {
    "qid": ("qid", "query_id"),
    "query": ("query", "text", "user_query", "query_text"),
    "type": ("type",),
    "frequency": ("frequency", "count"),
    "doc_id": ("doc_id", "docid", "docId", "object_id"),
    "grade": ("grade", "rating"),
    "position": ("position", "rank"),
    "clicked": ("clicked", "click"),
    "clicks": ("clicks",),
    "impressions": ("impressions", "views"),
    "search": ("search", "search_id"),
}
"""What we call a field → what files call it, the first that is there counts."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file.

    Args:
        line: Where it stands, from 1; ``None`` in a file that is one JSON document.
        values: Its fields under the file's own names.
    """

    line: int | None
    values: Mapping[str, Any]


def parse_columns(text: str) -> dict[str, str]:
    """Return the mapping that ``--columns`` gives: our name → the file's.

    Raises:
        InputError: A part has no ``=``, or names no field of ours.

    >>> parse_columns("qid=id, query=q")
    {'qid': 'id', 'query': 'q'}
    """
    columns: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or name not in NAMES:
            raise InputError(
                f"--columns {part!r}: want NAME=COLUMN" + ("" if name in NAMES else f", and {name!r} is no name"),
                hint=f"names are {', '.join(NAMES)}: --columns qid=id,query=q",
            )
        columns[name] = column
    return columns


def find_name(name: str, columns: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return under which names a field may stand in a file, where some were given by hand."""
    return (columns[name],) if columns and name in columns else NAMES[name]


def value_of(row: Row, name: str, columns: Mapping[str, str] | None) -> Any:
    """Return a row's field, or ``None`` where it has none."""
    return next((row.values[key] for key in find_name(name, columns) if key in row.values), None)


def has_header(first_line: str, wanted: Sequence[str]) -> bool:
    """Return whether a file's first line names columns: all that are wanted, and nothing that looks like data.

    Two columns with a tab need both to be names of ours: ``q1<TAB>text`` is a query.

    >>> has_header("query,docid,rating", ("query", "doc_id")), has_header("q1\\tred bag", ("query",))
    (True, False)
    """
    cells = _cells(first_line)
    if not all(any(key in cells for key in NAMES[name]) for name in wanted):
        return False
    known = {key for keys in NAMES.values() for key in keys}
    return len(cells) > 2 or "\t" not in first_line or all(cell in known for cell in cells)


def read_table(lines: Sequence[tuple[int, str]], path: str, columns: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield the rows under a header line; the delimiter is what the header has: tab, semicolon or comma.

    Args:
        lines: Numbers and texts, as ``DataFile`` has them.
        path: For messages.
        columns: Our name → the file's; these must be in the header.

    Raises:
        DatasetError: The header or a row cannot be used; names the line.
    """
    delimiter = _delimiter(lines[0][1])
    reader = csv.reader((text + "\n" for _, text in lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        start = lines[min(reader.line_num, len(lines) - 1)][0]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            raise DatasetError(
                f"broken CSV: {exc}", path=path, line=start, hint='a quote inside a quoted cell is written twice: ""'
            ) from exc
        if not header:
            header = _check_header(cells, path, start, columns)
        else:
            yield _row(cells, header, path, start)


def _row(cells: Sequence[str], header: Sequence[str], path: str, line: int) -> Row:
    if len(cells) > len(header):
        raise DatasetError(
            f"{len(cells)} cells, the header has {len(header)} columns",
            path=path,
            line=line,
            hint="put cells that hold the delimiter into double quotes",
        )
    return Row(line, dict(zip(header, cells, strict=False)))  # Quepid writes an unrated query as one cell


def _check_header(cells: Sequence[str], path: str, line: int, columns: Mapping[str, str] | None) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise DatasetError(f"two columns are called {twice[0]!r}", path=path, line=line, hint="rename one of them")
    for name, column in (columns or {}).items():
        if column not in header:
            raise DatasetError(
                f"no column {column!r}, which --columns gives for {name}; the columns are {', '.join(header)}",
                path=path,
                line=line,
                hint="the first line must be the header",
            )
    return header


def _delimiter(line: str) -> str:
    return max("\t;,", key=lambda char: (line.count(char), char == "\t"))


def _cells(line: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=_delimiter(line)))
    except csv.Error:
        return []
    return [cell.strip() for cell in cells] if all(_WORD.fullmatch(cell.strip()) for cell in cells) else []
