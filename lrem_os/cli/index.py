"""``lrem-os index``: the versions behind the alias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrem_os.cli.options import config_options, json_option, print_json, split_list


@click.group()
def index() -> None:
    """List, switch, restore and drop the versions of an index.

    \b
    lrem-os index list
    lrem-os index switch
    lrem-os index drop products-v1
    """


@index.command(name="list")
@json_option
@config_options
def list_(as_json: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """List all versions: documents, model, whether the alias points to it.

    \b
    lrem-os index list --json
    """
    from lrem_os import api
    from lrem_os.config import load_settings

    rows = api.list_indices(load_settings(config_path, overrides).settings)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        marks = ", ".join(mark for mark in ("live", "building", "built", "loading") if row[mark])
        click.echo(f"{row['index']}\t{row['documents']:,} documents\t{row['model']}\t{row['fingerprint']}\t{marks}")
    if not rows:
        click.echo("no index yet: `lrem-os ingest catalog.jsonl` makes one", err=True)


@index.command()
@click.argument("name")
@config_options
def drop(name: str, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Delete one version that no alias points to.

    \b
    lrem-os index drop products-v1
    """
    from lrem_os import api
    from lrem_os.config import load_settings

    api.drop_index(load_settings(config_path, overrides).settings, name)
    click.echo(f"dropped {name}")


@index.command()
@config_options
def restore(config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Restore refresh and replicas after a load that was killed.

    The next ingest does the same.

    \b
    lrem-os index restore
    """
    from lrem_os import api
    from lrem_os.config import load_settings

    for name in api.restore_indices(load_settings(config_path, overrides).settings):
        click.echo(f"restored {name}")


@index.command()
@click.argument("version", required=False)
@click.option("--back", is_flag=True, help="Back to the version that the live one replaced.")
@click.option(
    "--queries", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Ask both versions these first."
)
@click.option("--qrels", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Their judgments.")
@click.option("--measures", default="ndcg@10", show_default=True, metavar="NAME@K,…", help="What is measured.")
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="The new version may lose no more: the lower end of the 95 % interval of the difference decides.",
)
@click.option(
    "--run",
    type=click.Choice(["direct", "reasoned", "routed"]),
    default="direct",
    show_default=True,
    help="How the queries are answered.",
)
@click.option(
    "--max-missing",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of the live version's documents that may be missing.",
)
@click.option("--force", is_flag=True, help="Switch whatever was found.")
@click.option("--dry-run", is_flag=True, help="Check and measure only.")
@json_option
@config_options
def switch(
    version: str | None,
    queries: Path | None,
    qrels: Path | None,
    measures: str,
    max_loss: float,
    run: Any,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Point the alias to another version, if that one is fit.

    VERSION is the newest one unless named: `lrem-os ingest FILES --recreate --no-publish` builds it. Its build must
    have ended, its model must be the configured one or among serve.models, and its documents must be there. With
    judged queries both versions are measured first, each with its own model. The old version stays, for --back, until
    `lrem-os index drop`.

    \b
    lrem-os index switch --dry-run
    lrem-os index switch products-v2 --queries queries.jsonl --qrels qrels.tsv --max-loss 0.01
    lrem-os index switch --back

    Exit code 9: it is not fit, and the alias was left where it is.
    """
    from dataclasses import asdict

    from lrem_os.cli.eval_progress import eval_progress
    from lrem_os.config import load_settings
    from lrem_os.switching import Gate, require_fit
    from lrem_os.switching import switch as move

    if (queries is None) != (qrels is None):
        raise click.UsageError("--queries and --qrels go together")
    gate = None
    if queries is not None and qrels is not None:
        gate = Gate(queries, qrels, tuple(split_list(measures)), max_loss, run)
    settings = load_settings(config_path, overrides).settings
    with eval_progress() as on_progress:
        report = move(settings, version, gate=gate, on_progress=on_progress, **options)
    if as_json:
        print_json({**asdict(report), "is_fit": report.is_fit})
    else:
        for finding in report.findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.message}")
        if report.switched:
            click.echo(f"{report.alias} leads to {report.after}; back: lrem-os index switch --back")
        elif report.is_fit:
            click.echo(f"{report.alias} still leads to {report.before}; {report.after} is fit")
    if not options["dry_run"] or not report.is_fit:
        require_fit(report)
