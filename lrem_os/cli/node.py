"""``lrem-os node``: a local OpenSearch, without Docker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.config import NodeSettings
    from lrem_os.node.local import RunningNode

F = TypeVar("F", bound=Callable[..., Any])


def _name_option(command: F) -> F:
    return click.option("--name", default=None, help="Which node, if you have several [default: node.name].")(command)


def _node_settings(config_path: str | None, overrides: Sequence[str], **values: object) -> NodeSettings:
    """Load the configuration; an option that was given is one more override, so it is checked like any other."""
    from lrem_os.config import load_settings

    given = [f"node.{key}={value}" for key, value in values.items() if value is not None]
    return load_settings(config_path, [*overrides, *given]).settings.node


@click.group()
def node() -> None:
    """Run a local OpenSearch with k-NN and neural-search, or an Elasticsearch, without Docker.

    It comes from Maven Central, needs Java 21 or newer, listens on this machine only, and keeps its data between
    starts. Everything lies in the user's cache folder (root: /var/cache/lrem-os); LREM_OS_HOME moves it.

    \b
    lrem-os node up                          fetch, start, wait until it answers
    lrem-os node up --name two --port 9400   another one beside it
    lrem-os node up --name trio --nodes 3    three that make one cluster
    lrem-os node up --engine elasticsearch   Elasticsearch in its place
    lrem-os node down                        stop it; the data stays
    """


@node.command()
@_name_option
@click.option("--port", type=int, default=None, help="HTTP port [default: node.port; else 9200, or a free one].")
@click.option("--nodes", type=int, default=None, help="How many make one cluster [default: as at its last start; 1].")
@click.option(
    "--engine",
    type=click.Choice(["opensearch", "elasticsearch"]),
    default=None,
    help="What it runs [default: node.engine; else search.engine].",
)
@click.option("--heap-mb", type=int, default=None, help="Java heap of each, MiB [default: node.heap_mb].")
@click.option("--with", "extras", type=click.Choice(["ml"]), multiple=True, help="ml: add ML Commons (390 MB more).")
@click.option("--fetch-java", is_flag=True, help="Fetch a Java when none is found.")
@config_options
@json_option
def up(
    name: str | None,
    port: int | None,
    nodes: int | None,
    engine: str | None,
    heap_mb: int | None,
    extras: tuple[str, ...],
    fetch_java: bool,
    config_path: str | None,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Start the node and wait until it answers; one that runs already is left alone.

    With --nodes 3, NAME, NAME-2 and NAME-3 make one cluster; up, down, status, restart and reset then mean all of them,
    and `up` starts those that are gone. A node that was alone keeps its data and becomes the first.

    \b
    lrem-os node up
    lrem-os node up --with ml --heap-mb 2048
    lrem-os node up --name trio --nodes 3 --heap-mb 512
    lrem-os node up --engine elasticsearch --name elastic
    """
    from lrem_os.cli.node_progress import node_progress
    from lrem_os.node.cluster import start_nodes

    given = {"name": name, "port": port, "nodes": nodes, "engine": engine, "heap_mb": heap_mb}
    settings = _node_settings(config_path, overrides, **given)
    with node_progress() as on_progress:
        found = start_nodes(settings, with_ml="ml" in extras, fetch_java=fetch_java, on_progress=on_progress)
    _show_running(found, as_json)


def _show_running(found: Sequence[RunningNode], as_json: bool) -> None:
    if as_json:
        rest = {"nodes": [asdict(one) for one in found]} if len(found) > 1 else {}
        print_json(asdict(found[0]) | rest)
        return
    from lrem_os.node.program import program_of

    for one in found:
        title = program_of(one.engine).title
        click.echo(f"{title} {one.version} runs at {one.url} (node {one.name}, process {one.pid})")


@node.command()
@_name_option
@click.option("--only", is_flag=True, help="Of a cluster, the named node alone.")
@config_options
@json_option
def down(name: str | None, only: bool, config_path: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Stop the node, or all nodes of the cluster; the data stays.

    \b
    lrem-os node down
    lrem-os node down --name two
    lrem-os node down --name trio --only    the first of the cluster; the others go on
    """
    from lrem_os.node.cluster import stop_nodes

    settings = _node_settings(config_path, overrides, name=name)
    stopped = stop_nodes(settings, only=only)
    if as_json:
        print_json({"name": settings.name, "stopped": bool(stopped), "nodes": stopped})
    else:
        for one in stopped or (settings.name,):
            click.echo(f"node {one} {'stopped' if stopped else 'was not running'}")


@node.command()
@_name_option
@config_options
@json_option
def restart(name: str | None, config_path: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Restart the node; of a cluster, one node after the other, so that it goes on answering.

    The next one goes when every shard has all its copies again; indices need a replica (index.replicas) for that.

    \b
    lrem-os node restart --name trio
    """
    from lrem_os.cli.node_progress import node_progress
    from lrem_os.node.cluster import restart_nodes

    with node_progress() as on_progress:
        found = restart_nodes(_node_settings(config_path, overrides, name=name), on_progress=on_progress)
    _show_running(found, as_json)


@node.command()
@_name_option
@config_options
@json_option
def status(name: str | None, config_path: str | None, overrides: Sequence[str], as_json: bool) -> int:
    """Say whether the node runs, and where; exit code 1 if it does not.

    \b
    lrem-os node status
    lrem-os node status --json
    """
    from lrem_os.node.cluster import find_nodes
    from lrem_os.node.local import node_health

    settings = _node_settings(config_path, overrides, name=name)
    found = find_nodes(settings)
    if not found:
        if as_json:
            print_json({"name": settings.name, "running": False})
        else:
            click.echo(f"node {settings.name} does not run (start it: lrem-os node up)")
        return 1
    each = [{"running": True, "health": node_health(one), **asdict(one)} for one in found]
    if as_json:
        print_json(each[0] | ({"nodes": each} if len(each) > 1 else {}))
        return 0
    for values in each:
        for key, value in values.items():
            shown = ", ".join(value) or "none" if isinstance(value, tuple) else value
            if shown != "":
                click.echo(f"{key.replace('_', ' '):<10} {shown}")
    return 0


@node.command()
@_name_option
@click.option("--lines", type=click.IntRange(min=0), default=50, show_default=True, help="Last lines to print.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes; Ctrl-C ends it.")
@config_options
def logs(name: str | None, lines: int, follow: bool, config_path: str | None, overrides: Sequence[str]) -> int:
    """Print what the node said since its last start.

    \b
    lrem-os node logs --lines 200
    lrem-os node logs -f
    """
    from lrem_os.node.local import log_file

    path = log_file(_node_settings(config_path, overrides, name=name))
    return subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)], check=False).returncode


@node.command()
@_name_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_options
@json_option
def reset(name: str | None, yes: bool, config_path: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Stop the node and delete its data: every index it holds.

    \b
    lrem-os node reset
    lrem-os node reset --name two --yes
    """
    from lrem_os.node.cluster import reset_nodes

    settings = _node_settings(config_path, overrides, name=name)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this deletes every index of the node: say --yes")
        click.confirm(f"Delete every index of node {settings.name}?", abort=True)
    deleted = bool(reset_nodes(settings))
    if as_json:
        print_json({"name": settings.name, "deleted": deleted})
    else:
        click.echo(f"node {settings.name}: {'data deleted' if deleted else 'there was nothing to delete'}")
