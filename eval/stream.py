"""TREC run files that need not fit into memory: one query after the other, best document first."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson

from lrem_os.errors import DatasetError, RunError
from lrem_os.eval.datasets import COLUMNS
from lrem_os.eval.runs import MAX_SCORE

_CHUNK = 1 << 16  # bytes: what is split at once stays in the processor's cache
_OTHER_BLANKS = (b"\x0b", b"\x0c", b"\r")  # bytes.split takes them for separators; they may be part of an id
_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(slots=True)
class RunFile:
    """A TREC run file (``qid Q0 docid rank score tag``, maybe gzip), read anew each time it is asked for its lists.

    Ordered as trec_eval orders it: by the score in 32 bits, ties by document id descending; the rank column is not
    looked at. One query is held at a time.

    Args:
        path: Of the file.
        sha256: Checksum of its bytes as they lie on disk; empty until it was read to its end.
    """

    path: str
    sha256: str = field(default="", init=False)

    def lists(self) -> Iterator[tuple[str, list[str]]]:
        """Yield query ids, each with its document ids, best first.

        Where the lines of a query do not stand together, it comes again at the end, complete: the last list counts.

        Raises:
            DatasetError: The file cannot be read, is not UTF-8 or empty.
            RunError: A line has not 6 columns, a score is no finite number, or a document comes twice.
        """
        seen: set[bytes] = set()
        scattered: set[bytes] = set()
        for block in self._blocks():
            if block.query_id in seen:
                scattered.add(block.query_id)
            else:
                seen.add(block.query_id)
                yield block.query_id.decode(), block.ranked(self.path)
        if not seen:
            raise DatasetError("the file is empty", path=self.path)
        if scattered:
            for query_id, block in self._gather(scattered).items():
                yield query_id.decode(), block.ranked(self.path)

    def _gather(self, query_ids: Collection[bytes]) -> dict[bytes, _Block]:
        """Return the lines of some queries, from wherever they stand in the file."""
        if not Path(self.path).is_file():
            raise RunError(
                f"{self.path}: the lines of {len(query_ids)} queries do not stand together, and a pipe is read once",
                hint="sort it by query (sort -s -k1,1), or hand over the file itself",
            )
        gathered: dict[bytes, _Block] = {}
        for block in self._blocks():
            if block.query_id in query_ids:
                gathered.setdefault(block.query_id, _Block(block.query_id)).extend(block)
        return gathered

    def _blocks(self) -> Iterator[_Block]:
        """Yield the lines that stand together, query by query."""
        block: _Block | None = None
        for first_line, lines, plain in self._chunks():
            for number, raw in enumerate(lines, first_line):
                columns = raw.split() if plain else _split(raw)
                if len(columns) != 6:
                    if not raw.decode().strip():
                        continue
                    raise RunError(
                        f"{self.path}:{number}: {len(_split(raw))} columns: "
                        "want 6 (query id, Q0, document id, rank, score, tag)"
                    )
                query_id, _, doc_id, _, score, _ = columns
                if block is None or query_id != block.query_id:
                    if block is not None:
                        yield block
                    block = _Block(query_id)
                block.doc_ids.append(doc_id)
                block.scores.append(score)
                block.numbers.append(number)
        if block is not None:
            yield block

    def _chunks(self) -> Iterator[tuple[int, list[bytes], bool]]:
        """Yield whole lines, the number of their first, and whether blanks and tabs are all the blanks they hold."""
        number, rest = 1, b""
        digest = hashlib.sha256()
        for chunk in _read(self.path, digest):
            body, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                lines = self._lines(body, number)
                yield number, lines, _is_plain(body)
                number += len(lines)
        if rest:
            yield number, self._lines(rest, number), _is_plain(rest)
        self.sha256 = digest.hexdigest()

    def _lines(self, body: bytes, first_line: int) -> list[bytes]:
        if first_line == 1:
            body = body.removeprefix(_UTF8_MARK)
        try:
            body.decode()
        except UnicodeDecodeError as exc:
            at = body.count(b"\n", 0, exc.start)
            column = exc.start - body.rfind(b"\n", 0, exc.start)
            raise DatasetError(
                f"not UTF-8: byte 0x{body[exc.start]:02x} at column {column}",
                path=self.path,
                line=first_line + at,
                hint="save the file as UTF-8",
            ) from exc
        return body.replace(b"\r\n", b"\n").removesuffix(b"\r").split(b"\n")


@dataclass(slots=True)
class _Block:
    """Lines of one query: document ids, scores as they are written, line numbers."""

    query_id: bytes
    doc_ids: list[bytes] = field(default_factory=list)
    scores: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def extend(self, other: _Block) -> None:
        """Add another block's lines."""
        self.doc_ids += other.doc_ids
        self.scores += other.scores
        self.numbers += other.numbers

    def ranked(self, path: str) -> list[str]:
        """Return the document ids, best first."""
        scores = self._narrow_scores(path)
        if len(set(self.doc_ids)) < len(self.doc_ids):
            raise self._twice(path)
        doc_ids = b" ".join(self.doc_ids).decode().split(" ")  # no id holds a blank: many are decoded at once
        if (scores[1:] < scores[:-1]).all():
            return doc_ids
        order = sorted(range(len(doc_ids)), key=lambda at: (scores[at], doc_ids[at]), reverse=True)
        return [doc_ids[at] for at in order]

    def _narrow_scores(self, path: str) -> npt.NDArray[np.float32]:
        values = _numbers(self.scores) or [self._number(at, path) for at in range(len(self.scores))]
        scores = np.array(values, dtype=np.float64)
        if not (np.abs(scores) <= MAX_SCORE).all():
            at = int(np.flatnonzero(~(np.abs(scores) <= MAX_SCORE))[0])
            raise RunError(f"{path}:{self.numbers[at]}: score {self.scores[at].decode()!r}: want a finite number")
        return scores.astype(np.float32)

    def _number(self, at: int, path: str) -> float:
        text = self.scores[at].decode()
        try:
            return float(text)
        except ValueError as exc:
            raise RunError(f"{path}:{self.numbers[at]}: score {text!r} is no number") from exc

    def _twice(self, path: str) -> RunError:
        first: dict[bytes, int] = {}
        at = next(at for at, doc_id in enumerate(self.doc_ids) if first.setdefault(doc_id, at) != at)
        return RunError(
            f"{path}:{self.numbers[at]}: document {self.doc_ids[at].decode()!r} comes twice "
            f"for query {self.query_id.decode()!r}"
        )


