"""Which documents break what a query excludes ("a red bag, not leather"): the judgments behind ``violation@k``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile

Violations = Mapping[str, Collection[str]]
"""Query id → documents that break what the query excludes."""

_IDS = ("ids", "doc_ids")
_QUERY_ID = ("qid", "query_id")


def parse_violations(file: DataFile) -> dict[str, frozenset[str]]:
    """Return query id → documents that break its exclusion.

    JSONL with ``qid`` (or ``query_id``) and ``ids``, a list. A query that excludes something which nothing breaks has
    an empty list; one without a line excludes nothing, and has no violation rate.

    Raises:
        DatasetError: A line cannot be used, or a query comes twice; names file and line.
    """
    found: dict[str, frozenset[str]] = {}
    for number, line in file.lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise DatasetError(f"broken JSON: {exc}", path=file.path, line=number) from exc
        query_id = _text(_field(row, _QUERY_ID, file.path, number), file.path, number)
        docs = _field(row, _IDS, file.path, number)
        if not isinstance(docs, list):
            raise DatasetError(f"ids is {docs!r:.60}: want a list of document ids", path=file.path, line=number)
        if query_id in found:
            raise DatasetError(
                f"query {query_id!r} comes twice", path=file.path, line=number, hint="keep one line a query"
            )
        found[query_id] = frozenset(_text(doc_id, file.path, number) for doc_id in docs)
    return found


def _field(row: Any, names: tuple[str, ...], path: str, number: int) -> Any:
    if isinstance(row, dict):
        for name in names:
            if name in row:
                return row[name]
    raise DatasetError(
        f"no {' or '.join(names)} in the line",
        path=path,
        line=number,
        hint='a line is {"qid": "q1", "ids": ["d7", "d9"]}',
    )


def _text(value: Any, path: str, number: int) -> str:
    """Return an id as text; numbers mean their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{value!r:.60} is no id: want text or an integer", path=path, line=number)
    return value
