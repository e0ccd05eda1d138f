"""Catalog files as a stream of rows: JSON Lines, CSV, TSV, Parquet; one bad row never ends the stream.

A row that cannot be read is a ``Row`` with ``error`` set, so that every line of the input is accounted for.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import orjson

from lrem_os.errors import DatasetError
from lrem_os.extras import require

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is refused: a file without line breaks must not fill the memory."""

_BOM = b"\xef\xbb\xbf"
_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
FORMATS = ("jsonl", "csv", "tsv", "parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """One input file.

    Args:
        path: Where it is read from.
        label: What reports call it (``-`` for standard input).
        format: One of ``FORMATS``.
    """

    path: Path
    label: str
    format: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line or table row.

    Args:
        line: Its number, from 1; for CSV the line it ends on, for Parquet the row.
        value: The row; ``None`` when it could not be read.
        error: Why not.
        raw: The text of an unreadable row, cut, for the dead-letter file.
        num_bytes: About how much it holds, objects included.
    """

    line: int
    value: dict[str, Any] | None
    error: str | None = None
    raw: str | None = None
    num_bytes: int = field(default=0, compare=False)


def expand_sources(
    patterns: Sequence[str],
    *,
    file_format: str | None = None,
    spool: Callable[[], Path] = lambda: Path(tempfile.gettempdir()),
) -> list[Source]:
    """Return the input files that paths, globs and ``-`` stand for, in order.

    Standard input, and what else can be read only once (a pipe), is copied to a file first: a catalog is read twice,
    once for its ids.

    Args:
        patterns: What the user gave.
        file_format: Overrides what the file name says; standard input is JSON Lines unless this says otherwise.
        spool: Returns the folder for a copy; called only where one is needed.

    Raises:
        DatasetError: Nothing there, a directory, an unknown kind of file.
    """
    sources: list[Source] = []
    for pattern in patterns:
        if pattern == "-":
            sources.append(_spool(sys.stdin.buffer, "-", file_format or "jsonl", spool))
            continue
        paths = [Path(pattern)] if os.path.exists(pattern) else sorted(Path(found) for found in glob.glob(pattern))
        if not paths:
            raise DatasetError("no such file", path=pattern, hint="check the path; quote a glob for lrem-os to expand")
        sources.extend(_source(path, file_format, spool) for path in paths)
    return sources


def _source(path: Path, file_format: str | None, spool: Callable[[], Path]) -> Source:
    kind = file_format or _format_of(path)
    if path.is_fifo():
        with path.open("rb") as pipe:
            return _spool(pipe, str(path), kind, spool)
    return Source(path, str(path), kind)


def _format_of(path: Path) -> str:
    if path.is_dir():
        raise DatasetError("is a directory", path=path, hint=f"name the files in it, for example '{path}/*.jsonl'")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    raise DatasetError(
        f"unknown kind of file {''.join(path.suffixes) or '(no extension)'}",
        path=path,
        hint=f"known: {', '.join(_FORMATS)} (each also with .gz, but Parquet); or say --format",
    )


def _spool(stream: IO[bytes], label: str, file_format: str, spool: Callable[[], Path]) -> Source:
    try:
        with tempfile.NamedTemporaryFile(dir=spool(), suffix=f".{file_format}", delete=False) as file:
            shutil.copyfileobj(stream, file)
    except OSError as exc:
        raise DatasetError(f"cannot be copied to a temporary file: {exc.strerror or exc}", path=label) from exc
    return Source(Path(file.name), label, file_format)


def read_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a file in order; blank lines are skipped.

    Raises:
        DatasetError: The file as a whole cannot be read (missing, truncated gzip, no Parquet).
    """
    readers: dict[str, Callable[[Source], Iterator[Row]]] = {
        "jsonl": _read_jsonl,
        "csv": lambda source: _read_csv(source, ","),
        "tsv": lambda source: _read_csv(source, "\t"),
        "parquet": _read_parquet,
    }
    try:
        yield from readers[source.format](source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DatasetError(f"the gzip data is damaged or cut off: {exc}", path=source.label) from exc
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror or exc}", path=source.label) from exc


def _open(source: Source) -> IO[bytes]:
    if source.path.is_dir():
        raise DatasetError("is a directory", path=source.label)
    with source.path.open("rb") as probe:
        gzipped = probe.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(source.path, "rb")) if gzipped else source.path.open("rb")


def _read_jsonl(source: Source) -> Iterator[Row]:
    with _open(source) as file:
        for line, raw in enumerate(_lines(file), start=1):
            raw = raw.removeprefix(_BOM) if line == 1 else raw
            if len(raw) > MAX_LINE_BYTES:
                yield Row(line, None, f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB", _shown(raw))
            elif stripped := raw.strip():
                yield _parse_json(line, stripped)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    r"""Yield the lines of a file, split at ``\n`` only; of an over-long line the first part, once."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):  # skip the rest of it
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return


def _parse_json(line: int, raw: bytes) -> Row:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        return _parse_leniently(line, raw, exc)
    if not isinstance(value, dict):
        return Row(line, None, f"holds a JSON {_json_type(value)}, not an object", _shown(raw))
    return Row(line, value, num_bytes=len(raw))


def _parse_leniently(line: int, raw: bytes, error: orjson.JSONDecodeError) -> Row:
    """Say precisely what is wrong; NaN, which Python writes and JSON lacks, is left to the check of the field."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        reason = f"is not valid UTF-8 at byte {exc.start + 1} (0x{raw[exc.start]:02X}): save the file as UTF-8"
        return Row(line, None, reason, _shown(raw))
    try:
        value = json.loads(text)
        orjson.dumps(value)  # what is not NaN alone (lone surrogates, say) fails here
    except (ValueError, RecursionError, TypeError):
        return Row(line, None, f"broken JSON: {error}", _shown(raw))
    if not isinstance(value, dict):
        return Row(line, None, f"holds a JSON {_json_type(value)}, not an object", _shown(raw))
    return Row(line, value, num_bytes=len(raw))


def _json_type(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


class _CsvLines(Iterator[str]):
    """The lines of a file as ``csv.reader`` wants them, counted; an over-long one is a ``csv.Error``, not cut."""

    def __init__(self, file: IO[bytes]) -> None:
        self._lines = _lines(file)
        self.number = 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if len(line) > MAX_LINE_BYTES:
            raise csv.Error(f"a line is longer than {MAX_LINE_BYTES // 2**20} MiB")
        # surrogateescape keeps bytes that are not UTF-8 visible, so that only their row is refused
        return (line.removeprefix(_BOM) if self.number == 1 else line).decode("utf-8", "surrogateescape")


def _read_csv(source: Source, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    with _open(source) as file:
        lines = _CsvLines(file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _read_header(reader, lines, source)
        while header:
            first = lines.number + 1
            try:
                cells = next(reader, None)
            except csv.Error as exc:
                where = f" (the row begins on line {first})" if first < lines.number else ""
                yield Row(lines.number, None, f"broken {source.format.upper()}: {exc}{where}")
                continue
            if cells is None:
                return
            if cells:
                yield _csv_row(lines.number, header, cells)


def _read_header(reader: Iterator[list[str]], lines: _CsvLines, source: Source) -> list[str]:
    """Return the column names; none for a file without a line that says something."""
    try:
        header = next((cells for cells in reader if cells), [])
    except csv.Error as exc:
        raise DatasetError(f"the header cannot be read: {exc}", path=source.label, line=lines.number) from exc
    if _is_not_utf8(header):
        raise DatasetError("the header is not valid UTF-8", path=source.label, line=1, hint="save the file as UTF-8")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DatasetError(f"the header names column {twice!r} twice", path=source.label, line=lines.number)
    return header


def _is_not_utf8(cells: Sequence[str]) -> bool:
    return any("\udc80" <= character <= "\udcff" for cell in cells for character in cell)


def _csv_row(line: int, header: list[str], cells: list[str]) -> Row:
    if _is_not_utf8(cells):
        return Row(line, None, "is not valid UTF-8: save the file as UTF-8", str(cells)[:2000])
    if len(cells) != len(header):
        return Row(line, None, f"has {len(cells)} cells, the header {len(header)}", str(cells)[:2000])
    value = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    return Row(line, value, num_bytes=sum(map(len, cells)))


def _read_parquet(source: Source) -> Iterator[Row]:
    parquet: Any = require("pyarrow.parquet", extra="parquet")
    arrow: Any = require("pyarrow", extra="parquet")
    try:
        with parquet.ParquetFile(source.path) as table:
            names = table.schema_arrow.names
            if twice := sorted(name for name, count in Counter(names).items() if count > 1):
                raise DatasetError(f"has column {twice[0]!r} twice", path=source.label)
            line = 0
            for batch in table.iter_batches(batch_size=512):
                yield from _parquet_rows(batch, line)
                line += batch.num_rows
    except arrow.ArrowException as exc:
        raise DatasetError(f"is not a Parquet file, or a damaged one: {exc}", path=source.label) from exc


def _parquet_rows(batch: Any, line: int) -> Iterator[Row]:
    """Yield the rows of a batch, one by one where the batch as a whole cannot be read."""
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError as exc:
        if batch.num_rows == 1:
            yield Row(line + 1, None, f"is not valid UTF-8: {exc.reason}")
            return
        for idx in range(batch.num_rows):
            yield from _parquet_rows(batch.slice(idx, 1), line + idx)
        return
    num_bytes = batch.nbytes // max(batch.num_rows, 1)
    for idx, value in enumerate(values, start=1):
        yield Row(line + idx, {name: cell for name, cell in value.items() if cell is not None}, num_bytes=num_bytes)


def _shown(raw: bytes) -> str:
    return raw[:2000].decode("utf-8", "replace")
