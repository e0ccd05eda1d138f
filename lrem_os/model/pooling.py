"""From token states to one vector a text. Tensors in, tensors out; sums in float32 whatever the states are in."""

from __future__ import annotations

import torch
from torch import Tensor

from lrem_os.model.contract import Pooling


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean state of the real tokens.

    Shapes: hidden (B, T, D), mask (B, T) bool -> (B, D) float32
    """
    weights = mask.unsqueeze(-1).to(torch.float32)  # (B, T, 1)
    return (hidden.to(torch.float32) * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def cls_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the first real token, on whichever side the padding is.

    Shapes: hidden (B, T, D), mask (B, T) bool -> (B, D) float32
    """
    first = mask.to(torch.int32).argmax(1)  # argmax: the first of equals
    return hidden[torch.arange(len(hidden), device=hidden.device), first].to(torch.float32)


def last_token_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the last real token, on whichever side the padding is.

    Shapes: hidden (B, T, D), mask (B, T) bool -> (B, D) float32
    """
    last = mask.shape[1] - 1 - mask.flip(1).to(torch.int32).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last].to(torch.float32)


def l2_normalise(vectors: Tensor) -> Tensor:
    """Return the vectors at length 1; a zero vector stays zero.

    Shapes: (B, D) -> (B, D)
    """
    return torch.nn.functional.normalize(vectors, dim=1)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector a text, pooled as named.

    Shapes: hidden (B, T, D), mask (B, T) bool -> (B, D) float32
    """
    return {"mean": mean_pool, "cls": cls_pool, "last": last_token_pool}[pooling](hidden, mask)
