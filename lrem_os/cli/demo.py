"""``lrem-os demo``."""

from __future__ import annotations

import sys

import click

from lrem_os.cli.options import config_options


@click.command()
@click.option("--stop-node", is_flag=True, help="Stop the node at the end if the demo started it.")
@click.option("--fetch-java", is_flag=True, help="Fetch a Java when none is found.")
@config_options
def demo(stop_node: bool, fetch_java: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Node, catalog, search and evaluation in one go, on a sample catalog.

    Starts the local node unless one runs or search.hosts names a cluster, ingests 400 products into the index
    lrem-os-demo, searches them, and measures bm25, vector and hybrid on 60 judged queries of five types. Prints the
    command behind every step.

    \b
    lrem-os demo
    lrem-os demo --stop-node
    """
    from lrem_os.cli.evaluate import print_result
    from lrem_os.cli.ingest import print_report
    from lrem_os.cli.node_progress import node_progress
    from lrem_os.cli.search import print_ranking
    from lrem_os.config import load_settings
    from lrem_os.demo.tour import Narrator, run_tour
    from lrem_os.node.local import stop_node as end_node

    settings = load_settings(config_path, overrides).settings
    with node_progress() as on_progress:
        narrator = Narrator(
            step=_announce,
            searched=lambda ranking: print_ranking(ranking, settings.catalog),
            ingested=print_report,
            evaluated=lambda result: print_result(result, ["type"]),
            node_progress=on_progress,
        )
        started = run_tour(settings, narrator, fetch_java=fetch_java)
    if started is None:
        return
    if stop_node:
        end_node(settings.node)
        click.echo(f"\nnode {started.name} stopped; its data stays")
    else:
        click.echo(f"\nthe node goes on at {started.url}; stop it with: lrem-os node down")
    click.echo("next: lrem-os init, then lrem-os ingest your-catalog.jsonl")


def _announce(command: str, why: str) -> None:
    click.echo(f"\n# {why}\n$ {command}")
    sys.stdout.flush()
