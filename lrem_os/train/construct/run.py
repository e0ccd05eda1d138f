"""The loop that every construction shares: windows of inputs in, lines out, a checkpoint after each.

A run that is killed at any moment goes on where it stopped when it is started again: the journal says how far it came
and how long the output was then; what was written after that is cut off and written again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import orjson

from lrem_os.errors import DatasetError, GenerationError, TrainingError
from lrem_os.train.construct.journal import Checkpoint, Journal
from lrem_os.train.construct.lines import Unusable

T = TypeVar("T")
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be used: written to the file of failures, which can be the input of another run.

    Args:
        line: Where it stands, from 1.
        query_id: Its id.
        query: Its text.
        step: What failed.
        error: How.
        partial: Only a part of it failed, and the rest was used.
    """

    line: int
    query_id: str
    query: str
    step: str
    error: str
    partial: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of one window.

    Args:
        rows: Lines for the training file.
        failures: Inputs that a step failed on.
        counts: How many of what.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


Process = Callable[[Sequence[T], Journal], Outcome]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a run, named after its output."""

    out: Path

    def __post_init__(self) -> None:
        if self.out.suffix != ".jsonl":
            raise TrainingError(
                f"the output {str(self.out)!r} is not named .jsonl", hint="it is JSON Lines: name it so"
            )

    @property
    def failed(self) -> Path:
        """Inputs that failed, with the reason."""
        return self.out.with_suffix(".failed.jsonl")

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.out.with_suffix(".journal.jsonl")

    def prepare(self, *, restart: bool) -> None:
        """Make the folder.

        Raises:
            TrainingError: There is output that no journal belongs to.
        """
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=self.out) from exc
        if self.out.exists() and not self.journal.exists() and not restart:
            raise TrainingError(
                f"{self.out} is there already, and no journal to go on with", hint="--restart, or another --out"
            )


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """One construction.

    Args:
        inputs: What is read, in the same order every time.
        process: Makes lines of a window.
        header: See ``Journal``.
        limit: Read no more entries than this.
        on_progress: Called after every window and every ``answers``, by one thread at a time, with the counts.
        window: Inputs in a window; the same for a run that goes on, or a few steps are done again.
    """

    inputs: Iterable[T | Unusable]
    process: Process[T]
    header: Mapping[str, Any]
    limit: int | None = None
    on_progress: Callable[[Counts], None] = lambda _counts: None
    window: int = 64

    def write(self, files: Files, *, restart: bool = False) -> dict[str, int]:
        """Write the files; return the counts, those of earlier runs that this one went on from included.

        Raises:
            TrainingError: The output belongs to another run.
            GenerationError: A model that is needed does not answer; start again to go on.
        """
        files.prepare(restart=restart)
        with ExitStack() as stack:
            counts: Counter[str] = Counter()
            answers = count(1)
            journal = stack.enter_context(
                Journal(
                    files.journal,
                    self.header,
                    restart=restart,
                    on_record=lambda: self.on_progress({**counts, "answers": next(answers)}),
                )
            )
            start = journal.checkpoint
            counts.update(start.counts)
            out = stack.enter_context(_reopen(files.out, start))
            failed = stack.enter_context(_reopen(files.failed, start))
            entries = iter(islice(self.inputs, self.limit))
            position = sum(1 for _ in islice(entries, start.position))
            while chunk := list(islice(entries, self.window)):
                outcome = self._work(chunk, journal)
                counts.update(outcome.counts)
                _check_progress(counts, outcome)
                position += len(chunk)
                sizes = {
                    files.out.name: _write(out, outcome.rows),
                    files.failed.name: _write(failed, map(_failure_row, outcome.failures)),
                }
                journal.commit(Checkpoint(position, sizes, dict(counts)))
                self.on_progress(counts)
            return dict(counts)

    def _work(self, chunk: Sequence[T | Unusable], journal: Journal) -> Outcome:
        inputs = [entry for entry in chunk if not isinstance(entry, Unusable)]
        left_out = [entry for entry in chunk if isinstance(entry, Unusable)]
        bad = [entry for entry in left_out if not entry.duplicate]
        outcome = self.process(inputs, journal) if inputs else Outcome()
        outcome.counts.update(
            read=len(chunk),
            unusable=len(bad),
            duplicate=len(left_out) - len(bad),
            failed=sum(not failure.partial for failure in outcome.failures),
            written=len(outcome.rows),
        )
        outcome.failures += [Failure(entry.line, "", entry.text, "read", entry.reason) for entry in bad]
        return outcome


def _check_progress(counts: Counts, outcome: Outcome) -> None:
    """Raise when nothing has ever worked: no input is at fault then."""
    usable = counts["read"] - counts["unusable"] - counts["duplicate"]
    if usable and counts["failed"] >= usable:
        last = next(failure for failure in reversed(outcome.failures) if failure.step != "read")
        raise GenerationError(
            f"all of the first {usable} inputs failed, the last in step {last.step!r}: {last.error}",
            hint="put it right and start again: the run goes on where it stopped",
        )


def _reopen(path: Path, start: Checkpoint) -> IO[bytes]:
    """Open for appending at the length of the checkpoint."""
    size = start.sizes.get(path.name, 0)
    try:
        file = path.open("ab")
        if os.fstat(file.fileno()).st_size < size:
            file.close()
            raise TrainingError(
                f"{path} is shorter than the journal says", hint="it was changed or deleted: start over with --restart"
            )
        file.truncate(size)
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=path) from exc
    return file


def _write(file: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    """Append lines, wait until they are on disk, return the size."""
    for row in rows:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    file.flush()
    os.fsync(file.fileno())
    return os.fstat(file.fileno()).st_size  # not tell(): it stays where it was when the file was cut


def _failure_row(failure: Failure) -> dict[str, Any]:
    row = {"qid": failure.query_id, "query": failure.query, "line": failure.line}
    return row | {"step": failure.step, "error": failure.error}
