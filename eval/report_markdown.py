"""A report as Markdown for a pull request: the differences first, the slices folded, the run card last. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lrem_os.eval.html.figures import milliseconds, number, percent, signed, span, stars

_MARKS = re.compile(r"([\\`*_{}\[\]|~#])")


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return the Markdown of a report, see ``lrem_os.eval.report.to_dict``."""
    card = report["card"]
    compared = f", compared with {_plain(card['baseline'])}" if card["baseline"] else ""
    parts = [
        f"### Evaluation on {card['num_evaluated']} queries{compared}",
        _table(*_summary(report)),
        _legend(card),
        *_slices(report),
        _folded("Run card", _bullets(_card(card))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    card = report["card"]
    timed = any(run.get("cost") for run in report["runs"].values())
    head = ["run", *card["measures"], *(["p95", "reasoned"] if timed else [])]
    rows = []
    for name, run in report["runs"].items():
        row = [f"**{_plain(name)}**" + (" (baseline)" if name == card["baseline"] else "")]
        row += [_cell(run, measure) for measure in card["measures"]]
        if timed:
            cost = run.get("cost") or {}
            row += [milliseconds((cost.get("latency_ms") or {}).get("p95")), percent(cost.get("reasoned_share"))]
        rows.append(row)
    return head, rows


def _cell(run: Mapping[str, Any], measure: str) -> str:
    """Return the mean; of a run that is compared its difference and stars, else its interval."""
    estimate, difference = run["overall"].get(measure) or {}, run["difference"].get(measure)
    if not difference:
        return f"{number(estimate.get('mean'))} {span(estimate, 2)}".strip()
    mark = stars((run["comparison"].get(measure) or {}).get("p_adjusted"))
    return f"{number(estimate.get('mean'))} ({signed(difference['mean'])}{_plain(mark)})"


def _legend(card: Mapping[str, Any]) -> str:
    interval, test = card["interval"], card["test"]
    text = f"Mean over queries [{interval['confidence']:.0%} interval: {interval['method']}]"
    if card["baseline"]:
        text += (
            f"; in brackets the paired difference to {_plain(card['baseline'])}: \\* p < 0.05, \\*\\* p < 0.01, "
            f"\\*\\*\\* p < 0.001 ({test['method']} test, {test['correction'].capitalize()} correction)"
        )
    return f"<sub>{text}</sub>"


def _slices(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a folded table per dimension: the first measure, a part of the queries a row, a run a column."""
    measure, runs = report["card"]["measures"][0], report["runs"]
    for dimension in dict.fromkeys(name for run in runs.values() for name in run["slices"]):
        parts = dict.fromkeys(part for run in runs.values() for part in run["slices"].get(dimension, {}))
        rows = []
        for part in parts:
            found = [run["slices"].get(dimension, {}).get(part, {}).get(measure) or {} for run in runs.values()]
            size = max((estimate.get("num_queries", 0) for estimate in found), default=0)
            cells = [f"{number(estimate.get('mean'))} {span(estimate, 2)}".strip() for estimate in found]
            rows.append([_plain(part) or "none given", str(size), *cells])
        if rows:
            yield _folded(f"{measure} by {dimension}", _table([dimension, "n", *map(_plain, runs)], rows))


def _card(card: Mapping[str, Any]) -> Iterator[str]:
    for key in ("date", "version", "commit", "config_hash"):
        if card.get(key):
            yield f"{key.replace('_', ' ')}: `{card[key]}`"
    yield from (f"{_plain(what)}: `{checksum}`" for what, checksum in card["checksums"].items())
    yield from map(_plain, card["notes"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{_plain(title)}</summary>\n\n{text}\n\n</details>"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    r"""Return text from outside so that neither Markdown nor HTML reads anything into it.

    >>> _plain("a|b <i>")
    'a\\|b &lt;i&gt;'
    """
    return _MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
