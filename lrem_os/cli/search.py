"""``lrem-os search``: options in, a table, tab-separated lines, JSON or a request body out."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from lrem_os.cli.options import config_options, json_option, print_json
from lrem_os.cli.reason import reasoning_line, reasoning_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrem_os.config import CatalogSettings
    from lrem_os.types import Hit, Mode, Ranking, Reasoning


@click.command()
@click.argument("text", metavar="[QUERY]", default="")
@click.option(
    "--filter", "filters", multiple=True, metavar="EXPR", help="Only products that match; may be repeated, see above."
)
@click.option("-n", "--top-k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits to show.")
@click.option("--from", "start", type=click.IntRange(0), default=0, show_default=True, help="Hits to skip.")
@click.option("--mode", type=click.Choice(["bm25", "vector", "hybrid"]), help="Legs to ask  [default: search.mode].")
@click.option("--reason", is_flag=True, help="Reason about the query first: keywords for the text leg and the vector.")
@click.option(
    "--explain", is_flag=True, help="Show where each leg ranked a hit, its score there, and the reasoning if any."
)
@click.option("--show-body", is_flag=True, help="Print the request for Dashboards' Dev Tools instead of sending it.")
@click.option("-i", "--index", "index_name", metavar="NAME", help="Index to search, instead of index.name.")
@json_option
@config_options
def search(
    text: str,
    filters: tuple[str, ...],
    top_k: int,
    start: int,
    mode: Mode | None,
    reason: bool,
    explain: bool,
    show_body: bool,
    index_name: str | None,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Search the index: by text, by vector, or by both.

    A table in a terminal, tab-separated lines elsewhere. Without a QUERY it lists what the filters allow, by id.
    The query is plain text: *, quotes and AND mean nothing special. The text leg reads its first words only (200 in
    five fields, a limit of OpenSearch); the vector leg reads as much as the model does.

    \b
    lrem-os search "red leather handbag"
    lrem-os search headphones --filter 'brand=Sony|Bose' --filter 'price<50' --explain
    lrem-os search --filter attributes.colour=red -n 50 --json
    lrem-os search "red leather handbag" --show-body
    lrem-os search "what do I put under a hot pot" --reason --explain

    \b
    Filters:  brand=Sony  brand!=Sony  brand=Sony|Bose  price<50  price>=10  attributes.colour=red  id=B001
              a literal | is \\|; several filters must all hold
    """
    from lrem_os import api
    from lrem_os.config import load_settings

    if index_name:
        overrides = (*overrides, f"index.name={index_name}")
    settings = load_settings(config_path, overrides).settings
    if show_body:
        index, body = api.search_body(
            settings, text, filters=filters, top_k=top_k, start=start, mode=mode, reason=reason
        )
        _print_body(index, body, as_json)
        return
    ranking = api.search(
        settings, text, filters=filters, top_k=top_k, start=start, mode=mode, explain=explain, reason=reason
    )
    if explain and reason and not as_json:
        print_reasoning(ranking.reasoning, f"reasoning {ranking.reason_ms:.0f} ms, embedding {ranking.embed_ms:.0f} ms")
    if as_json:
        print_json({"query": text, "mode": mode or settings.search.mode, **_to_dict(ranking, start)})
    else:
        print_ranking(ranking, settings.catalog, start=start, explain=explain)


def print_ranking(ranking: Ranking, catalog: CatalogSettings, *, start: int = 0, explain: bool = False) -> None:
    """Print hits: a table in a terminal, tab-separated lines elsewhere."""
    if _is_terminal():
        _print_table(ranking, catalog, start, explain)
        return
    for row in _rows(ranking, catalog, start, explain):
        click.echo("\t".join(row))


def print_reasoning(samples: Sequence[Reasoning], note: str) -> None:
    """Print the samples of a reasoning on standard error: standard output is for the hits."""
    for number, sample in enumerate(samples, 1):
        click.echo(reasoning_line(sample, number), err=True)
    click.echo(note if samples else f"nothing to reason about; {note}", err=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _print_body(index: str, body: dict[str, Any], as_json: bool) -> None:
    if "query" not in body and not as_json:  # one search a leg, whose answers are fused here
        for leg in body.values():
            _print_body(index, leg, as_json)
        return
    if not as_json:
        click.echo(f"POST /{index}/_search")
    text = json.dumps(body, indent=2, ensure_ascii=False)
    # a vector on one line; inside a string there is no line break, so nothing else is touched
    click.echo(re.sub(r"\[\n[-\d.eE+,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text))


def _to_dict(ranking: Ranking, start: int) -> dict[str, Any]:
    hits = [
        {
            "rank": rank,
            "id": hit.doc_id,
            "score": hit.score,
            **(
                {"legs": {leg: {"rank": at.rank, "score": at.score} for leg, at in hit.legs.items()}}
                if hit.legs
                else {}
            ),
            "source": hit.source,
        }
        for rank, hit in enumerate(ranking.hits, start + 1)
    ]
    told = {"total": ranking.total, "took_ms": ranking.took_ms, "hits": hits}
    if not ranking.reasoning:
        return told
    times = {"reason_ms": ranking.reason_ms, "embed_ms": ranking.embed_ms}
    return told | {"reasoning": [reasoning_row(sample) for sample in ranking.reasoning]} | times


def _columns(catalog: CatalogSettings) -> list[str]:
    """Return the catalog fields to show: the title, the first keyword field (brand) and the first number (price)."""
    return [catalog.title, *catalog.keyword[:1], *catalog.number[:1]]


def _legs(ranking: Ranking, explain: bool) -> list[str]:
    return sorted({leg for hit in ranking.hits for leg in hit.legs}) if explain else []


def _rows(ranking: Ranking, catalog: CatalogSettings, start: int, explain: bool) -> list[list[str]]:
    legs = _legs(ranking, explain)
    return [
        [
            str(rank),
            f"{hit.score:.6g}",
            *(_leg(hit, leg) for leg in legs),
            *(_cell(hit.source.get(name)) for name in _columns(catalog)),
            _cell(hit.doc_id),
        ]
        for rank, hit in enumerate(ranking.hits, start + 1)
    ]


def _leg(hit: Hit, leg: str) -> str:
    place = hit.legs.get(leg)
    return "-" if place is None else f"{place.rank} ({place.score:.6g})"


def _cell(value: object) -> str:
    """Return a value on one line: a product's text must not move the cursor or break a column."""
    text = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def _print_table(ranking: Ranking, catalog: CatalogSettings, start: int, explain: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    legs = _legs(ranking, explain)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name in ("", "score", *(f"{leg} rank (score)" for leg in legs)):
        table.add_column(name, justify="right", no_wrap=True)
    for name in _columns(catalog):
        justify: Literal["right", "left"] = "right" if name in catalog.number else "left"
        # the title takes the room that is left; one hit, one line
        table.add_column(name, justify=justify, no_wrap=True, ratio=1 if name == catalog.title else None)
    table.add_column(catalog.id, no_wrap=True, style="dim")
    for row in _rows(ranking, catalog, start, explain):
        table.add_row(*map(Text, row))
    if ranking.hits:
        console.print(table)
    console.print(_summary(ranking, start), style="dim")


def _summary(ranking: Ranking, start: int) -> str:
    took = f"{ranking.took_ms:g} ms"
    if not ranking.hits:
        return f"no products here, {ranking.total} found in all, {took}" if start else f"no products found, {took}"
    return f"{start + 1} to {start + len(ranking.hits)} of {ranking.total} found, {took}"
