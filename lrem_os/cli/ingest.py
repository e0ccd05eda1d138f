"""``lrem-os ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.ingest.report import IngestReport


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--recreate", is_flag=True, help="Build a new version of the index, then switch the alias to it.")
@click.option("--no-publish", is_flag=True, help="With --recreate: build only; `lrem-os index switch` comes later.")
@click.option("--sync", is_flag=True, help="Afterwards delete products that the input does not have.")
@click.option("--dry-run", is_flag=True, help="Check the input only: no model, no cluster.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv", "tsv", "parquet"]),
    help="Kind of file, where the name does not tell (standard input: jsonl).",
)
@click.option(
    "--dead-letters",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where rows go that cannot be indexed [default: INDEX-TIME.dead.jsonl here].",
)
@click.option("-i", "--index", "index_name", metavar="NAME", help="Index to write, instead of index.name.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), help="Instead of ingest.engine: this process, or a Ray cluster."
)
@json_option
@config_options
def ingest(
    files: tuple[str, ...],
    recreate: bool,
    no_publish: bool,
    sync: bool,
    dry_run: bool,
    file_format: str | None,
    dead_letters: Path | None,
    index_name: str | None,
    engine: str | None,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write a catalog with vectors into OpenSearch.

    FILES are .jsonl, .csv, .tsv (each also .gz) or .parquet files, globs, or - for standard input. Every row ends as
    indexed, unchanged, superseded by a later row with its id, or in the dead-letter file with the reason. Run it again
    after an interruption: what is there already is not embedded again.

    \b
    lrem-os ingest catalog.jsonl
    lrem-os ingest 'parts/*.jsonl.gz' --sync
    zcat catalog.jsonl.gz | lrem-os ingest - --set index.name=shop
    lrem-os ingest 'parts/*.parquet' --engine ray --set ray.address=auto
    lrem-os ingest catalog.jsonl --recreate     after a change of model or mapping
    lrem-os ingest catalog.jsonl --recreate --no-publish

    Exit code 7: some rows failed, the others are indexed.
    """
    from lrem_os import api
    from lrem_os.cli.progress import ingest_progress
    from lrem_os.config import load_settings
    from lrem_os.errors import IngestIncomplete
    from lrem_os.ingest.run import IngestOptions

    if no_publish and not recreate:
        raise click.UsageError("--no-publish goes with --recreate: without it there is nothing to switch to")
    if index_name:
        overrides = (*overrides, f"index.name={index_name}")
    if engine:
        overrides = (*overrides, f"ingest.engine={engine}")
    settings = load_settings(config_path, overrides).settings
    options = IngestOptions(recreate, sync, dry_run, file_format, dead_letters, no_publish)
    with ingest_progress() as on_progress:
        report = api.ingest_catalog(settings, files, options, on_progress=on_progress)
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(report), "adds_up": report.adds_up})
    else:
        print_report(report, no_publish=no_publish)
    if report.failed:
        raise IngestIncomplete(
            f"{report.failed} of {report.read} rows could not be indexed",
            hint=f"mend them in {report.dead_letters} and ingest that file's rows again",
        )


def print_report(report: IngestReport, *, no_publish: bool = False) -> None:
    """Print the account of an ingest."""
    verb = "would be indexed" if report.dry_run else "indexed"
    click.echo(
        f"read {report.read:,} = {verb} {report.indexed:,} + unchanged {report.unchanged:,} + "
        f"superseded {report.superseded:,} + failed {report.failed:,}"
        f"{'' if report.adds_up else '  (THIS DOES NOT ADD UP: please report it)'}"
    )
    if not report.dry_run:
        click.echo(f"{report.seconds:.1f} s, {report.docs_per_s:,.0f} rows/s; model {report.embed_s:.1f} s of it")
    for code, count in sorted(report.failures.items()):
        click.echo(f"  {code}: {count:,}")
    if report.deleted:
        click.echo(f"deleted {report.deleted:,} products that the input does not have")
    for note in report.notes[:10]:
        click.echo(f"  note: {note.path}:{note.line} {note.doc_id}: {note.message}")
    if report.num_notes > 10:
        click.echo(f"  … and {report.num_notes - 10:,} more notes (--json shows a hundred)")
    if report.dead_letters:
        click.echo(f"dead letters: {report.dead_letters}")
    if report.previous:
        click.echo(f"alias {report.alias} now points to {report.index}; the old one is kept until you drop it:")
        click.echo(f"  lrem-os index drop {report.previous}")
    elif not report.published and no_publish and not report.dry_run:
        click.echo(f"{report.index} is built; alias {report.alias} still points to the version before:")
        click.echo(f"  lrem-os index switch {report.index}")
    elif not report.published and not report.dry_run:
        click.echo(
            f"alias {report.alias} was NOT switched to {report.index}: more rows failed than "
            "ingest.max_failed_share allows"
        )
