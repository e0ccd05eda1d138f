"""``lrem-os route``: a query in, the router's decision and its reasons out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.routing import Explanation


@click.command()
@click.argument("query")
@click.option("--offline", is_flag=True, help="Decide without OpenSearch, as when its signals come too late.")
@json_option
@config_options
def route(query: str, offline: bool, as_json: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Show whether a query would be reasoned about, and why: score, threshold, features.

    The threshold is the one that a service starts with; under route.budget share it then follows the queries that come.
    Beside each feature stands what it adds to the logit of the score.

    \b
    lrem-os route "what do I put under a hot pot"
    lrem-os route "red leather handbag" --json --set route.share=0.1
    """
    from lrem_os.config import load_settings
    from lrem_os.routing import explain_route

    settings = load_settings(config_path, overrides).settings
    found = explain_route(settings, query, offline=offline)
    if as_json:
        print_json({"query": query, **explanation_row(found)})
        return
    for line in explanation_lines(found):
        click.echo(line)


def explanation_row(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON values; what was not computed is null."""
    decision = found.decision
    return {
        "reasoned": decision.reasoned,
        "why": decision.why,
        "score": _known(decision.score),
        "interval": [_known(end) for end in decision.interval],
        "threshold": _known(decision.threshold),
        "gain": _known(decision.gain),
        "with_signals": found.with_signals,
        "features": dict(decision.features),
        "contributions": dict(found.contributions),
    }


def explanation_lines(found: Explanation) -> list[str]:
    """Return an explanation as tab-separated lines, the features that weigh most first."""
    decision = found.decision
    lines = [f"{'reasoned' if decision.reasoned else 'direct'}\t{decision.why}"]
    if math.isnan(decision.score):
        return lines
    low, high = decision.interval
    lines += [
        f"score\t{decision.score:.3f}\t{low:.3f} to {high:.3f}",
        f"threshold\t{decision.threshold:.3f}",
        f"expected gain\t{decision.gain:+.3f}",
    ]
    if not found.with_signals:
        lines.append("signals\tnone: decided before retrieval")
    features = decision.features
    return lines + [f"{name}\t{features[name]:.3f}\t{added:+.3f}" for name, added in found.contributions.items()]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
