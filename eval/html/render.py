"""A report as one HTML file. Everything from outside is escaped, and a policy in the file keeps strange scripts out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from lrem_os.eval.html import costs, quality, queries
from lrem_os.eval.html.figures import date_text
from lrem_os.extras import require


def render_report(report: Mapping[str, Any]) -> str:
    """Return the page of a report, see ``lrem_os.eval.report.to_dict``.

    Raises:
        DependencyMissing: jinja2 is not installed.
    """
    card, moved = report["card"], queries.movers(report)
    return render(
        "report",
        card=card,
        runs=list(report["runs"]),
        measures=card["measures"],
        findings=quality.findings(report),
        summary=quality.summary(report),
        slices=quality.slices(report),
        deltas=queries.deltas(report),
        movers=moved,
        traced=any(row["route"] or row["keywords"] for row in moved),
        curve=costs.curve(report),
        latency=costs.latency(report),
        spending=costs.spending(report),
        robustness=costs.robustness(report),
        date=date_text(card["date"]),
        facts=_facts(card),
        system=json.dumps(card["system"], indent=2, ensure_ascii=False) if card["system"] else "",
    )


def render(page: str, **values: Any) -> str:
    """Return a page from its template, with its style, its script and the style all pages share inside.

    Raises:
        DependencyMissing: jinja2 is not installed.
    """
    jinja2, markupsafe = require("jinja2", extra="eval"), require("markupsafe", extra="eval")
    script = _asset(f"{page}.js")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return str(
        environment.get_template(f"{page}.html.j2").render(
            css=markupsafe.Markup(_asset("base.css") + _asset(f"{page}.css")),
            script=markupsafe.Markup(script),
            policy=_policy(script),
            **values,
        )
    )


def render_sheet(data: Mapping[str, Any]) -> str:
    """Return the page on which two runs are judged, see ``lrem_os.eval.sbs.page_data``.

    Raises:
        DependencyMissing: jinja2 is not installed.
    """
    return render("sheet", data=data, count=len(data["pairs"]))


def _policy(script: str) -> str:
    """Return a Content-Security-Policy: no network at all, and of scripts only ours."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}'"
    return f"default-src 'none'; style-src 'unsafe-inline'; {scripts}; base-uri 'none'; form-action 'none'"


def _asset(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the run card's plain lines."""
    interval, test = card["interval"], card["test"]
    facts = [
        ("date", date_text(card["date"])),
        ("version", card["version"]),
        ("commit", card["commit"]),
        ("configuration", card["config_hash"]),
        ("queries", f"{card['num_queries']}, of which {card['num_evaluated']} count"),
        ("left out", _left_out(card)),
        ("relevant from grade", str(card["min_grade"])),
        ("baseline", card["baseline"]),
        ("interval", f"{interval['method']}, {interval['resamples']} resamples, seed {interval['seed']}"),
        (
            "test",
            f"{test['method']}, {test['resamples']} resamples, seed {test['seed']}, {test['correction']} correction",
        ),
    ]
    return [(name, value) for name, value in facts if value]


def _left_out(card: Mapping[str, Any]) -> str:
    parts = [
        f"{len(card['unjudged'])} not judged" if card["unjudged"] else "",
        f"{len(card['without_relevant'])} with nothing relevant" if card["without_relevant"] else "",
        f"judgments of {card['num_extra_judged']} other queries" if card["num_extra_judged"] else "",
    ]
    return ", ".join(part for part in parts if part)
