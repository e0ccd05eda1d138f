"""``lrem-os precompute``: queries in, a file of their vectors and keywords out."""

from __future__ import annotations

from pathlib import Path

import click

from lrem_os.cli.options import config_options, json_option, print_json


@click.command()
@click.argument("queries", metavar="QUERIES.jsonl", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE.jsonl",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What is written; what is there already is kept.",
)
@json_option
@config_options
def precompute(queries: Path, out: Path, as_json: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Reason about head queries ahead of time, for route.precomputed: they then ask no model.

    QUERIES has one JSON object a line, with `query`. A line of FILE is good for the models that made it and no others.
    A run that was killed goes on where it was.

    \b
    lrem-os precompute head.jsonl --out precomputed.jsonl
    lrem-os serve --set route.precomputed=precomputed.jsonl
    """
    from lrem_os import routing
    from lrem_os.cli.train_progress import count_progress
    from lrem_os.config import load_settings

    settings = load_settings(config_path, overrides).settings
    with count_progress("precompute") as on_progress:
        counts = routing.precompute(settings, queries, out, on_progress=on_progress)
    if as_json:
        print_json({**counts, "out": out})
    else:
        click.echo(f"{counts['written']:,} written, {counts['kept']:,} were there already: {out}")
