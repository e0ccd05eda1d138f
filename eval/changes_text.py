"""A comparison of two reports as rows of a table, as sentences and as Markdown. Pure."""

from __future__ import annotations

from typing import Any

from lrem_os.eval.changes import Change, Changes, Fact
from lrem_os.eval.intervals import CONFIDENCE

COLUMNS = ("run", "measure", "before", "after", "difference", "interval", "n", "+/−", "")
_SIGNS = {"better": "▲ better", "worse": "▼ worse", "open": ""}
_SHOWN = 60  # characters of a value in a sentence: a fingerprint is known by its beginning


def rows(changes: Changes) -> list[tuple[str, ...]]:
    """Return one row a run and measure, for ``COLUMNS``."""
    return [_row(change) for change in changes.changes]


def sentences(changes: Changes) -> list[str]:
    """Return what a reader must know beside the table, the most important first."""
    lines = []
    if not changes.same_data:
        lines.append("NOT THE SAME DATA: the differences may come from it, not from what was changed")
        lines += [_fact(fact) for fact in changes.data]
    else:
        lines.append("same queries, same judgments")
    lines += [_fact(fact) for fact in changes.facts]
    lines += [f"only in the first report: {', '.join(changes.only_before)}"] * bool(changes.only_before)
    lines += [f"only in the second report: {', '.join(changes.only_after)}"] * bool(changes.only_after)
    lines.append(
        f"difference: second minus first, paired over the n queries that both have; {CONFIDENCE:.0%} percentile "
        f"bootstrap interval, {changes.resamples} resamples, seed {changes.seed}, not corrected for their number; "
        "▲ ▼ where it excludes 0; +/−: queries that became better and worse"
    )
    return lines


def to_markdown(changes: Changes) -> str:
    """Return the comparison as a Markdown table with its sentences."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(changes)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences(changes))]) + "\n"


def _row(change: Change) -> tuple[str, ...]:
    found = change.difference
    return (
        change.run,
        change.measure,
        f"{change.before:.3f}",
        f"{change.after:.3f}",
        f"{found.mean:+.3f}",
        f"[{found.low:+.3f}, {found.high:+.3f}]",
        str(found.num_queries),
        f"{change.wins}/{change.losses}",
        _SIGNS[change.verdict],
    )


def _fact(fact: Fact) -> str:
    return f"{fact.what}: {_short(fact.before)} → {_short(fact.after)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
