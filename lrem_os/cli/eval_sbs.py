"""``lrem-os eval sbs``: two runs to a page for judges, their votes to a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lrem_os.cli.groups import ActionGroup, ActionOption, left_to_subcommand
from lrem_os.cli.options import config_options, json_option, print_json, split_list

if TYPE_CHECKING:
    from lrem_os.eval.sbs_score import Gsb, Score

_COMMANDS = {  # see LazyGroup
    "score": ("lrem_os.cli.eval_sbs:score", "Turn judges' votes into GSB with its interval."),
}


@click.group(cls=ActionGroup, lazy=_COMMANDS)
@click.option("--runs", required=True, cls=ActionOption, metavar="A,B", help="Two runs, as `lrem-os eval` takes them.")
@click.option("--queries", required=True, cls=ActionOption, type=click.Path(), help="As `lrem-os eval` takes them.")
@click.option(
    "--out", required=True, cls=ActionOption, type=click.Path(), metavar="FILE.html", help="The page to write."
)
@click.option("--catalog", type=click.Path(), help="What the products are: JSONL, CSV, Parquet [default: the index].")
@click.option("-n", "--top-k", type=click.IntRange(1, 100), default=10, show_default=True, help="Products a side.")
@click.option("--num-queries", type=click.IntRange(1), metavar="N", help="Draw so many queries [default: all].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw, queries and sides.")
@json_option
@config_options
@click.pass_context
def sbs(
    context: click.Context,
    runs: str,
    queries: str,
    out: str,
    catalog: str | None,
    top_k: int,
    num_queries: int | None,
    seed: int,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Make a page on which people judge two runs side by side, blind and with the keyboard.

    The page is one file that needs no network: send it to the judges, who send back what it exports. Which run stands
    left is drawn for every query; only FILE.key.json knows it, so keep that one. Queries that both runs answer alike
    are not shown, and count as same.

    \b
    lrem-os eval sbs --runs direct,reasoned --queries q.jsonl --num-queries 100 --out sheet.html
    lrem-os eval sbs --runs a.trec,b.trec --queries q.jsonl --catalog catalog.jsonl.gz -n 5 --out sheet.html
    lrem-os eval sbs score votes-*.json --key sheet.key.json
    """
    if left_to_subcommand(context):
        return
    from lrem_os.cli.eval_progress import eval_progress
    from lrem_os.config import load_settings
    from lrem_os.side_by_side import make_sheet

    settings = load_settings(config_path, overrides).settings
    with eval_progress() as on_progress:
        sheet = make_sheet(
            settings,
            runs=split_list(runs),
            queries=queries,
            out=out,
            catalog=catalog,
            top_k=top_k,
            num_queries=num_queries,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        names = ("num_pairs", "num_same", "num_unanswered", "num_unknown")
        print_json({"page": sheet.page, "key": sheet.key, **{name: getattr(sheet, name) for name in names}})
        return
    click.echo(f"{sheet.page}: {sheet.num_pairs} queries to judge; send it to the judges")
    click.echo(f"{sheet.key}: which run stands left; keep it for lrem-os eval sbs score")
    if sheet.num_same:
        click.echo(f"{sheet.num_same} queries are answered alike by both runs: not shown, counted as same")
    if sheet.num_unanswered:
        click.echo(f"{sheet.num_unanswered} queries are answered by neither run: left out")
    if sheet.num_unknown:
        click.echo(f"{sheet.num_unknown} products have no title here: their id is shown (--catalog FILE)", err=True)


@click.command()
@click.argument("votes", nargs=-1, required=True, type=click.Path())
@click.option("--key", type=click.Path(), metavar="FILE", help="Key of the sheet [default: the one beside the votes].")
@json_option
def score(votes: tuple[str, ...], key: str | None, as_json: bool) -> None:
    """Turn what judges exported into GSB: (good - bad) / all, of the second run over the first.

    With a 95 % interval (bootstrap over queries), per query type, and how far the judges agree (Krippendorff's alpha).

    \b
    lrem-os eval sbs score votes-*.json
    lrem-os eval sbs score anna.json ben.json --key sheet.key.json --json
    """
    from lrem_os.eval.sbs_score import to_dict
    from lrem_os.side_by_side import score_sheets

    found = score_sheets(votes, key=key)
    if as_json:
        print_json(to_dict(found))
    else:
        _print_score(found)


def _print_score(score: Score) -> None:
    from lrem_os.cli.tables import print_table

    first, second = score.runs
    columns = (
        "queries",
        f"GSB of {second} over {first}",
        "interval",
        f"{second} better",
        "same",
        f"{first} better",
        "n",
    )
    rows = [_row("all", score.overall), *(_row(kind or "(no type)", part) for kind, part in score.by_type.items())]
    print_table(columns, rows)
    judged = ", ".join(f"{judge} {count}" for judge, count in score.judges.items())
    click.echo(f"votes: {judged}; {score.skipped} cannot tell; {score.unjudged} queries without a vote")
    if score.num_alike:
        click.echo(f"{score.num_alike} queries that both runs answer alike count as same")
    if score.agreement is None:
        click.echo("agreement: unknown, it takes queries that two judges have decided, and not all alike")
    else:
        click.echo(f"agreement: Krippendorff's alpha {score.agreement:.2f} over {score.num_shared} queries")
    if score.left_share is not None:
        click.echo(f"left side preferred in {score.left_share:.0%} of the decisions for a side")


def _row(name: str, part: Gsb) -> tuple[str, ...]:
    span = f"[{part.low:+.3f}, {part.high:+.3f}]"
    return (name, f"{part.gsb:+.3f}", span, str(part.good), str(part.same), str(part.bad), str(part.num_queries))
