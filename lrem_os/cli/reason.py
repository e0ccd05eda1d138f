"""``lrem-os reason``: a query in, the keywords of each sample out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.types import Reasoning


@click.command()
@click.argument("query")
@click.option("--samples", type=click.IntRange(1, 64), help="Reasonings to write  [default: reasoning.samples].")
@json_option
@config_options
def reason(query: str, samples: int | None, as_json: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Show what the reasoner says about a query: keywords, confidence and tokens of each sample.

    No index and no cluster is needed. `-` among the keywords means that the reasoner had nothing to add; `…` that the
    token limit ended the sample.

    \b
    lrem-os reason "la mer dupe"
    lrem-os reason "what do I put under a hot pot" --samples 4 --json
    """
    from lrem_os import api
    from lrem_os.config import load_settings

    wanted = () if samples is None else (f"reasoning.samples={samples}",)
    settings = load_settings(config_path, (*overrides, *wanted)).settings
    [found] = api.reason_about(settings, [query])
    if as_json:
        print_json({"query": query, "samples": [reasoning_row(sample) for sample in found]})
        return
    for number, sample in enumerate(found, 1):
        click.echo(reasoning_line(sample, number))


def reasoning_row(sample: Reasoning) -> dict[str, Any]:
    """Return a sample as JSON values; a confidence that is not known is null."""
    return {
        "keywords": list(sample.keywords),
        "text": sample.text,
        "num_tokens": sample.num_tokens,
        "truncated": sample.truncated,
        "confidence": None if math.isnan(sample.confidence) else sample.confidence,
    }


def reasoning_line(sample: Reasoning, number: int) -> str:
    """Return a sample as a tab-separated line: number, confidence, tokens, keywords."""
    confidence = "-" if math.isnan(sample.confidence) else f"{sample.confidence:.3f}"
    tokens = f"{sample.num_tokens}{'…' if sample.truncated else ''}"
    keywords = "".join(char if char.isprintable() else " " for char in ", ".join(sample.keywords))
    return f"{number}\t{confidence}\t{tokens}\t{keywords or '-'}"
