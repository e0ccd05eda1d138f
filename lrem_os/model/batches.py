"""Which texts go through the model together: sorted by length, cut by a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence

MIN_BATCH_TOKENS = 512  # costs 1 to 8 % more than 2048 (MiniLM, one core); smaller was not tried
BATCHES_PER_WORKER = 4  # enough that the workers end together


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Return batches of row numbers, longest texts first, each row in exactly one batch.

    A batch's longest length times its rows is at most ``batch_tokens``, unless it is one row. Longest first: memory
    that does not suffice is noticed at once, and the last batches are short, so that parallel workers end together.

    >>> plan_batches([3, 10, 4, 9], batch_tokens=20)
    [[1, 3], [2, 0]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def share_tokens(num_tokens: int, batch_tokens: int, num_workers: int) -> int:
    """Return the budget of a batch that keeps all workers busy: at most ``batch_tokens``, smaller for a short list."""
    if num_workers == 1:
        return batch_tokens
    return min(batch_tokens, max(MIN_BATCH_TOKENS, num_tokens // (num_workers * BATCHES_PER_WORKER)))
