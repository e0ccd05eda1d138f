"""``lrem-os eval`` judge and pool: a model grades, or people do, on a sheet."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.eval_judgments import out_option, print_summary
from lrem_os.cli.options import config_options, json_option, split_list

if TYPE_CHECKING:
    from lrem_os.eval.judgments.agreement import Agreement, Kappa
    from lrem_os.eval.judgments.judge import JudgeReport


@click.command()
@click.option("--queries", required=True, type=click.Path(), help="The queries: JSONL, CSV, TREC topics.")
@click.option(
    "--candidates", required=True, type=click.Path(), help="A TREC run, a judging sheet of `eval pool`, or qrels."
)
@click.option("--catalog", type=click.Path(), help="JSONL catalog, maybe gzipped: what the judge reads of a product.")
@out_option
@click.option("--url", required=True, metavar="URL", help="OpenAI-compatible server, up to /v1.")
@click.option("--model", required=True, metavar="NAME", help="The judge's name there.")
@click.option("--api-key", envvar="LREM_OS_JUDGE_KEY", show_envvar=True, help="Its API key.")
@click.option("--cache", type=click.Path(), metavar="FILE", help="Answers so far  [default: OUT.answers.jsonl].")
@click.option("--depth", type=click.IntRange(1), default=10, show_default=True, help="Results of a run, a query.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Judge N pairs, drawn at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of --sample.")
@click.option("--human", type=click.Path(), metavar="QRELS", help="People's judgments: report the agreement with them.")
@click.option(
    "--min-grade",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Relevant from here on, for kappa.",
)
@click.option("--max-tokens", type=click.IntRange(1), default=16, show_default=True, help="Of an answer.")
@click.option("--concurrency", type=click.IntRange(1, 512), default=8, show_default=True, help="Questions at once.")
@click.option("--timeout-s", type=click.FloatRange(1), default=120.0, show_default=True, help="A question's limit.")
@click.option("--structured", is_flag=True, help="Hold the answer to a JSON schema; not every server can.")
@click.option("--dry-run", is_flag=True, help="Count the questions and their tokens; ask and write nothing.")
@json_option
@config_options
def judge(
    queries: str,
    candidates: str,
    catalog: str | None,
    out: str,
    url: str,
    model: str,
    api_key: str | None,
    cache: str | None,
    depth: int,
    sample: int | None,
    seed: int,
    human: str | None,
    min_grade: int,
    max_tokens: int,
    concurrency: int,
    timeout_s: float,
    structured: bool,
    dry_run: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Have a language model grade query and product from 0 to 3, at temperature 0.

    Every answer goes into a cache as it comes: a run that was killed goes on where it was, and nothing is asked twice.
    --out is TREC qrels, or JSONL where it ends so.

    \b
    lrem-os eval judge --queries q.jsonl --candidates pool.csv --catalog catalog.jsonl.gz \\
        --url http://localhost:8000/v1 --model judge --human qrels.txt --out judged.txt
    """
    from lrem_os import judgments
    from lrem_os.cli.eval_progress import eval_progress
    from lrem_os.config import load_settings
    from lrem_os.eval.output import format_qrels, write_whole

    settings = load_settings(config_path, overrides).settings
    judge_model = judgments.JudgeModel(url, model, api_key, max_tokens, concurrency, timeout_s, structured)
    answers = Path(cache or f"{out}.answers.jsonl")
    pairs, textless = judgments.collect_pairs(
        settings, queries=queries, candidates=candidates, catalog=catalog, depth=depth, sample=sample, seed=seed
    )
    people = judgments.read_human(human, pairs) if human else None
    if dry_run:
        print_summary(judgments.preview_judging(pairs, judge_model, answers) | {"without_text": textless}, as_json)
        return
    with eval_progress() as told:
        report = judgments.judge_with_model(pairs, judge_model, answers, on_progress=partial(told, "judged"))
    write_whole(out, format_qrels(report.grades, out))
    summary = {"out": out} | _counts(report) | {"without_text": textless}
    if people is not None and report.grades:
        summary["agreement"] = _agreement(judgments.compare_judges(people, report.grades, min_grade=min_grade))
    for what, rows in (("ungraded", report.ungraded), ("failed", report.failed)):
        for qid, doc_id, text in rows[:3]:
            click.echo(f"{what}: {qid} {doc_id}: {text}", err=True)
    if report.ungraded and not structured:
        click.echo("answers without a grade: try --structured, or a larger --max-tokens", err=True)
    print_summary(summary, as_json)


@click.command()
@click.option("--runs", required=True, metavar="FILE,…", help="TREC runs; NAME=FILE gives one another name.")
@click.option("--queries", required=True, type=click.Path(), help="The queries: JSONL, CSV, TREC topics.")
@click.option("--depth", type=click.IntRange(1), default=20, show_default=True, help="Results of each run, a query.")
@click.option("--qrels", type=click.Path(), help="What is judged already, and left out.")
@click.option("--catalog", type=click.Path(), help="JSONL catalog, for the titles.")
@out_option
@json_option
@config_options
def pool(
    runs: str,
    queries: str,
    depth: int,
    qrels: str | None,
    catalog: str | None,
    out: str,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write what several runs found and nobody has judged, as a sheet: CSV, or JSONL where --out ends so.

    Fill in the column grade; the sheet is then a file of judgments itself, for --qrels and for `eval convert`.

    \b
    lrem-os eval pool --runs bm25.trec,reasoned.trec --queries q.jsonl --qrels qrels.txt --out sheet.csv
    """
    from lrem_os.config import load_settings
    from lrem_os.eval.judgments.pool import format_sheet
    from lrem_os.eval.output import write_whole
    from lrem_os.judgments import pool_runs

    rows = pool_runs(
        load_settings(config_path, overrides).settings,
        split_list(runs),
        queries=queries,
        depth=depth,
        judged=qrels,
        catalog=catalog,
    )
    write_whole(out, format_sheet(rows, out))
    found_by: dict[str, int] = {}
    alone: dict[str, int] = {}
    for row in rows:
        for run in row.ranks:
            found_by[run] = found_by.get(run, 0) + 1
            alone[run] = alone.get(run, 0) + (len(row.ranks) == 1)
    summary = {"out": out, "to_judge": len(rows), "queries": len({row.query_id for row in rows})}
    print_summary(summary | {"found_by": found_by, "found_by_it_alone": alone}, as_json)


def _counts(report: JudgeReport) -> dict[str, Any]:
    grades = [grade for docs in report.grades.values() for grade in docs.values()]
    return {
        "judged": len(grades),
        "grades": {str(grade): grades.count(grade) for grade in range(4)},
        "asked": report.asked,
        "cached": report.cached,
        "ungraded": len(report.ungraded),
        "failed": len(report.failed),
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    def kappa(value: Kappa) -> dict[str, float | None]:
        return {"value": value.value, "low": value.low, "high": value.high}

    return {
        "pairs": agreement.pairs,
        "queries": agreement.queries,
        "exact": agreement.exact,
        "kappa_quadratic": kappa(agreement.quadratic),
        "kappa": kappa(agreement.plain),
        "kappa_relevant": kappa(agreement.relevant),
        "grades": list(agreement.grades),
        "table": [list(row) for row in agreement.table],
    }
