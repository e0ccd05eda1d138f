"""Progress of long work on standard error: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lrem_os.ingest.report import Tally

_PLAIN_EVERY_S = 10.0


@contextmanager
def ingest_progress() -> Iterator[Callable[[Tally], None]]:
    """Yield what the ingest calls with its counters."""
    if sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _plain()


@contextmanager
def _bar() -> Iterator[Callable[[Tally], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("ingest"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[trouble]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("ingest", total=None, rate=0.0, trouble="")

        def update(tally: Tally) -> None:
            progress.update(
                task,
                completed=tally.decided,
                total=tally.total or None,
                rate=tally.decided / max(tally.seconds, 1e-9),
                trouble=_trouble(tally),
            )

        yield update


def _plain() -> Callable[[Tally], None]:
    last = time.monotonic()

    def update(tally: Tally) -> None:
        nonlocal last
        if time.monotonic() - last < _PLAIN_EVERY_S:
            return
        last = time.monotonic()
        rate = tally.decided / max(tally.seconds, 1e-9)
        left_s = (tally.total - tally.decided) / rate if rate else float("inf")
        line = f"ingest: {tally.decided:,} of {tally.total:,} rows, {rate:,.0f}/s, {left_s:,.0f} s left"
        click.echo("; ".join(filter(None, (line, _trouble(tally)))), err=True)

    return update


def _trouble(tally: Tally) -> str:
    failed = f"{tally.failed:,} failed" if tally.failed else ""
    return "; ".join(filter(None, (failed, tally.waiting)))
