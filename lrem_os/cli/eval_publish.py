"""``lrem-os eval publish``: a report into indices for OpenSearch Dashboards."""

from __future__ import annotations

import click

from lrem_os.cli.options import config_options, json_option, print_json


@click.command()
@click.argument("report", type=click.Path())
@click.option(
    "--prefix", default="lrem-os-eval", show_default=True, metavar="NAME", help="Of the names of the indices."
)
@click.option("--qrels", type=click.Path(), help="Also publish the judgments that the report was measured with.")
@click.option("--dry-run", is_flag=True, help="Read and count; send nothing.")
@json_option
@config_options
def publish(
    report: str,
    prefix: str,
    qrels: str | None,
    dry_run: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write a report into indices that OpenSearch Dashboards reads.

    REPORT is the report.json that lrem-os eval --report wrote, or its folder. PREFIX-results gets one document per run,
    measure and slice, PREFIX-queries one per query and run, PREFIX-judgments one per judged pair; index templates of
    the same names say what each field is. Publishing a report twice changes nothing.

    \b
    lrem-os eval publish out/report.json
    lrem-os eval publish out/ --qrels qrels.txt --prefix shop-eval
    lrem-os eval publish out/ --dry-run --json

    Exit code 7: OpenSearch refused some documents, the others are there.
    """
    from lrem_os.config import load_settings
    from lrem_os.publishing import check_complete, publish_report

    settings = load_settings(config_path, overrides).settings
    found = publish_report(settings, report, prefix=prefix, qrels=qrels, dry_run=dry_run)
    if as_json:
        print_json(found.to_dict())
    else:
        for name, account in found.indices.items():
            counts = f"written {account.written:,} + unchanged {account.unchanged:,} + failed {account.failed:,}"
            click.echo(f"{name}: {account.documents:,} documents{'' if dry_run else f' = {counts}'}")
            for reason in account.reasons:
                click.echo(f"  refused: {reason}")
        click.echo(f"report {found.report}{' was not sent (--dry-run)' if dry_run else ''}")
    check_complete(found)
