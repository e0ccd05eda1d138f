"""Pooling: what several runs found and nobody has judged yet, as a sheet for people or for a model.

Source: Spärck Jones & van Rijsbergen (1975); TREC's depth pooling. A run that was not in the pool is at a
disadvantage on judgments made from it: look at its judged@k.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrem_os.errors import InputError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.output import jsonl
from lrem_os.types import Query, Ranking

SHEET = ("qid", "query", "doc_id", "title", "found_by", "grade")
"""Columns of a sheet. ``found_by`` is ``run:rank`` for each run that has the document, best rank first."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run, or send home


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pair that waits for a grade.

    Args:
        query_id: The query.
        query: Its text.
        doc_id: The document.
        title: What it is, where a catalog was given.
        ranks: Run → rank, from 1.
    """

    query_id: str
    query: str
    doc_id: str
    title: str
    ranks: Mapping[str, int]


def build_pool(
    runs: Mapping[str, Mapping[str, Ranking]],
    queries: Sequence[Query],
    *,
    depth: int,
    judged: Qrels | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[PoolRow]:
    """Return the unjudged documents among the first ``depth`` of any run; queries in order, best ranks first.

    Raises:
        InputError: No run has a result for any of the queries.
    """
    rows: list[PoolRow] = []
    num_found = 0
    for query in queries:
        ranks: dict[str, dict[str, int]] = {}
        for name, run in runs.items():
            ranking = run.get(query.query_id)
            for rank, hit in enumerate(ranking.hits[:depth] if ranking else (), 1):
                ranks.setdefault(hit.doc_id, {})[name] = rank
        num_found += len(ranks)
        known = (judged or {}).get(query.query_id, {})
        left = sorted((min(found.values()), doc_id) for doc_id, found in ranks.items() if doc_id not in known)
        rows += [
            PoolRow(query.query_id, query.text, doc_id, (titles or {}).get(doc_id, ""), ranks[doc_id])
            for _, doc_id in left
        ]
    if not num_found:
        raise InputError(
            "no run has a result for any of the queries", hint="are the query ids of --runs those of --queries?"
        )
    return rows


def format_sheet(rows: Sequence[PoolRow], path: str) -> bytes:
    """Return the sheet as a file of this name has it: ``.jsonl`` as JSON lines, else CSV; grades are left open."""
    cells = [
        {
            "qid": row.query_id,
            "query": row.query,
            "doc_id": row.doc_id,
            "title": " ".join(row.title.split()),
            "found_by": " ".join(f"{run}:{rank}" for run, rank in sorted(row.ranks.items(), key=lambda one: one[::-1])),
            "grade": None,
        }
        for row in rows
    ]
    if path.endswith((".jsonl", ".ndjson")):
        return jsonl(cells)
    text = io.StringIO()
    writer = csv.DictWriter(text, SHEET, lineterminator="\n")
    writer.writeheader()
    for row in cells:
        writer.writerow({name: _harmless(value, name) for name, value in row.items()})
    return text.getvalue().encode()


def _harmless(value: object, name: str) -> object:
    """Return a cell that no spreadsheet takes for a formula; ids stay as they are, they are read back."""
    shown = name in ("query", "title") and isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if shown else value