def is_trec_file(path: str | Path) -> bool:
    """Return whether a file is there to be read more than once and is no JSON: a TREC file, as far as one can tell."""
    if not Path(path).is_file():
        return False
    try:
        return not next(_read(str(path), hashlib.sha256()), b"").removeprefix(_UTF8_MARK).lstrip().startswith(b"{")
    except DatasetError:
        return False  # whoever reads it whole says what is wrong


class _Counted:
    """A file whose bytes go through a digest as they are read."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash) -> None:
        self._file = file
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        return data


def _read(path: str, digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield the file's bytes, gzip undone.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            is_gzip = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
            counted = _Counted(file, digest)
            source = gzip.GzipFile(fileobj=counted) if is_gzip else counted  # type: ignore[call-overload]
            while chunk := source.read(_CHUNK):
                yield chunk
            counted.read()  # what may stand behind the gzip
    except OSError as exc:  # gzip.BadGzipFile is one
        raise DatasetError(f"cannot read it: {exc.strerror or exc}", path=path) from exc
    except (EOFError, zlib.error) as exc:
        raise DatasetError(f"broken gzip: {exc}", path=path, hint="fetch the file again") from exc


def _is_plain(body: bytes) -> bool:
    """Return whether ``bytes.split`` splits these lines as ``COLUMNS`` does."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return not any(blank in body for blank in _OTHER_BLANKS)


def _split(raw: bytes) -> list[bytes]:
    return [column.encode() for column in COLUMNS.split(raw.decode().strip(" \t"))]


def _numbers(texts: Sequence[bytes]) -> list[float] | None:
    """Return scores written as JSON writes numbers, many at once; none where one is not."""
    try:
        values = orjson.loads(b"[" + b",".join(texts) + b"]")
    except orjson.JSONDecodeError:
        return None
    return values if len(values) == len(texts) and set(map(type, values)) <= {float, int} else None
