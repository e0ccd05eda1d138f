"""What a run would do, without doing it: nothing is asked, nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from lrem_os.train.construct.lines import Unusable

T = TypeVar("T")
Messages = list[dict[str, str]]

_NAMED = 10  # problems that are shown; all are counted


def preview(
    entries: Iterable[T | Unusable], limit: int | None, ask: Callable[[T], Messages]
) -> tuple[dict[str, int], Messages, list[str]]:
    """Return the counts, the first question, and the first problems.

    Args:
        entries: The input.
        limit: Read no more of it.
        ask: Returns the messages for an input.
    """
    counts = {"read": 0, "usable": 0, "unusable": 0, "duplicate": 0}
    first: Messages = []
    problems: list[str] = []
    for entry in islice(entries, limit):
        counts["read"] += 1
        if not isinstance(entry, Unusable):
            counts["usable"] += 1
            first = first or ask(entry)
            continue
        counts["duplicate" if entry.duplicate else "unusable"] += 1
        if not entry.duplicate and len(problems) < _NAMED:
            problems.append(f"line {entry.line} {entry.reason}")
    return counts, first, problems
