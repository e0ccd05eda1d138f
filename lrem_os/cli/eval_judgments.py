"""``lrem-os eval`` convert, queries, clicks: logs and judgments in, queries and judgments out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from lrem_os.cli.options import config_options, json_option, print_json

F = TypeVar("F", bound=Callable[..., Any])

_KEY_ENV = "LREM_OS_EVAL_KEY"

out_option = click.option("-o", "--out", required=True, type=click.Path(), metavar="FILE", help="What is written.")
columns_option = click.option(
    "--columns", default="", metavar="NAME=COLUMN,…", help="What the file calls its columns: qid=id,query=q,doc_id=sku."
)


def _privacy_options(command: F) -> F:
    key = click.option(
        "--key", envvar=_KEY_ENV, show_envvar=True, metavar="TEXT", help="Secret of the hashes, 16 bytes or more."
    )
    hashed = click.option("--hash-ids", is_flag=True, help="Write keyed hashes in place of query ids.")
    return hashed(key(command))


@click.command()
@click.argument("judgments", type=click.Path())
@out_option
@click.option("--queries", type=click.Path(), help="Gives their ids to judgments that name a query by its text.")
@click.option(
    "--scale", type=click.FloatRange(1), metavar="N", help="Ratings are 0 to 1: multiply by N, round half up."
)
@columns_option
@_privacy_options
@json_option
def convert(
    judgments: str,
    out: str,
    queries: str | None,
    scale: float | None,
    columns: str,
    hash_ids: bool,
    key: str | None,
    as_json: bool,
) -> None:
    """Write judgments of any known form as TREC qrels, or as JSONL where --out ends so.

    Known are TREC, JSONL, CSV, judging sheets, Quepid's exports (CSV, case, book) and judgments of the Search Relevance
    Workbench; which it is, the content says.

    \b
    lrem-os eval convert quepid.csv --queries queries.jsonl --out qrels.txt
    lrem-os eval convert workbench.json --scale 3 --out judgments.jsonl
    """
    from lrem_os.eval.datasets import parse_qrels, read_file, read_queries
    from lrem_os.eval.logs import keyed_hash
    from lrem_os.eval.output import format_qrels, write_whole
    from lrem_os.eval.tables import parse_columns

    asked = read_queries(queries) if queries else ()
    qrels = parse_qrels(read_file(judgments), asked, parse_columns(columns) or None, scale)
    if hash_ids:
        qrels = {keyed_hash(qid, (key or "").encode()): grades for qid, grades in qrels.items()}
    write_whole(out, format_qrels(qrels, out))
    counts: dict[int, int] = {}
    for grades in qrels.values():
        for grade in grades.values():
            counts[grade] = counts.get(grade, 0) + 1
    unknown = sorted(set(qrels) - {query.query_id for query in asked}) if asked and not hash_ids else []
    summary = {
        "out": out,
        "queries": len(qrels),
        "judgments": sum(counts.values()),
        "grades": {str(grade): counts[grade] for grade in sorted(counts)},
        "queries_unknown": len(unknown),
    }
    print_summary(summary, as_json)


@click.command()
@click.argument("source")
@out_option
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the N most frequent.")
@click.option(
    "--redact",
    type=click.Choice(["none", "pii", "all"]),
    default="none",
    show_default=True,
    help="pii: without e-mail addresses, phone and card numbers; all: a keyed hash for every text.",
)
@columns_option
@_privacy_options
@json_option
@config_options
def queries(
    source: str,
    out: str,
    top: int | None,
    redact: Any,
    columns: str,
    hash_ids: bool,
    key: str | None,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write the queries of a log, each once, with how often it was asked, as JSONL.

    SOURCE is a file (JSONL, CSV, TSV, TREC topics; maybe gzipped), or the index of User Behavior Insights with a window
    of time: ubi:7d, ubi:2026-01-01..2026-02-01, ubi:all; ubi:7d@my_queries reads another index.

    \b
    lrem-os eval queries ubi:7d --redact pii --top 1000 --out queries.jsonl
    lrem-os eval queries log.csv.gz --columns query=q,frequency=n --out queries.jsonl
    """
    from lrem_os.config import load_settings
    from lrem_os.eval.logs import anonymise, query_row
    from lrem_os.eval.output import jsonl, write_whole
    from lrem_os.eval.tables import parse_columns
    from lrem_os.judgments import load_log

    settings = load_settings(config_path, overrides).settings
    found = load_log(settings, source, parse_columns(columns) or None)
    total = sum(query.frequency for query in found)
    if top is not None:
        found = tuple(sorted(found, key=lambda query: (-query.frequency, query.query_id)))[:top]
    written = anonymise(found, redaction=redact, hash_ids=hash_ids, key=(key or "").encode())
    write_whole(out, jsonl(map(query_row, written)))
    changed = sum(one.text != two.text for one, two in zip(found, written, strict=True))
    kept = sum(query.frequency for query in found)
    summary = {"out": out, "queries": len(found), "searches": total, "share": kept / total, "texts_redacted": changed}
    print_summary(summary, as_json)


