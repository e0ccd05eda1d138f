"""The answers of a run as they come: JSONL, one line a query, with traces; read again as a run, or to go on with.

The first line names the run and what its answers depend on (``key``: configuration, index, models). Lines are only
added. A file of another key is begun anew; a last line without its end, which a kill leaves behind, is cut off. A query
is known by its id and a hash of its text, so that a log that has grown is asked only about what is new.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError, RunError
from lrem_os.eval.datasets import DataFile
from lrem_os.lines import cut_torn_line
from lrem_os.types import Hit, Query, Ranking, Trace

SCHEMA = "lrem-os/run/1"


@dataclass
class Answers:
    """A file of answers that is being added to.

    Args:
        path: The file.
        name: Of the run.
        key: What the answers depend on: JSON values.
        known: What is there already, by query id: hash of the text, ranking.
    """

    path: Path
    name: str
    key: Mapping[str, Any]
    known: dict[str, tuple[str, Ranking]] = field(default_factory=dict)

    def get(self, query: Query) -> Ranking | None:
        """Return what was answered to a query before."""
        text_hash, ranking = self.known.get(query.query_id, ("", None))
        return ranking if text_hash == hash_text(query.text) else None

    def add(self, answered: Iterable[tuple[Query, Ranking]]) -> None:
        """Write answers, at once. Raises ``RunError`` where the file cannot be written."""
        pairs = list(answered)
        self._write([_line(query, ranking) for query, ranking in pairs], "ab")
        self.known |= {query.query_id: (hash_text(query.text), ranking) for query, ranking in pairs}

    def begin(self) -> None:
        """Begin the file anew. Raises ``RunError``."""
        self.known.clear()
        self._write([orjson.dumps({"schema": SCHEMA, "run": self.name, "key": self.key}) + b"\n"], "wb")

    def _write(self, lines: Iterable[bytes], mode: str) -> None:
        try:
            with self.path.open(mode) as file:
                file.write(b"".join(lines))
        except OSError as exc:
            raise RunError(f"cannot write {self.path}: {exc.strerror or exc}", hint="save the runs elsewhere") from exc


def open_answers(path: Path, name: str, key: Mapping[str, Any], *, fresh: bool = False) -> Answers:
    """Return the answers of a run, with those that are there if they were made under the same key.

    Args:
        path: The file; made where it is not there.
        name: Of the run.
        key: What the answers depend on.
        fresh: Begin anew whatever is there.

    Raises:
        DatasetError: A line of the file is broken.
        RunError: The file cannot be read or written.
    """
    answers = Answers(path, name, key)
    try:
        if not fresh:
            cut_torn_line(path)
        whole = b"" if fresh or not path.exists() else path.read_bytes()
    except OSError as exc:
        raise RunError(f"cannot read or write {path}: {exc.strerror or exc}", hint="save the runs elsewhere") from exc
    lines = [(number, line) for number, line in enumerate(whole.split(b"\n"), 1) if line.strip()]
    if not lines or _header(lines[0][1]) != {"schema": SCHEMA, "run": name, "key": _plain(key)}:
        answers.begin()
        return answers
    for number, line in lines[1:]:
        query_id, text_hash, ranking = _parse(line, str(path), number)
        answers.known[query_id] = (text_hash, ranking)
    return answers


def is_answers(file: DataFile) -> bool:
    """Return whether a file holds answers, and not a TREC run: there a query id may begin with a brace too."""
    return isinstance(_header(file.lines[0][1].encode("utf-8", "replace")), dict)


def parse_answers(file: DataFile) -> dict[str, Ranking]:
    """Return the run that a file of answers holds; of a query that was answered twice, the last.

    A last line that is torn is passed over: its query has no answer.

    Raises:
        DatasetError: A line is something else.
    """
    number, first = file.lines[0]
    header = _header(first.encode("utf-8", "replace"))
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        found = header.get("schema") if isinstance(header, dict) else None
        raise DatasetError(
            f"is no file of answers: its first line has schema {found!r}, not {SCHEMA!r}",
            path=file.path,
            line=number,
            hint="`lrem-os eval --save-runs DIR` writes DIR/RUN.jsonl; a TREC run has six columns a line",
        )
    run: dict[str, Ranking] = {}
    for number, line in file.lines[1:]:
        if number == file.lines[-1][0] and not line.rstrip().endswith("}"):
            break
        query_id, _, ranking = _parse(line.encode(), file.path, number)
        run[query_id] = ranking
    return run


def hash_text(text: str) -> str:
    """Return 16 hex digits of a query's text: what was asked is not kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _header(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _line(query: Query, ranking: Ranking) -> bytes:
    row = {
        "qid": query.query_id,
        "text_hash": hash_text(query.text),
        "total": ranking.total,
        "took_ms": ranking.took_ms,
        "trace": ranking.trace,  # NaN is null
        "hits": [[hit.doc_id, hit.score] for hit in ranking.hits],
    }
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _parse(line: bytes, path: str, number: int) -> tuple[str, str, Ranking]:
    try:
        row = orjson.loads(line)
        hits = tuple(Hit(str(doc_id), float(score)) for doc_id, score in row["hits"])
        trace = None if row["trace"] is None else _trace(row["trace"])
        ranking = Ranking(hits, int(row["total"]), float(row["took_ms"]), trace=trace)
        return str(row["qid"]), str(row["text_hash"]), ranking
    except (KeyError, TypeError, ValueError) as exc:  # orjson.JSONDecodeError is a ValueError
        raise DatasetError(
            f"is no answer of a run: {exc!r}", path=path, line=number, hint="delete the line, or ask again with --fresh"
        ) from exc


def _trace(row: Mapping[str, Any]) -> Trace:
    return Trace(
        route=str(row["route"]),
        keywords=tuple(map(str, row["keywords"])),
        degraded=tuple(map(str, row["degraded"])),
        reasoning_tokens=int(row["reasoning_tokens"]),
        latency_ms=_number(row["latency_ms"]),
        reason_ms=float(row["reason_ms"]),
        score=_number(row["score"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
