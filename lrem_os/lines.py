"""Files of lines that runs add to: a kill leaves a torn last line, and two runs at once would mix theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lrem_os.errors import RunError


def cut_torn_line(path: Path) -> None:
    """Cut a last line that a kill has left without its end, so that what is added begins on a line of its own.

    The whole lines are never written again, so that a second kill costs none of them. Raises ``OSError``.
    """
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)


def claim(file: IO[bytes] | int) -> None:
    """Lock an open file or folder until it is closed. Raises ``BlockingIOError`` where another run holds it."""
    import fcntl  # POSIX only

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def claimed_folder(folder: Path, *, hint: str) -> Iterator[None]:
    """Make a folder, and keep other runs out of it.

    Raises:
        RunError: It cannot be made, or another run is writing into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as exc:
        raise RunError(f"cannot make the folder {folder}: {exc.strerror or exc}", hint=hint) from exc
    try:
        try:
            claim(handle)
        except BlockingIOError as exc:
            raise RunError(f"another run is writing into the folder {folder}", hint=f"wait for it, or {hint}") from exc
        except OSError:
            pass  # a file system without locks on folders
        yield
    finally:
        os.close(handle)
