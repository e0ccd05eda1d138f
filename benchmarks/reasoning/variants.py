"""Reasoners that stand in for the model's own reasoning: the ablations of LREM's Table 2, and the upper bound."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrem_os.types import Reasoner, Reasoning

Variant = Callable[[str], tuple[Reasoning, ...]]


class Recorded:
    """Asks a reasoner once per query and remembers: every variant sees the same samples."""

    def __init__(self, reasoner: Reasoner) -> None:
        self._reasoner = reasoner
        self._known: dict[str, tuple[Reasoning, ...]] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._reasoner.identity

    def record(self, queries: Sequence[str]) -> None:
        new = [query for query in dict.fromkeys(queries) if query not in self._known]
        self._known.update(zip(new, self._reasoner.reason(new), strict=True))

    def __call__(self, query: str) -> tuple[Reasoning, ...]:
        return self._known[query]


class VariantReasoner:
    """A ``Reasoner`` that answers with a function of the query."""

    def __init__(self, name: str, variant: Variant) -> None:
        self._name = name
        self._variant = variant

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"variant": self._name}

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        return [self._variant(query) for query in queries]


def first(recorded: Variant, num: int) -> Variant:
    """Return the first samples alone."""
    return lambda query: recorded(query)[:num]


def empty(_query: str) -> tuple[Reasoning, ...]:
    """Return no reasoning (LREM: Empty-CoT)."""
    return (Reasoning(),)


def the_query(query: str) -> tuple[Reasoning, ...]:
    """Return the query as its own reasoning (LREM: Query-CoT)."""
    return (Reasoning(keywords=(query,)),)


def somebody_elses(recorded: Variant, queries: Sequence[str], seed: int) -> Variant:
    """Return the reasoning about another query (LREM: Random-CoT)."""
    others = list(queries)
    random.Random(seed).shuffle(others)
    other = {query: others[(place + 1) % len(others)] for place, query in enumerate(others)}
    return lambda query: recorded(other[query])


def given(keywords: Mapping[str, str]) -> Variant:
    """Return written keywords: the judges' own."""
    return lambda query: (Reasoning(keywords=tuple(part.strip() for part in keywords[query].split(","))),)
