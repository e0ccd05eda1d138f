"""Which queries count, and what cannot be measured at all."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lrem_os.errors import InputError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.violations import Violations
from lrem_os.types import Query


@dataclass(frozen=True, slots=True)
class Selection:
    """Which queries count.

    Args:
        counted: With a relevant judgment, in the order of the query file.
        asked: Ids of all queries in the query file.
        unjudged: Queries without any judgment.
        without_relevant: Queries that are judged, but have nothing relevant.
    """

    counted: tuple[Query, ...]
    asked: frozenset[str]
    unjudged: tuple[str, ...]
    without_relevant: tuple[str, ...]


def select_queries(queries: Sequence[Query], qrels: Qrels, min_grade: int) -> Selection:
    """Return which queries count, and why the others do not.

    Raises:
        InputError: An id comes twice, a frequency is no positive number, no query is judged, or none has anything
            relevant.
    """
    if min_grade < 1:
        raise InputError(f"min_grade is {min_grade}: want 1 or more, grade 0 means not relevant")
    ids = [query.query_id for query in queries]
    for previous, query_id in pairwise(sorted(ids)):
        if previous == query_id:
            raise InputError(f"query id {query_id!r} comes twice")
    for query in queries:
        if not (math.isfinite(query.frequency) and query.frequency > 0):
            raise InputError(f"query {query.query_id!r} has frequency {query.frequency}: want a number above 0")
    judged = [query for query in queries if qrels.get(query.query_id)]
    if not judged:
        raise InputError(
            f"none of the {len(queries)} queries is judged: the queries have ids like {sample_id(ids)}, "
            f"the judgments {sample_id(qrels)}",
            hint="queries and judgments must use the same query ids",
        )
    best = {query.query_id: max(qrels[query.query_id].values()) for query in judged}
    counted = tuple(query for query in judged if best[query.query_id] >= min_grade)
    if not counted:
        raise InputError(f"no query has a judgment of grade {min_grade} or more: there is nothing to find")
    return Selection(
        counted,
        asked=frozenset(ids),
        unjudged=tuple(query_id for query_id in ids if not qrels.get(query_id)),
        without_relevant=tuple(query.query_id for query in judged if best[query.query_id] < min_grade),
    )


def violating_documents(selection: Selection, violations: Violations | None) -> list[Collection[str] | None]:
    """Return per query that counts the documents that break its exclusion; none where it has no entry.

    Raises:
        InputError: There is no entry for any of them: ``violation@k`` has nothing to go by.
    """
    if violations is None:
        raise InputError(
            "violation@k needs to know which documents break a query's exclusion",
            hint="hand over the file that lists them (--violations), or leave the measure out",
        )
    found = [violations.get(query.query_id) for query in selection.counted]
    if all(docs is None for docs in found):
        ids = [query.query_id for query in selection.counted]
        raise InputError(
            f"none of the {len(ids)} queries that count has an entry among the violations: the queries have ids like "
            f"{sample_id(ids)}, the violations {sample_id(violations)}",
            hint="queries and violations must use the same query ids",
        )
    return found


def sample_id(ids: Iterable[str]) -> str:
    """Return the first id as a message shows it."""
    first = next(iter(ids), None)
    return "none" if first is None else repr(first)
