"""The ``robustness`` of a report as tables and Markdown. Reads the report's own value, so that it can be read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Robustness = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its title, its columns, its rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(found: Robustness) -> list[Table]:
    """Return the tables: drop rates, changes of route, attacks."""
    made = [_drops(found)] if found.get("families") else []
    if any(found.get("routes", {}).values()):
        made.append(_routes(found))
    if found.get("poisoning"):
        made += _attacks(found["poisoning"])
    return made


def notes(found: Robustness) -> list[str]:
    """Return what a reader of the tables must know."""
    lines = []
    if found.get("families"):
        seeds = ", ".join(map(str, found["seeds"]))
        lines += [
            f"drop = (clean - perturbed) / clean of {found['measure']}, mean ± standard deviation over seeds {seeds};"
            f" [95 % bootstrap interval over {found['num_queries']} queries]",
            *(
                f"{family}: {share:.0%} of the queries were changed ({_ways(found['ways'][family])}); the others count"
                " as they are"
                for family, share in found["changed"].items()
            ),
        ]
    return [*lines, *found.get("notes", ())]


def to_markdown(found: Robustness) -> str:
    """Return tables, notes and the worst losses as Markdown."""
    lines = []
    for table in tables(found):
        lines += [f"### {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
        lines += [*map(_row, table.rows), ""]
    lines += [f"- {note}" for note in notes(found)]
    worst = [
        (family, run, row)
        for family, runs in found.get("worst", {}).items()
        for run, rows in runs.items()
        for row in rows
    ]
    if worst:
        lines += ["", "### Greatest losses", "", _row(("family", "run", "query", "asked as", "clean", "perturbed"))]
        lines += [_row(["---"] * 6), *(_row(_worst_row(*one)) for one in worst)]
    return "\n".join(lines) + "\n"


def _drops(found: Robustness) -> Table:
    families: Mapping[str, Mapping[str, Mapping[str, float | None]]] = found["families"]
    runs = list(dict.fromkeys(run for of in families.values() for run in of))
    clean = {run: drop["clean"] for of in families.values() for run, drop in of.items()}
    rows = [("clean", *(_number(clean[run]) for run in runs))]
    rows += [(family, *(_drop(of.get(run)) for run in runs)) for family, of in families.items()]
    return Table(f"What perturbed queries cost ({found['measure']})", ("family", *runs), tuple(rows))


def _routes(found: Robustness) -> Table:
    runs = list(dict.fromkeys(run for of in found["routes"].values() for run in of))
    rows = tuple((family, *(_percent(of.get(run)) for run in runs)) for family, of in found["routes"].items())
    return Table("Queries that took another route", ("family", *runs), rows)


def _attacks(poisoning: Mapping[str, Any]) -> list[Table]:
    parts = {"all": poisoning["attack_success"], **poisoning.get("by_kind", {})}
    runs = list(poisoning["attack_success"])
    cutoffs = list(dict.fromkeys(cutoff for shares in poisoning["attack_success"].values() for cutoff in shares))
    rows = tuple(
        (kind, cutoff, *(_percent(of.get(run, {}).get(cutoff)) for run in runs))
        for kind, of in parts.items()
        for cutoff in cutoffs
    )
    title = f"Queries with one of {poisoning['injected']} injected products in the top k"
    return [Table(title, ("injected", "k", *runs), rows)]


def _drop(drop: Mapping[str, float | None] | None) -> str:
    if drop is None or drop["drop_rate"] is None:
        return "–"
    spread = "" if drop["drop_std"] is None else f" ± {_points(drop['drop_std'])}"
    return f"{_points(drop['drop_rate'])}{spread} % [{_points(drop['low'])}, {_points(drop['high'])}]"


def _points(share: float | None) -> str:
    return "–" if share is None else f"{round(share * 100, 1) + 0.0:.1f}"  # + 0.0: no -0.0


def _worst_row(family: str, run: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    query, asked = (row[name] or row["query_id"] for name in ("query", "asked"))
    return family, run, query, asked, _number(row["clean"]), _number(row["perturbed"])


def _ways(ways: Mapping[str, int]) -> str:
    return ", ".join(f"{way} {count}" for way, count in ways.items()) or "no way fits"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
