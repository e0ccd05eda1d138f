"""The losses: tensors in, a scalar or one value a query out, each with its source."""

from __future__ import annotations

import torch
from torch import Tensor

RI_EPSILON = 1e-6  # ReasonEmbed's code: keeps a perfect reasoned loss from dividing by zero


def sft_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of labelled tokens; zero where there are none.

    Shapes: logits (N, V), labels (N,) int64 -> ()
    Source: LREM § 3.3, L_SFT (there summed over the tokens of a query).
    """
    if len(labels) == 0:
        return logits.sum() * 0.0
    return torch.nn.functional.cross_entropy(logits.float(), labels)


def info_nce(similarities: Tensor, relevance: Tensor, *, temperature: float, ignored: Tensor | None = None) -> Tensor:
    """Return InfoNCE of each query: zero for a query that has no relevant item.

    With several relevant items each is set against the irrelevant ones alone, and the terms are averaged by grade, so
    that positives never push one another away. With one relevant item this is InfoNCE as printed.

    Args:
        similarities: Cosines of queries and items.
        relevance: Grades; 0: not relevant.
        temperature: The papers' tau.
        ignored: Items that are neither (false negatives); they take no part.

    Shapes: similarities, relevance (B, N), ignored (B, N) bool -> (B,)
    Source: LREM § 3.3, L_InfoNCE; the mask as in Redapter and in arXiv 2606.01504.
    """
    logits = similarities.float() / temperature
    out = relevance > 0 if ignored is None else (relevance > 0) | ignored
    against = torch.logsumexp(logits.masked_fill(out, -torch.inf), dim=1, keepdim=True)  # (B, 1)
    terms = torch.nn.functional.softplus(against - logits)  # -log(e^p / (e^p + sum of e^n))
    weights = relevance / relevance.sum(1, keepdim=True).clamp(min=1e-9)
    return torch.where(relevance > 0, terms * weights, torch.zeros_like(terms)).sum(1)


def symmetric_info_nce(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """Return InfoNCE between rows that belong together, in both directions, averaged.

    Shapes: left, right (B, D) unit vectors -> ()
    """
    logits = (left @ right.T).float() / temperature
    labels = torch.arange(len(left), device=left.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def redapter_weights(direct: Tensor, reasoned: Tensor, *, kappa: float = 5.0) -> Tensor:
    """Return the weight of each query: how much reasoning helps it, in shares of the batch; no gradient.

    ``RI = L_q / L_q'`` clamped to [0, kappa], then divided by its sum.

    Args:
        direct: InfoNCE of the queries alone.
        reasoned: InfoNCE of the same queries with their reasoning, against the same items.
        kappa: Highest RI.

    Shapes: direct, reasoned (B,) -> (B,), sums to 1
    Source: ReasonEmbed § 3.3 (Redapter); kappa = 5.
    """
    intensity = (direct.detach() / (reasoned.detach() + RI_EPSILON)).clamp(0.0, kappa)
    total = intensity.sum()
    return intensity / total if total > 0 else torch.full_like(intensity, 1 / max(1, len(intensity)))


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """Return GRPO's clipped surrogate, averaged over the sequences.

    Shapes: logprobs, old_logprobs, advantages (B,), the log probabilities summed over a sequence's tokens -> ()
    Source: LREM § 3.4, L_GRPO: the ratio is one of whole sequences there, and there is no KL term.
    """
    ratio = torch.exp(logprobs - old_logprobs.detach())
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()
