"""From values to places on a page: shares of a width in percent, and the round numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Tick:
    """A round value, its place in percent of the width, and how it is written."""

    value: float
    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values laid over a width.

    Args:
        low: Value at 0 %.
        high: Value at 100 %.
        ticks: Round values between them.
        log: Whether equal ratios, not equal differences, are equally wide.
    """

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, in percent, rounded; what lies outside is put on the edge.

        >>> linear([0.0, 0.4]).place(0.1)
        25.0
        """
        return _place(value, self.low, self.high, self.log)


def linear(values: Iterable[float], *, start: float | None = 0.0, parts: int = 5) -> Scale:
    """Return a scale of about ``parts`` equal steps that holds all values.

    Args:
        values: Finite numbers; none of them gives a scale from 0 to 1.
        start: A value that must be on it; none: as tight as the values are.
        parts: Steps wanted.

    >>> [tick.label for tick in linear([0.03, 0.41]).ticks]
    ['0', '0.1', '0.2', '0.3', '0.4', '0.5']
    """
    held = [*values] + ([] if start is None else [start])
    low, high = min(held, default=0.0), max(held, default=1.0)
    if high - low < 1e-9:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / parts)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ends = first * step, last * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if _mantissa(step) == 2.5 else 0)
    ticks = tuple(
        Tick(idx * step, _place(idx * step, *ends, False), f"{idx * step:.{digits}f}".replace("-", "−") if idx else "0")
        for idx in range(first, last + 1)
    )
    return Scale(*ends, ticks)


def symmetric(values: Iterable[float]) -> Scale:
    """Return a scale with 0 in its middle that holds all values."""
    reach = max((abs(value) for value in values), default=1.0) or 1.0
    return linear([-reach, reach], parts=4)


def logarithmic(values: Iterable[float]) -> Scale:
    """Return a scale in powers of ten, with 1, 2 and 5 of each, that holds all positive values.

    >>> [tick.label for tick in logarithmic([3, 40]).ticks]
    ['2', '5', '10', '20', '50']
    """
    held = [value for value in values if value > 0] or [1.0, 10.0]
    marks = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(min(held))), math.ceil(math.log10(max(held))) + 1)
        for factor in (1, 2, 5)
    ]
    low = max((mark for mark in marks if mark <= min(held)), default=marks[0])
    high = min((mark for mark in marks if mark >= max(held) and mark > low), default=marks[-1])
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) > 5:  # the labels would touch
        inside = [mark for mark in inside if f"{mark:e}".startswith("1.")]
    return Scale(low, high, tuple(Tick(mark, _place(mark, low, high, True), f"{mark:g}") for mark in inside), log=True)


def _place(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = (math.log10(max(number, 1e-12)) for number in (value, low, high))
    return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in _STEPS if step * power >= rough * (1 - 1e-9)) * power


def _mantissa(step: float) -> float:
    return round(step / 10.0 ** math.floor(math.log10(step) + 1e-9), 6)
