"""What a long step tells the caller while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step, and how far it is.

    Args:
        message: What is being done; the same text while the step lasts.
        done: Bytes so far.
        total: Bytes in all; 0 when the step has no measure.
    """

    message: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
