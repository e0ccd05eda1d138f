"""Shows a node's progress: a bar in a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lrem_os.node.progress import OnProgress, Progress

_QUARTER = 25  # plain lines: one at the start, then one each quarter of a download


@contextmanager
def node_progress() -> Iterator[OnProgress]:
    """Give a function to pass as ``on_progress``."""
    if sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines()


def _lines() -> OnProgress:
    shown: set[tuple[str, int]] = set()

    def show(progress: Progress) -> None:
        quarter = 100 * progress.done // progress.total // _QUARTER * _QUARTER if progress.total else 0
        if (progress.message, quarter) not in shown:
            shown.add((progress.message, quarter))
            suffix = f" {quarter} % of {progress.total / 1e6:.1f} MB" if progress.total else ""
            click.echo(f"{progress.message}{suffix}", err=True)

    return show


@contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    class Measured(ProgressColumn):
        """A column that stays empty for a step without a measure."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__()
            self.column = column

        def render(self, task: Task) -> RenderableType:
            return self.column.render(task) if task.total else ""

    columns = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *map(Measured, (BarColumn(), DownloadColumn(), TransferSpeedColumn())),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    with columns as bars:

        def show(progress: Progress) -> None:
            for message in tasks.keys() - {progress.message}:
                bars.remove_task(tasks.pop(message))
            if progress.message not in tasks:
                tasks[progress.message] = bars.add_task(progress.message, total=progress.total or None)
            bars.update(tasks[progress.message], completed=progress.done, total=progress.total or None)

        yield show
