"""``lrem-os eval``: options in, a table, JSON or Markdown out; and the group of what is done with the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lrem_os.cli.eval_progress import eval_progress
from lrem_os.cli.groups import ActionGroup, ActionOption, left_to_subcommand
from lrem_os.cli.options import config_options, json_option, print_json, split_list

if TYPE_CHECKING:
    from lrem_os.config import Settings
    from lrem_os.eval.result import EvalResult

_COMMANDS = {  # see LazyGroup; each module is one file lrem_os/cli/eval_NAME.py
    "compare": ("lrem_os.cli.eval_compare:compare", "Show what changed between two reports."),
    "gate": ("lrem_os.cli.eval_gate:gate", "Fail when a report breaks its thresholds."),
    "sbs": ("lrem_os.cli.eval_sbs:sbs", "Have people judge two runs side by side."),
    "convert": ("lrem_os.cli.eval_judgments:convert", "Write judgments of any known form as TREC or JSONL."),
    "queries": ("lrem_os.cli.eval_judgments:queries", "Write the queries of a log, each once, with its frequency."),
    "clicks": ("lrem_os.cli.eval_judgments:clicks", "Make judgments from clicks."),
    "judge": ("lrem_os.cli.eval_judge:judge", "Have a language model judge."),
    "pool": ("lrem_os.cli.eval_judge:pool", "Make a judging sheet of what several runs found."),
    "robustness": ("lrem_os.cli.eval_robustness:robustness", "Perturb queries, plant products; see what is lost."),
    "publish": ("lrem_os.cli.eval_publish:publish", "Write a report into indices for Dashboards."),
    "export": ("lrem_os.cli.eval_export:export", "Write queries and judgments for other tools."),
}


@click.group(name="eval", cls=ActionGroup, lazy=_COMMANDS)
@click.option(
    "--runs",
    required=True,
    cls=ActionOption,
    metavar="RUN,…",
    help="bm25, vector, hybrid (each perhaps +reason), direct, reasoned, routed, routed@30%, names under eval.runs of "
    "the configuration, run files (.trec, .jsonl), NAME=http://… for a service.",
)
@click.option(
    "--queries",
    required=True,
    cls=ActionOption,
    type=click.Path(),
    help="JSONL, CSV, TREC topics, qid<TAB>text, maybe .gz; or ubi:7d.",
)
@click.option(
    "--qrels",
    required=True,
    cls=ActionOption,
    type=click.Path(),
    help="TREC qrels, JSONL, CSV, a Quepid or Workbench export; maybe .gz.",
)
@click.option(
    "--measures",
    metavar="NAME@K,…",
    help="hitrate, recall, precision, ndcg, success, mrr, map, judged, violation  [default: ndcg@10, hitrate@10, "
    "hitrate@100, precision@10, judged@10]",
)
@click.option(
    "--columns", default="", metavar="NAME=COLUMN,…", help="What the files call theirs: qid=id,query=q,type=kind."
)
@click.option("--k", "cutoffs", metavar="K,…", help="In place of --measures: the standard measures at these depths.")
@click.option(
    "--violations",
    type=click.Path(),
    help="JSONL (qid, ids): documents that break a query's exclusion; adds violation@k.",
)
@click.option("-n", "--top-k", type=click.IntRange(1), help="Depth of the runs  [default: eval.top_k].")
@click.option("--min-grade", type=click.IntRange(1), default=1, show_default=True, help="Relevant from this grade on.")
@click.option("--baseline", metavar="RUN", help="Also show the paired differences to this run.")
@click.option(
    "--slices",
    default="type",
    show_default=True,
    metavar="NAME,…",
    help="Also show parts of the queries: type, route, length, frequency; '' for none. --json holds them all.",
)
@click.option(
    "--save-runs",
    metavar="DIR",
    default="lrem-os-runs",
    show_default=True,
    help="Folder for what is retrieved: RUN.jsonl with traces, RUN.trec. Answers that are there are not asked for "
    "again, so that a killed evaluation goes on; '' saves none.",
)
@click.option("--fresh", is_flag=True, help="Ask again for the answers that are there.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take the first N queries only.")
@click.option("--concurrency", type=click.IntRange(1), help="Searches at once  [default: eval.concurrency].")
@click.option(
    "--curve",
    metavar="NAME@K",
    help="Also the cost-quality curve of routing in this measure; needs direct and reasoned among the runs.",
)
@click.option(
    "--gpu-hour",
    type=click.FloatRange(0, min_open=True),
    metavar="PRICE",
    help="Price of an hour of the reasoner's machine  [default: eval.gpu_hour_price].",
)
@click.option(
    "--report",
    "report_folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Also write report.json, report.md and report.html (one file, opened offline) into this folder.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Leave query texts and keywords out of the report and of what is printed; ids become hashes, keyed with "
    "LREM_OS_EVAL_KEY. What --save-runs keeps has them.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
@config_options
@click.pass_context
def evaluate(
    context: click.Context,
    runs: str,
    queries: str,
    qrels: str,
    measures: str | None,
    cutoffs: str | None,
    violations: str | None,
    columns: str,
    top_k: int | None,
    min_grade: int,
    baseline: str | None,
    slices: str,
    save_runs: str,
    fresh: bool,
    limit: int | None,
    concurrency: int | None,
    curve: str | None,
    gpu_hour: float | None,
    report_folder: str | None,
    redact: bool,
    markdown: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure runs on judged queries: means with confidence intervals, over all queries and per type.

    A run is asked of the index now, or lies in a file, which needs no cluster; NAME=FILE gives a file another name.
    direct, reasoned and routed answer as `lrem-os serve` does on that route. hitrate@k is the share of the relevant
    products found in the top k, as the LREM paper uses it; success@k is 1 if any is found. MODE+reason reasons about
    every query first: bm25+reason has the keywords in the text leg alone, vector+reason in the query's vector,
    hybrid+reason in both.

    \b
    lrem-os eval --runs bm25,vector,hybrid --queries q.jsonl --qrels qrels.txt
    lrem-os eval --runs vector,vector+reason,hybrid+reason --baseline vector --queries q.jsonl --qrels qrels.txt
    lrem-os eval --runs hybrid,before=runs/hybrid.trec --baseline before --queries q.jsonl --qrels qrels.txt
    lrem-os eval --runs bm25,direct,reasoned,routed@30% --baseline direct --curve ndcg@10 --queries … --qrels …
    lrem-os eval --runs vector,hybrid --baseline vector --queries q.jsonl --qrels qrels.txt --report out/
    """
    if left_to_subcommand(context):
        return
    _check_together(context)
    from lrem_os import api
    from lrem_os.eval import redact as redaction
    from lrem_os.eval import report, report_files
    from lrem_os.eval.measures import parse_cutoffs
    from lrem_os.eval.tables import parse_columns

    shown = report.check_slices(split_list(slices))
    key = redaction.key_from(os.environ) if redact else b""
    if report_folder:
        report_files.check_folder(report_folder)
    given = _overrides(top_k=top_k, concurrency=concurrency, gpu_hour_price=gpu_hour)
    settings = _load_settings(context, config_path, (*overrides, *given))
    with eval_progress() as on_progress:
        result = api.evaluate(
            settings,
            runs=split_list(runs),
            queries=queries,
            qrels=qrels,
            measures=None if measures is None else split_list(measures),
            min_grade=min_grade,
            baseline=baseline,
            violations=violations,
            columns=parse_columns(columns) or None,
            cutoffs=parse_cutoffs(split_list(cutoffs)) if cutoffs is not None else (),
            curve=curve,
            limit=limit,
            save_runs=save_runs or None,
            fresh=fresh,
            on_progress=on_progress,
        )
    result = redaction.redact(result, key=key) if redact else result
    if report_folder:
        *_, page = report_files.write_report(report.to_dict(result), report_folder)
        click.echo(f"report: {page}", err=True)
    _show(result, shown, as_json=as_json, markdown=markdown)


