"""``lrem-os eval compare``: two reports in, what changed out."""

from __future__ import annotations

import click

from lrem_os.cli.options import json_option, print_json


@click.command()
@click.argument("before", type=click.Path())
@click.argument("after", type=click.Path())
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
def compare(before: str, after: str, markdown: bool, as_json: bool) -> None:
    """Show what changed between two reports, run by run and measure by measure.

    A report is the report.json that --report wrote, or its folder. The differences are paired over the queries that
    both have, with intervals; whether both measured the same data, and what else is not the same, is said first. Ends
    with 0 whatever changed: a threshold is the business of lrem-os eval gate.

    \b
    lrem-os eval compare before/report.json after/report.json
    lrem-os eval compare main/ branch/ --markdown >>summary.md
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    from lrem_os.eval import changes_text
    from lrem_os.eval.changes import compare_reports, to_dict
    from lrem_os.eval.report_file import load_report

    changes = compare_reports(load_report(before), load_report(after))
    if as_json:
        print_json(to_dict(changes))
    elif markdown:
        click.echo(changes_text.to_markdown(changes), nl=False)
    else:
        from lrem_os.cli.tables import print_table

        first, *others = changes_text.sentences(changes)
        click.echo(first)
        print_table(changes_text.COLUMNS, changes_text.rows(changes))
        for sentence in others:
            click.echo(sentence)
