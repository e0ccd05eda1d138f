"""Progress of runs on standard error: a bar a run in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

_PLAIN_EVERY_S = 10.0


@contextmanager
def eval_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what is told run, queries answered and queries in all."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(run: str, done: int, total: int) -> None:
            if run not in tasks:
                tasks[run] = bar.add_task(run, total=total)
            bar.update(tasks[run], completed=done)

        yield advance


def _plain() -> Callable[[str, int, int], None]:
    last = time.monotonic()

    def update(run: str, done: int, total: int) -> None:
        nonlocal last
        if done < total and time.monotonic() - last < _PLAIN_EVERY_S:
            return
        last = time.monotonic()
        click.echo(f"{run}: {done:,} of {total:,}", err=True)

    return update