def _check_together(context: click.Context) -> None:
    """Refuse options of which one would be ignored."""
    for one, other in (("measures", "cutoffs"), ("as_json", "markdown")):
        if context.params[one] and context.params[other]:
            names = {param.name: param.opts[0] for param in context.command.params}
            raise click.UsageError(f"{names[one]} and {names[other]} exclude each other")
    if context.params["fresh"] and not context.params["save_runs"]:
        raise click.UsageError("--fresh asks again for what --save-runs keeps, and --save-runs '' keeps nothing")


def _load_settings(context: click.Context, config_path: str | None, overrides: Sequence[str]) -> Settings:
    """Return the configuration; refuse options that none of the runs would heed."""
    from lrem_os.config import load_settings
    from lrem_os.eval.specs import parse_run_specs

    settings = load_settings(config_path, overrides).settings
    specs = parse_run_specs(split_list(context.params["runs"]), settings.eval.runs)
    if all(spec.path for spec in specs):
        for name, option in (("fresh", "--fresh"), ("concurrency", "--concurrency")):
            if context.params[name]:
                raise click.UsageError(f"{option} is about runs that are asked, and all of these are files")
    if context.params["gpu_hour"] is not None and not any(spec.may_have_traces for spec in specs):
        raise click.UsageError("--gpu-hour needs a run with times: TREC files have none, NAME.jsonl of --save-runs has")
    return settings


def _overrides(**given: float | None) -> list[str]:
    return [f"eval.{key}={value}" for key, value in given.items() if value is not None]


def _show(result: EvalResult, slices: Sequence[str], *, as_json: bool, markdown: bool) -> None:
    from lrem_os.eval import report

    if as_json:
        print_json(report.to_dict(result))
    elif markdown:
        click.echo(report.to_markdown(result, slices=slices), nl=False)
    else:
        print_result(result, slices)


def print_result(result: EvalResult, slices: Sequence[str]) -> None:
    """Print the measures as tables."""
    from lrem_os.cli.tables import print_table
    from lrem_os.eval import report

    for section in report.sections(result, slices=slices):
        print_table(section.columns, section.rows, title=section.title)
    for note in report.notes(result):
        click.echo(note)
