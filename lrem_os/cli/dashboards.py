"""``lrem-os dashboards``: options in, what was done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.config import Settings
    from lrem_os.dashboards.install import Outcome

_FILE = "lrem-os-dashboards.ndjson"


def _server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add where Dashboards is, and as whom it is asked."""
    for option in (
        click.option("--workspace", metavar="ID", help="Workspace, where they are on [default: dashboards.workspace]."),
        click.option(
            "--tenant", metavar="NAME", help="Tenant: global, private or a name [default: dashboards.tenant]."
        ),
        click.option("--dashboards-url", "url", metavar="URL", help="Address [default: dashboards.url]."),
    ):
        command = option(command)
    return command


def _out_option(text: str) -> Callable[..., Any]:
    path = click.Path(dir_okay=False, path_type=Path)
    return click.option("-o", "--out", type=path, default=_FILE, show_default=True, metavar="FILE", help=text)


def _install_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what install and update share."""
    for option in (
        json_option,
        _out_option("With --dry-run: the file to write."),
        click.option("--dry-run", is_flag=True, help="Ask nobody: write the .ndjson that would be imported."),
        click.option("--no-templates", is_flag=True, help="Leave the cluster's index templates alone."),
        click.option(
            "--gpu-hour-price", metavar="PRICE", help="Show costs at this price of an hour of the reasoner's machine."
        ),
        click.option(
            "--retention", metavar="AGE", help="Delete behaviour records after AGE, such as 30d (needs the ISM plugin)."
        ),
        _server_options,
        config_options,
    ):
        command = option(command)
    return command


@click.group()
def dashboards() -> None:
    """Four dashboards in OpenSearch Dashboards: traffic, quality, queries, ingest.

    \b
    lrem-os dashboards install --dashboards-url http://127.0.0.1:5601
    lrem-os dashboards install --dry-run          only write lrem-os-dashboards.ndjson
    lrem-os dashboards remove
    """


@dashboards.command()
@_install_options
def install(**options: Any) -> None:
    """Install the dashboards, and the index templates of what they show.

    What is there already is left alone, with the changes that somebody made to it; `lrem-os dashboards update` makes it
    as this version has it. The templates of behaviour records, evaluations and ingests go into the cluster
    (search.hosts); from then on `lrem-os ingest` writes its account to the index lrem-os-ingest.

    \b
    lrem-os dashboards install
    lrem-os dashboards install --dashboards-url https://dash.example.org --tenant global --retention 30d
    lrem-os dashboards install --dry-run -o lrem-os.ndjson
    """
    _install(options, overwrite=False)


@dashboards.command()
@_install_options
def update(**options: Any) -> None:
    """Make the dashboards as this version has them.

    Overwrites what was changed, adds what is missing, and deletes panels that an earlier version had. To keep a change
    of your own, save the panel or dashboard under another name first.

    \b
    lrem-os dashboards update
    lrem-os dashboards update --gpu-hour-price 1.20 --set eval.currency=EUR
    """
    _install(options, overwrite=True)


@dashboards.command()
@click.option("--keep-templates", is_flag=True, help="Leave the cluster's index templates and retention alone.")
@json_option
@_server_options
@config_options
def remove(keep_templates: bool, as_json: bool, **options: Any) -> None:
    """Remove the dashboards and the index templates; indices and what is in them stay.

    \b
    lrem-os dashboards remove
    lrem-os dashboards remove --tenant global --keep-templates
    """
    from lrem_os.dashboards import install as library

    _print(library.remove(_settings(options), with_templates=not keep_templates), as_json)


@dashboards.command()
@_out_option("The file to write.")
@json_option
@_server_options
@config_options
def export(out: Path, as_json: bool, **options: Any) -> None:
    """Write what Dashboards has of ours, with the changes that somebody made, as a file for its import.

    \b
    lrem-os dashboards export -o backup.ndjson
    """
    from lrem_os.dashboards import install as library

    written = library.export(_settings(options), out)
    if as_json:
        print_json({"file": str(out), "objects": written})
    else:
        click.echo(f"{out}: {written} objects")


def _install(options: dict[str, Any], *, overwrite: bool) -> None:
    from lrem_os.dashboards import install as library

    as_json, dry_run, out = options.pop("as_json"), options.pop("dry_run"), options.pop("out")
    with_templates = not options.pop("no_templates")
    settings = _settings(options)
    if not dry_run:
        _print(library.install(settings, overwrite=overwrite, with_templates=with_templates), as_json)
        return
    objects = library.write_file(settings, out)
    templates = library.templates_of(settings) if with_templates else {}
    if as_json:
        named = [{"type": one.kind, "id": one.object_id, "title": one.title} for one in objects]
        print_json({"dry_run": True, "file": str(out), "objects": named, "templates": templates})
        return
    click.echo(f"{out}: {len(objects)} objects that would be imported")
    for one in objects:
        if one.kind == "dashboard":
            click.echo(f"  {one.title}")
    for name in templates:
        click.echo(f"index template that would be put: {name}")
    click.echo("nothing was sent (--dry-run)")


def _settings(options: dict[str, Any]) -> Settings:
    import logging

    from lrem_os.config import load_settings

    logging.getLogger("opensearch").setLevel(logging.ERROR)  # what is not there is looked for, and no cause to warn
    keys = {"url": "dashboards.url", "tenant": "dashboards.tenant", "workspace": "dashboards.workspace"}
    keys |= {"retention": "dashboards.retention", "gpu_hour_price": "eval.gpu_hour_price"}
    given = [f"{key}={options[name]}" for name, key in keys.items() if options.get(name) is not None]
    return load_settings(options["config_path"], (*options["overrides"], *given)).settings


def _print(outcome: Outcome, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(outcome))
        return
    for what in ("created", "updated", "unchanged", "removed"):
        if named := getattr(outcome, what):
            click.echo(f"{what}: {len(named)} objects")
    if outcome.different:
        click.echo(f"left alone: {len(outcome.different)} objects that are there and differ from this version's:")
        for name in outcome.different:
            click.echo(f"  {name}")
        click.echo("  → lrem-os dashboards update overwrites them")
    for name in outcome.templates:
        click.echo(f"index template: {name}")
    for text in outcome.notes:
        click.echo(f"note: {text}")
    if not any((outcome.created, outcome.updated, outcome.unchanged, outcome.different, outcome.removed)):
        click.echo("nothing of ours was there")
