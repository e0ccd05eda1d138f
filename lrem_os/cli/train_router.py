"""``lrem-os train router``: labelled queries in, a gate out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("queries", metavar="[QUERIES.jsonl]", required=False, type=_FILE)
@click.option("-o", "--out", required=True, metavar="GATE.json", type=_FILE, help="The gate, for route.gate.")
@click.option(
    "--labels",
    metavar="FILE.jsonl",
    type=_FILE,
    help="Measured labels; kept and added to  [default: GATE.labels.jsonl].",
)
@click.option("--gains", metavar="FILE.jsonl", type=_FILE, help="Lines with query and gain, in place of measuring.")
@click.option("--catalog", multiple=True, metavar="FILE", help="Let the gate know this catalog's words; repeatable.")
@click.option("--min-gain", type=float, default=0.01, show_default=True, help="Reasoning helps from more than this on.")
@click.option(
    "--hard-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of hard queries in your log, which probabilities are calibrated for.",
)
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Of the cross-validation.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds and clusters.")
@json_option
@config_options
def router(
    queries: Path | None,
    out: Path,
    labels: Path | None,
    gains: Path | None,
    catalog: tuple[str, ...],
    min_gain: float,
    hard_share: float,
    folds: int,
    seed: int,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Learn which queries gain from reasoning on your index: a gate for route.gate, as readable JSON.

    Every query of QUERIES that has `positives` is answered with and without reasoning, and probed; what the measure
    changed is its label. Labels are kept in a file: a run that was killed goes on, and without QUERIES a gate is fitted
    to what is there. Use queries that the models were not trained on, easy ones among them; a few hundred will do.

    \b
    lrem-os train router queries.jsonl --out gate.json
    lrem-os train router --labels gate.labels.jsonl --out other.json --catalog catalog.jsonl
    lrem-os route "la mer dupe" --set route.gate=gate.json
    """
    from lrem_os import routing
    from lrem_os.cli.train_progress import count_progress
    from lrem_os.config import load_settings
    from lrem_os.extras import require

    require("sklearn", extra="train")
    from lrem_os.train.router import GateOptions

    labels = labels or out.with_suffix(".labels.jsonl")
    if queries is None and not labels.exists():
        raise click.UsageError(f"give QUERIES, or labels that are there: {labels} is not")
    options = GateOptions(min_gain, hard_share, folds, seed)
    plan = routing.RouterPlan(out, queries, labels, gains, catalog, options=options)
    with count_progress("labels") as on_progress:
        card = routing.train_router(load_settings(config_path, overrides).settings, plan, on_progress=on_progress)
    if as_json:
        print_json({"out": out, "labels": labels, **card})
    else:
        click.echo("\n".join([*card_lines(card), f"written: {out}"]))


def card_lines(card: Mapping[str, Any]) -> list[str]:
    """Return how good each stage was on queries held out from it."""
    return [
        f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in held_out.items())
        for name, held_out in card["held_out"].items()
    ]
