"""Step B of LREM's data construction, first half: what is found with the reasoning and not without it.

Source: LREM § 3.2. Set 1 is the top k of the query, set 2 the top k of "query (keywords)", both by the same direct
retriever; set 2 minus 1 stays. The paper does not say k. Its chat template around both texts belongs to its retriever
and is left to ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrem_os.errors import InputError, SearchError
from lrem_os.types import Hit, Query, Ranking, Reasoning, Retriever

ItemText = Callable[[Hit], str]
"""What a judge reads of a found product."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product that may answer a query."""

    doc_id: str
    text: str


def query_with_reasoning(query: str, reasoning: Reasoning) -> str:
    """Return the text that finds set 2.

    >>> query_with_reasoning("la mer dupe", Reasoning(("Winona", "Proya")))
    'la mer dupe (Winona, Proya)'
    """
    return f"{query} ({', '.join(reasoning.keywords)})"


def difference(without: Ranking, with_reasoning: Ranking) -> list[Hit]:
    """Return the hits of the second ranking that the first lacks, in the second's order."""
    known = {hit.doc_id for hit in without.hits}
    return [hit for hit in with_reasoning.hits if hit.doc_id not in known]


def retrieve_each(retriever: Retriever, queries: Sequence[Query], *, top_k: int) -> list[Ranking | str]:
    """Return a ranking a query, or why there is none: one query that cannot be run does not spoil its batch.

    Raises:
        SearchError: The cluster does not answer; start again to go on.
    """
    try:
        return list(retriever.retrieve(queries, top_k=top_k))
    except (SearchError, InputError) as exc:
        if exc.retryable or len(queries) == 1:
            return _give_up(exc)
    return [found for query in queries for found in retrieve_each(retriever, [query], top_k=top_k)]


def _give_up(exc: SearchError | InputError) -> list[Ranking | str]:
    if exc.retryable or exc.code in ("access_denied", "index_missing"):
        raise exc
    return [str(exc)]
