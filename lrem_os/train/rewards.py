"""Rewards of a reasoning: plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence

FORMAT_WEIGHT = 0.5  # LREM § 3.4: r = 0.5 format + 0.2 length + accuracy
LENGTH_WEIGHT = 0.2


def rank_reward(ranks: Sequence[int], num_items: int) -> float:
    """Return ``1 - log rank / log N``, averaged over the positives: 1 for the first place, 0 for the last.

    Args:
        ranks: Of the positives among all items, from 1.
        num_items: N, more than one.

    Source: LREM § 3.4, r_acc, there with one positive among the items of the batch.

    >>> rank_reward([1], 100), rank_reward([10], 100), rank_reward([100], 100)
    (1.0, 0.5, 0.0)
    """
    if not ranks:
        raise ValueError("a query without positives has no rank reward")
    return sum(1 - math.log(rank) / math.log(num_items) for rank in ranks) / len(ranks)


def format_reward(ended: bool) -> float:
    """Return 1 if the model ended its reasoning itself, else 0 (LREM § 3.4, r_format)."""
    return float(ended)


def length_reward(num_tokens: int, limit: int) -> float:
    """Return 1 up to the limit, else 0 (LREM § 3.4, r_length, with l = 16).

    >>> length_reward(16, 16), length_reward(17, 16)
    (1.0, 0.0)
    """
    return float(num_tokens <= limit)


def repeated_share(words: Sequence[str]) -> float:
    """Return the share of words that stood there before.

    >>> repeated_share(["red", "bag", "red", "red"])
    0.5
    """
    return 1 - len(set(words)) / len(words) if words else 0.0
