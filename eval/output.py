"""Files that are written whole or not at all, and judgments as other tools read them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import Qrels


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file under another name and rename it: a run that is killed leaves nothing half-written.

    Raises:
        DatasetError: It cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=path, hint="write it elsewhere") from exc


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def format_qrels(qrels: Qrels, path: str | Path) -> bytes:
    """Return judgments as a file of this name has them: ``.jsonl`` as JSON lines, else TREC; queries in their order.

    Raises:
        DatasetError: An id cannot stand in a TREC column.
    """
    if str(path).endswith((".jsonl", ".ndjson")):
        return jsonl(
            {"qid": qid, "doc_id": doc_id, "grade": grade}
            for qid, grades in qrels.items()
            for doc_id, grade in grades.items()
        )
    lines = []
    for qid, grades in qrels.items():
        for doc_id, grade in grades.items():
            for name in (qid, doc_id):
                if any(char.isspace() for char in name):
                    raise DatasetError(
                        f"the id {name!r} holds a blank, which TREC's columns cannot",
                        path=path,
                        hint="write JSONL: --out judgments.jsonl",
                    )
            lines.append(f"{qid} 0 {doc_id} {grade}\n")
    return "".join(lines).encode()
