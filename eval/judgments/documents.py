"""Judgments that are one JSON document: exports of Quepid and of the Search Relevance Workbench. Pure.

Both name a query by its text. Sources: quepid, ``app/views/api/v1/export/{cases,books,ratings}/*.json.jbuilder``;
OpenSearch 3.x, "Judgments" (Search Relevance Workbench), ``PUT _plugins/_search_relevance/judgments``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.tables import Row

_MARKS = ("judgmentRatings", "queries", "query_doc_pairs", "hits", "judgments")
_HINT = "known are Quepid's case and book exports, and judgments of the Search Relevance Workbench (judgmentRatings)"


def is_document(lines: Sequence[tuple[int, str]]) -> Any:
    """Return the document, where the lines are one; ``None`` where each line is a record of its own.

    Broken JSON is left to the reader of lines, which names the line.
    """
    try:
        first = orjson.loads(lines[0][1])
        if len(lines) > 1 or (isinstance(first, dict) and not any(mark in first for mark in _MARKS)):
            return None
        return first
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads("\n".join(text for _, text in lines))
    except orjson.JSONDecodeError:
        return None


def judged_rows(document: Any, path: str) -> Iterator[Row]:
    """Yield rows with ``query``, ``doc_id``, ``grade`` of an export.

    Raises:
        DatasetError: It is none that is known, or a part of it has another form; names the place in the document.
    """
    if isinstance(document, list):
        yield from _workbench(document, path, "")
    elif isinstance(document, dict) and isinstance(document.get("judgmentRatings"), list):
        yield from _workbench(document["judgmentRatings"], path, "judgmentRatings")
    elif isinstance(document, dict) and isinstance(document.get("query_doc_pairs"), list):
        yield from _quepid_book(document["query_doc_pairs"], path)
    elif isinstance(document, dict) and isinstance(document.get("queries"), list):
        yield from _quepid_case(document["queries"], path)
    elif isinstance(document, dict) and isinstance(document.get("hits"), dict):
        yield from _search_answer(document["hits"].get("hits"), path)
    else:
        keys = ", ".join(document)[:100] if isinstance(document, dict) else type(document).__name__
        raise DatasetError(f"a JSON document with {keys or 'nothing'} holds no judgments", path=path, hint=_HINT)


def _search_answer(hits: Any, path: str) -> Iterator[Row]:
    """The answer to ``GET _plugins/_search_relevance/judgments/ID``: exactly one list."""
    if not isinstance(hits, list) or len(hits) != 1:
        raise DatasetError(
            f"the answer holds {len(hits) if isinstance(hits, list) else 'no'} judgment lists: want one",
            path=path,
            hint="GET _plugins/_search_relevance/judgments/ID",
        )
    source = _part(hits[0], "_source", dict, path, "hits.hits[0]")
    yield from _workbench(_part(source, "judgmentRatings", list, path, "_source"), path, "judgmentRatings")


def _workbench(ratings: Sequence[Any], path: str, name: str) -> Iterator[Row]:
    for number, entry in enumerate(ratings):
        where = f"{name}[{number}]"
        query = _part(entry, "query", str, path, where)
        for position, rated in enumerate(_part(entry, "ratings", list, path, where)):
            at = f"{where}.ratings[{position}]"
            doc_id = _part(rated, "docId", (str, int), path, at)
            yield Row(None, {"query": query, "doc_id": doc_id, "grade": _number(rated.get("rating"), path, at)})


def _quepid_case(queries: Sequence[Any], path: str) -> Iterator[Row]:
    """A case (``query_text``), and the ratings of one (``query``): ratings are document → rating."""
    for number, entry in enumerate(queries):
        where = f"queries[{number}]"
        name = "query_text" if isinstance(entry, dict) and "query_text" in entry else "query"
        query = _part(entry, name, str, path, where)
        ratings = entry.get("ratings")
        if ratings is None or ratings == []:  # a query that nobody has rated
            continue
        for doc_id, rating in _part(entry, "ratings", dict, path, where).items():
            grade = None if rating is None else _number(rating, path, f"{where}.ratings[{doc_id!r}]")
            yield Row(None, {"query": query, "doc_id": doc_id, "grade": grade})


def _quepid_book(pairs: Sequence[Any], path: str) -> Iterator[Row]:
    """A pair may have several judges: the mean counts, rounded half up; what cannot be rated counts for nothing."""
    for number, pair in enumerate(pairs):
        where = f"query_doc_pairs[{number}]"
        query = _part(pair, "query_text", str, path, where)
        doc_id = _part(pair, "doc_id", (str, int), path, where)
        ratings = [
            float(_number(one.get("rating"), path, f"{where}.judgements[{position}]"))
            for position, one in enumerate(pair.get("judgements") or [])
            if isinstance(one, dict) and one.get("rating") is not None and not one.get("unrateable")
        ]
        grade = math.floor(sum(ratings) / len(ratings) + 0.5) if ratings else None
        yield Row(None, {"query": query, "doc_id": doc_id, "grade": grade})


def _part(value: Any, name: str, kind: Any, path: str, where: str) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get(name), kind):
        found = value.get(name) if isinstance(value, Mapping) else value
        raise DatasetError(f"{where}: {name} is {_show(found)}", path=path, hint=_HINT)
    return value[name]


def _number(value: Any, path: str, where: str) -> int | float:
    """Return a rating; the Workbench writes numbers as texts."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise DatasetError(f"{where}: rating {_show(value)}: want a number from 0 up", path=path)
    return int(number) if number.is_integer() else number


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
