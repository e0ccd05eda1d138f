"""``lrem-os eval``: options in, a table, JSON or Markdown out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.eval.evaluate import EvalResult

_PIPED_WIDTH = 400  # a pipe has no width, and rich would cut at 80


@click.command(name="eval")
@click.option("--runs", required=True, metavar="RUN,…", help="Modes (bm25, vector, hybrid; +reason) and TREC files.")
@click.option(
    "--queries", required=True, type=click.Path(), help="JSONL (qid, query, type) or qid<TAB>text; maybe .gz."
)
@click.option("--qrels", required=True, type=click.Path(), help="TREC qrels, or JSONL (qid, doc_id, grade); maybe .gz.")
@click.option(
    "--measures",
    metavar="NAME@K,…",
    help="hitrate, recall, precision, ndcg, success, mrr, judged  [default: ndcg@10, hitrate@10, hitrate@100, "
    "precision@10, recall@100, judged@10]",
)
@click.option("-n", "--top-k", type=click.IntRange(1), help="Depth of the runs  [default: eval.top_k].")
@click.option("--min-grade", type=click.IntRange(1), default=1, show_default=True, help="Relevant from this grade on.")
@click.option("--baseline", metavar="RUN", help="Also show the paired differences to this run.")
@click.option("--by-type/--no-by-type", default=True, show_default=True, help="Show each query type too.")
@click.option(
    "--save-runs",
    metavar="DIR",
    default="lrem-os-runs",
    show_default=True,
    help="Folder for the retrieved runs as TREC files; '' saves none.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
@config_options
def evaluate(
    runs: str,
    queries: str,
    qrels: str,
    measures: str | None,
    top_k: int | None,
    min_grade: int,
    baseline: str | None,
    by_type: bool,
    save_runs: str,
    markdown: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure runs on judged queries: means with confidence intervals, over all queries and per type.

    A run is a mode, which is asked of the index now, or a TREC run file, which needs no cluster; NAME=FILE gives a
    file another name. hitrate@k is the share of the relevant products found in the top k, as the LREM paper uses it;
    success@k is 1 if any is found. MODE+reason reasons about every query first: bm25+reason has the keywords in the
    text leg alone, vector+reason in the query's vector, hybrid+reason in both.

    \b
    lrem-os eval --runs bm25,vector,hybrid --queries q.jsonl --qrels qrels.txt
    lrem-os eval --runs vector,vector+reason,hybrid+reason --baseline vector --queries q.jsonl --qrels qrels.txt
    lrem-os eval --runs hybrid,before=runs/hybrid.trec --baseline before --queries q.jsonl --qrels qrels.txt
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    from lrem_os import api
    from lrem_os.config import load_settings
    from lrem_os.eval import report

    depth = () if top_k is None else (f"eval.top_k={top_k}",)
    settings = load_settings(config_path, (*overrides, *depth)).settings
    with _progress() as on_progress:
        result = api.evaluate(
            settings,
            runs=_split(runs),
            queries=queries,
            qrels=qrels,
            measures=None if measures is None else _split(measures),
            min_grade=min_grade,
            baseline=baseline,
            save_runs=save_runs or None,
            on_progress=on_progress,
        )
    if as_json:
        print_json(report.to_dict(result))
    elif markdown:
        click.echo(report.to_markdown(result, by_type=by_type), nl=False)
    else:
        print_result(result, by_type)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what reports progress on standard error: a bar in a terminal, one line per finished run elsewhere."""
    if not sys.stderr.isatty():
        yield lambda run, done, total: click.echo(f"{run}: {done} of {total}", err=True) if done == total else None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(run: str, done: int, total: int) -> None:
            if run not in tasks:
                tasks[run] = bar.add_task(run, total=total)
            bar.update(tasks[run], completed=done)

        yield advance


def print_result(result: EvalResult, by_type: bool) -> None:
    """Print the measures as tables."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from lrem_os.eval import report

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    for section in report.sections(result, by_type=by_type):
        table = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD)
        for column in section.columns:
            table.add_column(column, no_wrap=True)
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    for note in report.notes(result):
        console.print(note)
