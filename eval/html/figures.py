"""Numbers as the pages write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lrem_os.eval.compare import ALPHA

NONE = "–"
_STARS = ((0.001, "***"), (0.01, "**"), (ALPHA, "*"))


def number(value: float | None, digits: int = 3) -> str:
    """Return a value with its digits; a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign, the minus as wide as the plus; a dash where there is none.

    >>> signed(-0.0411), signed(0.0)
    ('−0.041', '±0.000')
    """
    if value is None:
        return NONE
    text = f"{value:+.{digits}f}"
    return "±" + text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def span(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Return an interval, or nothing where there is none."""
    if estimate.get("low") is None or estimate.get("high") is None:
        return ""
    return f"[{number(estimate['low'], digits)}, {number(estimate['high'], digits)}]".replace("-", "−")


def p_text(p_value: float | None) -> str:
    """Return a p-value.

    >>> p_text(0.0004), p_text(0.0312), p_text(None)
    ('p < 0.001', 'p = 0.031', 'no test')
    """
    if p_value is None:
        return "no test"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def stars(p_value: float | None) -> str:
    """Return the usual stars: three below 0.001, two below 0.01, one below ``ALPHA``."""
    return "" if p_value is None else next((mark for limit, mark in _STARS if p_value < limit), "")


def milliseconds(value: float | None) -> str:
    """Return a time in ms, or in s from ten seconds on.

    >>> milliseconds(3.21), milliseconds(431.7), milliseconds(12345.0)
    ('3.2 ms', '432 ms', '12.3 s')
    """
    if value is None:
        return NONE
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 and round(value) != round(value, 1) else f"{value:.0f} ms"


def percent(share: float | None) -> str:
    """Return a share in percent; digits only where they say something.

    >>> percent(0.3), percent(0.004), percent(None)
    ('30 %', '0.4 %', '–')
    """
    if share is None:
        return NONE
    value = 100 * share
    text = f"{value:.1f} %" if 0 < abs(value) < 10 and round(value) != round(value, 1) else f"{value:.0f} %"
    return text.replace("-", "−")


def date_text(date: str) -> str:
    """Return an ISO 8601 time as people write it.

    >>> date_text("2026-11-21T20:00:07+00:00")
    '2026-11-21 20:00 UTC'
    """
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        return date
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else f"{moment:%Y-%m-%d %H:%M}"
