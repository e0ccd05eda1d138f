"""``lrem-os connect``: options in, what was done, what would be sent, or what works out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.config import Settings
    from lrem_os.connecting import Outcome

_COLOURS = {"ok": "green", "fail": "red"}


@click.command()
@click.option(
    "--url", default=None, metavar="URL", help="Where the cluster reaches the service [default: connect.url]."
)
@click.option(
    "--ingest-field", default=None, metavar="FIELD", help="Make an ingest pipeline too; it embeds this field."
)
@click.option("--default", "is_default", is_flag=True, help="Make the search pipeline the default of index.name.")
@click.option("--allow", is_flag=True, help="Set the cluster settings that ML Commons needs; --remove undoes it.")
@click.option("--check", "is_check", is_flag=True, help="Change nothing: try out what is registered, with real texts.")
@click.option("--remove", "is_remove", is_flag=True, help="Remove all of it.")
@click.option("--dry-run", is_flag=True, help="Change nothing: show every request that would be sent.")
@json_option
@config_options
@click.pass_context
def connect(
    context: click.Context,
    url: str | None,
    ingest_field: str | None,
    is_default: bool,
    allow: bool,
    is_check: bool,
    is_remove: bool,
    dry_run: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Let OpenSearch itself ask the service for vectors, through ML Commons.

    Registers connector, model and search pipeline, so that `neural` queries sent straight to OpenSearch are routed and
    embedded by `lrem-os serve`. Run it again after a change of address, key or model: what differs is brought up to
    date, and nothing else is touched.

    \b
    lrem-os connect                                  the local node (up --with ml) and the service beside it
    lrem-os connect --url https://lrem.example.org --allow --dry-run
    lrem-os connect --default --ingest-field title
    lrem-os connect --check
    lrem-os connect --remove

    Exit code of --check: 1 if something does not work.
    """
    from lrem_os import connecting
    from lrem_os.config import load_settings

    if is_check + is_remove > 1 or (is_check and dry_run):
        raise click.UsageError("--check goes neither with --remove nor with --dry-run")
    if (is_check or is_remove) and (allow or is_default or ingest_field):
        raise click.UsageError("--allow, --default and --ingest-field go neither with --check nor with --remove")
    given = {"url": url, "ingest_field": ingest_field, "default": "true" if is_default else None}
    overrides = (*overrides, *(f"connect.{key}={value}" for key, value in given.items() if value is not None))
    settings = load_settings(config_path, overrides).settings
    if is_check:
        context.exit(0 if _check(settings, as_json) else 1)
    if is_remove:
        outcome = connecting.disconnect_service(settings, dry_run=dry_run)
    else:
        outcome = connecting.connect_service(settings, allow=allow, dry_run=dry_run)
    _print(outcome, dry_run=dry_run, as_json=as_json)
    if not (as_json or dry_run or is_remove):
        name = settings.connect.name
        how = "" if settings.connect.default else f", with ?search_pipeline={name}"
        click.echo(
            f"neural queries on {settings.index.vector_field} are answered now{how}; try: lrem-os connect --check"
        )


def _check(settings: Settings, as_json: bool) -> bool:
    """Print what was found; return whether all of it works."""
    from dataclasses import asdict

    from lrem_os.connecting import check_service

    findings = []
    for finding in check_service(settings):
        findings.append(finding)
        if not as_json:
            status = click.style(f"{finding.status:<4}", fg=_COLOURS[finding.status])
            click.echo(f"{status}  {finding.name:<10}  {finding.message}")
            if finding.hint:
                click.echo(f"{'':18}→ {finding.hint}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return all(finding.status == "ok" for finding in findings)


def _print(outcome: Outcome, *, dry_run: bool, as_json: bool) -> None:
    from dataclasses import asdict

    changes = [asdict(change) for change in outcome.changes]
    if as_json:
        steps: list[dict[str, Any]] = [asdict(step) for step in outcome.steps]
        print_json({"dry_run": dry_run, "changed": bool(changes), "steps": steps, "requests": changes})
        return
    if dry_run:
        for change in outcome.changes:
            click.echo(f"{change.method} {change.path}")
            if change.body is not None:
                click.echo(json.dumps(change.body, indent=2, ensure_ascii=False))
        if not changes:
            click.echo("nothing would be sent", err=True)
        return
    for step in outcome.steps:
        click.echo(f"{step.action:<9}  {step.what} {step.name}{f' ({step.id})' if step.id else ''}")
    if not outcome.steps:
        click.echo("nothing is registered", err=True)
