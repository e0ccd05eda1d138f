"""``lrem-os index``: the versions behind the alias."""

from __future__ import annotations

import click

from lrem_os.cli.options import config_options, json_option, print_json


@click.group()
def index() -> None:
    """List, restore and drop the versions of an index.

    \b
    lrem-os index list
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
        marks = ", ".join(mark for mark in ("live", "building", "loading") if row[mark])
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
