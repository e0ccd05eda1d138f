"""The command line. A command's module is imported when the command runs, so ``--help`` stays fast."""

from __future__ import annotations

import click

from lrem_os import __version__
from lrem_os.cli.groups import LazyGroup

_COMMANDS = {  # see LazyGroup
    "init": ("lrem_os.cli.config:init", "Write a commented configuration file."),
    "config": ("lrem_os.cli.config:config", "Show or check the configuration."),
    "node": ("lrem_os.cli.node:node", "Run a local OpenSearch node, without Docker."),
    "model": ("lrem_os.cli.model:model", "Fetch and inspect models."),
    "ingest": ("lrem_os.cli.ingest:ingest", "Write a catalog with vectors into OpenSearch."),
    "index": ("lrem_os.cli.index:index", "List, switch, restore and drop indices."),
    "search": ("lrem_os.cli.search:search", "Search: text, vector or hybrid."),
    "reason": ("lrem_os.cli.reason:reason", "Show what the reasoner says about a query."),
    "route": ("lrem_os.cli.route:route", "Show whether a query would be reasoned about, and why."),
    "precompute": ("lrem_os.cli.precompute:precompute", "Reason about head queries ahead of time."),
    "serve": ("lrem_os.cli.serve:serve", "Answer neural queries in front of OpenSearch, over HTTP."),
    "connect": ("lrem_os.cli.connect:connect", "Let OpenSearch itself ask the service, through ML Commons."),
    "eval": ("lrem_os.cli.evaluate:evaluate", "Measure runs on judged queries; compare, gate, judge."),
    "train": ("lrem_os.cli.train:train", "Train a reasoner, an embedder and a router."),
    "dashboards": ("lrem_os.cli.dashboards:dashboards", "Four dashboards in OpenSearch Dashboards."),
    "plan": ("lrem_os.cli.plan:plan", "Show what a catalog and its traffic need: nodes, GPUs, price."),
    "doctor": ("lrem_os.cli.doctor:doctor", "Check the whole set-up and say what to do."),
    "demo": ("lrem_os.cli.demo:demo", "Node, catalog, search and evaluation in one go."),
}


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="lrem-os")
def cli() -> None:
    """Hybrid search with reasoning for OpenSearch: load a catalog, search it, measure it.

    \b
    lrem-os demo                       everything on a sample catalog, on a local node
    lrem-os ingest catalog.jsonl       your own catalog
    lrem-os search "red handbag"       ask it something
    """


def main() -> None:
    """Run the command line: an error of ours becomes a sentence and an exit code, never a traceback."""
    from lrem_os.cli.options import run

    run(cli)
