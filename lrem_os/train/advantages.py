"""From rewards to advantages, group by group."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, *, floor: float = 1e-4) -> Tensor:
    """Return ``(r - mean) / std`` within each group; zero for a group whose rewards are all the same.

    Args:
        rewards: One row a query, one column a sample.
        floor: A smaller standard deviation counts as none: dividing by it would make noise of rounding.

    Shapes: (B, G) -> (B, G)
    Source: LREM § 3.4, GRPO; the standard deviation is that of the group (divided by G).
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True, correction=0)
    return torch.where(spread > floor, centred / spread.clamp(min=floor), torch.zeros_like(centred))


def most_telling(advantages: Tensor, keep: int) -> Tensor:
    """Return a mask of the ``keep`` samples of each group with the largest absolute advantage, none that is zero.

    What is left out costs no backward pass: half of the samples carry most of the gradient.

    Shapes: (B, G) -> (B, G) bool
    Source: arXiv 2504.13818 (PODS), which keeps the subset of highest variance; this is its two-sided approximation.
    """
    order = advantages.abs().argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(advantages, dtype=torch.bool)
    mask.scatter_(1, order[:, :keep], value=True)
    return mask & (advantages != 0)
