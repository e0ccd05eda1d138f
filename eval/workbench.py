"""Queries and judgments as the Search Relevance Workbench takes them: request bodies as plain values.

Shapes and limits are those of the plugin's own source, ``RestPutQuerySetAction``, ``ImportJudgmentsProcessor`` and
``TextValidationUtil``. The workbench knows a query by its text alone: queries with the same text become one.

Source: OpenSearch 3.6 documentation, "Query sets" and "Judgments"; opensearch-project/search-relevance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lrem_os.errors import InputError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.output import format_qrels
from lrem_os.types import Query

MAX_QUERIES = 1000
"""Queries in a set: ``plugins.search_relevance.query_set.maximum`` as the plugin sets it."""

_MAX_NAME_CHARS = 50
_MAX_DESCRIPTION_CHARS = 250
_MAX_TEXT_CHARS = 2000
_IDS_SHOWN = 5
_REFUSED = re.compile(r'["\\<>]')

QUERY_SETS_PATH = "_plugins/_search_relevance/query_sets"
JUDGMENTS_PATH = "_plugins/_search_relevance/judgments"


@dataclass(frozen=True, slots=True)
class Export:
    """What the workbench is sent.

    Args:
        query_sets: Bodies of ``PUT _plugins/_search_relevance/query_sets``, at most ``MAX_QUERIES`` queries each.
        judgments: Body of ``PUT _plugins/_search_relevance/judgments``.
        left_out: Ids of queries whose text the workbench refuses.
        merged: Ids of queries whose text another query has too.
        regraded: Pairs that two queries with one text grade differently; the higher grade is taken.
    """

    query_sets: tuple[dict[str, Any], ...]
    judgments: dict[str, Any]
    left_out: tuple[str, ...]
    merged: tuple[str, ...]
    regraded: int


def export_workbench(queries: Sequence[Query], qrels: Qrels, *, name: str, description: str = "") -> Export:
    """Return the bodies for queries and their judgments.

    Args:
        queries: Ids are unique. Those without a judgment are in the set, and have no ratings.
        qrels: Query id → document id → grade.
        name: Of query set and judgment list.
        description: Of both.

    Raises:
        InputError: The workbench would refuse the name or the description, or has no query left to take.
    """
    _check_text("name", name, _MAX_NAME_CHARS - len(" 999/999"))
    if description:
        _check_text("description", description, _MAX_DESCRIPTION_CHARS)
    ratings: dict[str, dict[str, int]] = {}
    left_out, merged, regraded = [], [], 0
    for query in queries:
        text = " ".join(query.text.split())
        if not is_accepted(text):
            left_out.append(query.query_id)
            continue
        if text in ratings:
            merged.append(query.query_id)
        grades = ratings.setdefault(text, {})
        for doc_id, grade in qrels.get(query.query_id, {}).items():
            regraded += grades.get(doc_id, grade) != grade
            grades[doc_id] = max(grade, grades.get(doc_id, grade))
    if not ratings:
        raise InputError("the workbench takes none of these queries", hint='it refuses ", \\, < and > in a query')
    about = {"description": description} if description else {}
    return Export(
        tuple(_query_sets(list(ratings), name, about)),
        {"name": name, **about, "type": "IMPORT_JUDGMENT", "judgmentRatings": _ratings(ratings)},
        tuple(left_out),
        tuple(merged),
        regraded,
    )


def export_files(
    queries: Sequence[Query], qrels: Qrels, *, name: str, description: str = ""
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the bodies as files by name, and the account: queries, judgments, notes. See ``export_workbench``.

    Raises:
        InputError: As ``export_workbench``, or none of the judgments is left.
    """
    export = export_workbench(queries, qrels, name=name, description=description)
    num_judgments = sum(len(row["ratings"]) for row in export.judgments["judgmentRatings"])
    _check_judged(num_judgments, qrels)
    numbered = len(export.query_sets) > 1
    files = {
        f"query_set{f'_{number}' if numbered else ''}.json": _json(body)
        for number, body in enumerate(export.query_sets, 1)
    } | {"judgments.json": _json(export.judgments)}
    notes = []
    if export.left_out:
        notes.append(f"left out, the workbench refuses their text: {_named(export.left_out)}")
    if export.merged:
        notes.append(f"merged with a query of the same text: {_named(export.merged)}")
    if export.regraded:
        notes.append(f"{export.regraded} pairs of merged queries had two grades: the higher was taken")
    return files, {
        "queries": sum(len(body["querySetQueries"]) for body in export.query_sets),
        "judgments": num_judgments,
        "left_out": list(export.left_out),
        "merged": list(export.merged),
        "notes": notes,
    }


def trec_files(queries: Sequence[Query], qrels: Qrels) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return topics (``id<TAB>text``) and qrels of the queries as files by name, and the account.

    Raises:
        DatasetError: An id cannot stand in a TREC file.
        InputError: None of the judgments is about one of the queries.
    """
    ids = {query.query_id for query in queries}
    judged = {query_id: grades for query_id, grades in qrels.items() if query_id in ids}
    num_judgments = sum(map(len, judged.values()))
    _check_judged(num_judgments, qrels)
    topics = "".join(f"{query.query_id}\t{' '.join(query.text.split())}\n" for query in queries)
    files = {"topics.tsv": topics.encode(), "qrels.txt": format_qrels(judged, "qrels.txt")}
    extra = len(qrels.keys() - ids)
    return files, {
        "queries": len(queries),
        "judgments": num_judgments,
        "notes": [f"left out: judgments of {extra} queries that the query file lacks"] if extra else [],
    }


def is_accepted(text: str) -> bool:
    r"""Return whether the workbench takes a text as a query.

    >>> is_accepted("red sofa"), is_accepted('55" tv'), is_accepted("")
    (True, False, False)
    """
    return 0 < len(text) <= _MAX_TEXT_CHARS and not _REFUSED.search(text) and "\n" not in text and "\r" not in text


def _query_sets(texts: Sequence[str], name: str, about: Mapping[str, str]) -> list[dict[str, Any]]:
    parts = [texts[first : first + MAX_QUERIES] for first in range(0, len(texts), MAX_QUERIES)]
    return [
        {
            "name": name if len(parts) == 1 else f"{name} {number}/{len(parts)}",
            **about,
            "sampling": "manual",
            "querySetQueries": [{"queryText": text} for text in part],
        }
        for number, part in enumerate(parts, 1)
    ]


def _ratings(ratings: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Return the ratings; texts of digits, as the documentation has them."""
    return [
        {"query": text, "ratings": [{"docId": doc_id, "rating": f"{grade}.0"} for doc_id, grade in grades.items()]}
        for text, grades in ratings.items()
        if grades
    ]


def _check_judged(num_judgments: int, qrels: Qrels) -> None:
    if qrels and not num_judgments:
        first = next(iter(qrels))
        raise InputError(
            f"none of the judgments is about one of the queries that are exported; the first is about {first!r}",
            hint="give the query file whose ids, or texts, the judgments name",
        )


def _check_text(what: str, text: str, max_chars: int) -> None:
    if not text or len(text) > max_chars or _REFUSED.search(text):
        raise InputError(
            f"the {what} is {text[:60]!r}, {len(text)} characters long",
            hint=f'the workbench takes 1 to {max_chars} characters without ", \\, < and >',
        )


def _json(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(body), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return f"{len(ids)} ({', '.join(ids[:_IDS_SHOWN])}{more})"
