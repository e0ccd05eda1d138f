"""Progress of a training run on standard error: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lrem_os.train.loop import Progress

_PLAIN_EVERY_S = 10.0


@contextmanager
def train_progress(stage: str) -> Iterator[Callable[[Progress], None]]:
    """Yield what a run calls after every step. Nothing is shown before the first one."""
    with ExitStack() as stack:
        yield _bar(stage, stack) if sys.stderr.isatty() else _plain(stage)


def _bar(stage: str, stack: ExitStack) -> Callable[[Progress], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(stage), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rest]}"))
    started: list[tuple[Bar, TaskID]] = []
    rate = _rate()

    def update(progress: Progress) -> None:
        if not started:
            bar = stack.enter_context(Bar(*columns, console=Console(stderr=True)))
            started.append((bar, bar.add_task(stage, total=progress.num_steps, rest="")))
        bar, task = started[0]
        bar.update(task, completed=progress.step, rest=_rest(progress, rate(progress)))

    return update


def _plain(stage: str) -> Callable[[Progress], None]:
    last = time.monotonic()
    rate = _rate()

    def update(progress: Progress) -> None:
        nonlocal last
        steps_per_s = rate(progress)
        if time.monotonic() - last < _PLAIN_EVERY_S:
            return
        last = time.monotonic()
        click.echo(f"{stage}: {progress.step:,} of {progress.num_steps:,}, {_rest(progress, steps_per_s)}", err=True)

    return update


@contextmanager
def count_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many of how many are done; a line now and then."""
    last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY_S:
            last = time.monotonic()
            click.echo(f"{name}: {done:,} of {total:,}", err=True)

    yield update


def _rate() -> Callable[[Progress], float]:
    """Return what tells steps a second of this start: a resumed run's earlier steps do not count."""
    first: list[int] = []

    def rate(progress: Progress) -> float:
        if not first:
            first.append(progress.step - 1)
        return (progress.step - first[0]) / max(progress.elapsed_s, 1e-9)

    return rate


def _rest(progress: Progress, steps_per_s: float) -> str:
    left_s = (progress.num_steps - progress.step) / steps_per_s
    minutes, seconds = divmod(round(left_s), 60)
    metrics = ", ".join(f"{name} {value:.3g}" for name, value in progress.metrics.items())
    return f"{steps_per_s:.2f} steps/s, {minutes // 60}:{minutes % 60:02}:{seconds:02} left; {metrics}"
