"""Naming the rows of a batch that went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrem_os.errors import EmbeddingError
from lrem_os.types import Vectors

_NAMED = 10  # in a message


def listed(rows: Sequence[int]) -> str:
    """Return row numbers for a message, the first ten by name.

    >>> listed(range(12))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(map(str, rows[:_NAMED])) + more


def check_finite(vectors: Vectors, *, hint: str | None = None) -> None:
    """Refuse vectors that hold something other than numbers.

    Args:
        vectors: Shape (B, D).
        hint: What to do about it.

    Raises:
        EmbeddingError: Rows hold NaN or infinity.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    if bad:
        raise EmbeddingError(f"the model gave NaN or infinity for rows {listed(bad)} of {len(vectors)}", hint=hint)
