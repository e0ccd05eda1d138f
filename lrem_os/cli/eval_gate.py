"""``lrem-os eval gate``: thresholds and a report in, every number out, an exit code of its own."""

from __future__ import annotations

import click

from lrem_os.cli.options import json_option, print_json


@click.command()
@click.argument("thresholds", type=click.Path())
@click.argument("report", type=click.Path())
@json_option
def gate(thresholds: str, report: str, as_json: bool) -> None:
    """Hold a report against thresholds; end with 9 if one does not hold.

    THRESHOLDS is YAML; REPORT the report.json that --report wrote, or its folder. A limit is min or max (of the mean),
    min_difference or max_difference (to the report's baseline), or not_worse: true (fails when the run is worse than
    the baseline and the adjusted p-value says that this is no chance). A run, measure or slice that the report does
    not hold ends with 2: a gate that checks nothing must not pass.

    \b
    lrem-os eval gate thresholds.yaml out/report.json
    lrem-os eval gate thresholds.yaml out/ --json

    \b
    runs:
      direct:
        ndcg@10: {min: 0.38}
        violation@10: {max: 0.1}
        latency_ms: {p95: {max: 300}}
        slices: {type: {negative: {ndcg@10: {min: 0.2}}}}
      reasoned:
        ndcg@10: {min_difference: 0.01, not_worse: true}
        latency_ms_by_route: {reasoned: {p95: {max: 3000}}}
        reasoned_share: {max: 0.3}
    """
    from lrem_os.eval.gate import check_files, describe, require_passed, to_dict

    checks = check_files(thresholds, report)
    if as_json:
        print_json(to_dict(checks))
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL'} {describe(check)}")
    require_passed(checks)