@click.command()
@click.argument("logs", nargs=-1, required=True)
@out_option
@click.option(
    "--method",
    type=click.Choice(["pbm", "coec", "ctr"]),
    default="pbm",
    show_default=True,
    help="Position-based model; clicks over expected clicks; click rate.",
)
@click.option(
    "--min-impressions", type=click.IntRange(1), default=20, show_default=True, help="Shown less often: no grade."
)
@click.option(
    "--thresholds",
    metavar="X,Y,…",
    help="Score from which the grade is 1, 2, …  [default: 0.5,1,2; ctr: 0.02,0.05,0.15]",
)
@click.option("--lower-bound", is_flag=True, help="Grade the lower end of the 95 % interval.")
@click.option(
    "--click-action",
    "click_actions",
    multiple=True,
    default=("click",),
    show_default=True,
    help="UBI events that count.",
)
@click.option("--queries-out", type=click.Path(), metavar="FILE", help="Also write the queries, as JSONL.")
@columns_option
@json_option
@config_options
def clicks(
    logs: tuple[str, ...],
    out: str,
    method: Any,
    min_impressions: int,
    thresholds: str | None,
    lower_bound: bool,
    click_actions: tuple[str, ...],
    queries_out: str | None,
    columns: str,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Make judgments from clicks; docs/judgments.md says when to trust which method.

    A log has query (or qid), doc_id, position and clicked a row, or the sums impressions and clicks; or it is an export
    of ubi_events, with one of ubi_queries where the events lack the texts; or ubi:7d, which reads both indices. --out
    is TREC qrels, or JSONL with scores and intervals where it ends so.

    \b
    lrem-os eval clicks impressions.csv.gz --out clicks.jsonl --queries-out queries.jsonl
    lrem-os eval clicks ubi:30d --method coec --min-impressions 50 --out qrels.txt
    """
    from dataclasses import asdict

    from lrem_os.config import load_settings
    from lrem_os.eval.output import format_qrels, jsonl, write_whole
    from lrem_os.eval.tables import parse_columns
    from lrem_os.judgments import judge_clicks

    result = judge_clicks(
        load_settings(config_path, overrides).settings,
        logs,
        method=method,
        columns=parse_columns(columns) or None,
        min_impressions=min_impressions,
        thresholds=None if thresholds is None else _numbers(thresholds, "--thresholds"),
        lower_bound=lower_bound,
        click_actions=click_actions,
        on_progress=lambda what: click.echo(f"clicks: {what}", err=True),
    )
    if out.endswith((".jsonl", ".ndjson")):
        rows = [asdict(score) for score, _ in result.scores]
        named = (
            {"qid": row.pop("query_id"), **row, "grade": one[1]} for row, one in zip(rows, result.scores, strict=True)
        )
        write_whole(out, jsonl(named))
    else:
        write_whole(out, format_qrels(result.qrels, out))
    if queries_out is not None:
        judged = result.qrels
        write_whole(
            queries_out, jsonl({"qid": qid, "query": text} for qid, text in result.texts.items() if qid in judged)
        )
    grades = [grade for _, grade in result.scores]
    spread = {str(grade): grades.count(grade) for grade in range(len(result.thresholds) + 1)}
    summary = {"out": out, "method": method, "thresholds": list(result.thresholds), "grades": spread}
    print_summary(summary | result.counts, as_json)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: want numbers, separated by commas", param_hint=option) from exc


def print_summary(summary: Mapping[str, Any], as_json: bool) -> None:
    """Print what was done: a line a value, or JSON."""
    if as_json:
        print_json(dict(summary))
        return
    for name, value in summary.items():
        click.echo(f"{name.replace('_', ' ')}: {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)
