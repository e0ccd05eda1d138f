"""What a killed run leaves behind: an append-only file of finished steps, from which the next run goes on.

One JSON object a line: a header that says which run it belongs to, steps ``{key, step, value}``, and checkpoints.
Inputs are worked on in windows; a checkpoint ends one. So a run that goes on holds the steps since the last checkpoint
in memory and nothing else, however long the journal is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from lrem_os.errors import DatasetError, TrainingError
from lrem_os.lines import claim


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands between two windows.

    Args:
        position: Input entries that are done.
        sizes: Bytes that each output file has.
        counts: What was counted so far.
    """

    position: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Journal:
    """The journal of one run, open for writing. ``once`` may be called from several threads.

    Args:
        path: The file; made if it is not there.
        header: What must be the same for a run to go on where another stopped: inputs, prompts, models, settings.
        restart: Forget what it holds.
        on_record: Called after every finished step, by one thread at a time.

    Raises:
        TrainingError: It belongs to another run, or to one that is still at work.
        DatasetError: It is damaged other than by being cut off.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        restart: bool = False,
        on_record: Callable[[], None] = lambda: None,
    ) -> None:
        self.checkpoint = Checkpoint()
        self._path, self._on_record = path, on_record
        self._steps: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        try:
            self._file: IO[bytes] = path.open("ab")
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=path) from exc
        try:
            self._claim()  # first: the file of a run that is at work is not to be emptied
            if restart:
                self._file.truncate(0)
            self._restore(orjson.loads(orjson.dumps(dict(header))))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def recall(self, key: str, step: str) -> Any:
        """Return the value of a step that was finished in this window, or ``None``."""
        return self._steps.get((key, step))

    def record(self, key: str, step: str, value: Any) -> None:
        """Note a finished step. ``value`` is JSON, and not ``None``."""
        with self._lock:
            self._steps[key, step] = value
            self._append({"key": key, "step": step, "value": value})
            self._on_record()

    def once(self, key: str, step: str, compute: Callable[[], Any]) -> Any:
        """Return the value of a step; compute it only where no run before has."""
        value = self.recall(key, step)
        if value is None:
            value = compute()
            self.record(key, step, value)
        return value

    def commit(self, checkpoint: Checkpoint) -> None:
        """End a window: its steps are not needed any more. On disk when this returns."""
        with self._lock:
            self._append({"checkpoint": asdict(checkpoint)})
            os.fsync(self._file.fileno())
            self._steps.clear()
            self.checkpoint = checkpoint

    def _append(self, value: Mapping[str, Any]) -> None:
        self._file.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()

    def _claim(self) -> None:
        try:
            claim(self._file)
        except OSError as exc:
            raise TrainingError(
                f"another run is writing {self._path}", hint="wait for it, or choose another --out"
            ) from exc

    def _restore(self, header: Mapping[str, Any]) -> None:
        end = 0
        found: dict[str, Any] | None = None
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # torn by the kill
                entry = self._parse(line, number)
                end += len(line)
                if found is None:
                    found = entry.get("header") or {}
                    self._check(found, header)
                elif "checkpoint" in entry:
                    self.checkpoint = Checkpoint(**entry["checkpoint"])
                    self._steps.clear()
                else:
                    self._steps[entry["key"], entry["step"]] = entry["value"]
        self._file.truncate(end)
        if found is None:
            self._append({"header": header})

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise DatasetError(
                f"the journal is damaged: {exc}", path=self._path, line=number, hint="start over with --restart"
            ) from exc
        if not isinstance(entry, dict):
            raise DatasetError("is no line of a journal", path=self._path, line=number, hint="choose another --out")
        return entry

    def _check(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        for name in [*header, *found]:
            if found.get(name) != header.get(name):
                raise TrainingError(
                    f"{self._path} belongs to a run with another {name}: {found.get(name)!r}, now {header.get(name)!r}",
                    hint="--restart starts over; another --out keeps both",
                )
