"""``lrem-os eval export``: queries and judgments for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from lrem_os.cli.options import json_option, print_json


@click.command()
@click.option("--queries", required=True, type=click.Path(), help="Queries, as for lrem-os eval.")
@click.option("--qrels", required=True, type=click.Path(), help="Judgments, as for lrem-os eval.")
@click.option(
    "--to",
    "target",
    type=click.Choice(["workbench", "trec"]),
    default="workbench",
    show_default=True,
    help="Search Relevance Workbench, or TREC topics and qrels.",
)
@click.option("--name", default="lrem-os", show_default=True, help="Of the query set and the judgment list.")
@click.option("--description", default="", help="Of both.")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), metavar="DIR", help="Folder to write.")
@click.option("--dry-run", is_flag=True, help="Read and count; write nothing.")
@json_option
def export(
    queries: str, qrels: str, target: str, name: str, description: str, out: str, dry_run: bool, as_json: bool
) -> None:
    """Write queries and judgments as the Search Relevance Workbench or TREC tools take them.

    For the workbench: the bodies of PUT _plugins/_search_relevance/query_sets (at most 1,000 queries each) and of
    PUT _plugins/_search_relevance/judgments. It refuses queries that hold ", \\, < or >: they are left out and named.

    \b
    lrem-os eval export --queries q.jsonl --qrels qrels.txt --name 'Shop, June' -o workbench/
    curl -X PUT $URL/_plugins/_search_relevance/query_sets -H 'Content-Type: application/json' \\
      -d @workbench/query_set.json
    curl -X PUT $URL/_plugins/_search_relevance/judgments -H 'Content-Type: application/json' \\
      -d @workbench/judgments.json
    lrem-os eval export --to trec --queries q.jsonl --qrels qrels.csv -o trec/
    """
    from lrem_os.eval.datasets import read_qrels, read_queries
    from lrem_os.eval.output import write_whole
    from lrem_os.eval.workbench import export_files, trec_files

    asked = read_queries(queries)
    judged = read_qrels(qrels, asked)
    if target == "trec":
        files, account = trec_files(asked, judged)
    else:
        files, account = export_files(asked, judged, name=name, description=description)
    if not dry_run:
        for file, data in files.items():
            write_whole(Path(out) / file, data)
    if as_json:
        print_json({"files": {} if dry_run else {file: str(Path(out) / file) for file in files}, **account})
        return
    for file in files:
        click.echo(f"{Path(out) / file}{' would be written' if dry_run else ''}")
    click.echo(f"{account['queries']:,} queries, {account['judgments']:,} judgments")
    for note in account["notes"]:
        click.echo(f"  {note}")
