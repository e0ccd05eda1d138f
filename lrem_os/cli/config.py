"""``lrem-os init`` and ``lrem-os config``: write, show and check the configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from lrem_os.cli.options import config_options, json_option, print_json


@click.command()
@click.argument("file", type=click.Path(), default="lrem-os.yaml")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def init(file: str, force: bool) -> None:
    """Write a commented configuration FILE that holds every key at its default.

    \b
    lrem-os init                       writes lrem-os.yaml, which the other commands read from here
    lrem-os init staging.yaml          another name; give it to the commands with -c
    """
    from lrem_os.config_template import write_template

    write_template(Path(file), force=force)
    click.echo(f"wrote {file}")


@click.group()
def config() -> None:
    """Show or check the configuration.

    \b
    lrem-os config show                every value and where it comes from
    lrem-os config check -c my.yaml    is every key known and every value usable?
    """


@config.command()
@config_options
@json_option
def show(config_path: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Print every value and where it comes from; secrets are masked.

    \b
    lrem-os config show
    lrem-os config show --set search.mode=bm25 --json
    """
    from lrem_os.config import load_settings

    loaded = load_settings(config_path, overrides)
    values = loaded.shown()
    if as_json:
        keys = {key: {"value": value, "source": loaded.sources[key]} for key, value in values.items()}
        print_json({"file": loaded.path, "hash": loaded.settings_hash, "keys": keys})
        return
    width = max(map(len, values))
    for key, value in values.items():
        click.echo(f"{key:<{width}}  {json.dumps(value, ensure_ascii=False)}  ({loaded.sources[key]})")


@config.command()
@config_options
@json_option
def check(config_path: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Say whether every key is known and every value usable; exit code 2 if not.

    \b
    lrem-os config check
    lrem-os config check -c staging.yaml
    """
    from lrem_os.config import load_settings

    loaded = load_settings(config_path, overrides)
    changed = [key for key, source in loaded.sources.items() if source != "default"]
    if as_json:
        print_json({"file": loaded.path, "hash": loaded.settings_hash, "set": changed})
    else:
        click.echo(f"{loaded.path or 'no file'}: {len(changed)} of {len(loaded.sources)} keys set, all usable")
