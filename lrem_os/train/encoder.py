"""Texts to unit vectors with a gradient, in parts where a batch is larger than the memory (GradCache)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrem_os.model.contract import Pooling
from lrem_os.model.pooling import l2_normalise, pool


class TextEncoder:
    """Embeds as ``lrem_os.model.hf.HfEmbedder`` does, without dropout, but keeps the gradient.

    Args:
        model: Gives ``last_hidden_state``; on its device.
        tokenizer: Its tokenizer.
        pooling: How token states become one vector.
        max_tokens: Longer texts lose their end.
        lowercase: Whether texts are lower-cased first.
    """

    def __init__(
        self, model: torch.nn.Module, tokenizer: Any, *, pooling: Pooling, max_tokens: int, lowercase: bool = False
    ) -> None:
        self.model = model.eval()  # no dropout: two passes over the same text must agree, and a resumed run too
        self._tokenizer = tokenizer
        self._pooling: Pooling = pooling
        self._max_tokens = max_tokens
        self._lowercase = lowercase
        tokenizer.padding_side = "right"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return (B, D) float32 unit vectors."""
        device = next(self.model.parameters()).device
        batch = self._tokenizer(
            [text.lower() if self._lowercase else text for text in texts],
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(device)
        hidden = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return l2_normalise(pool(hidden, batch["attention_mask"].bool(), self._pooling))


class CachedTexts:
    """The vectors of many texts, held without their graph; ``backward`` runs the texts again, part by part.

    The gradient is that of one large batch, the memory that of one part.

    Args:
        encoder: Turns texts into vectors.
        texts: All of them.
        chunk: Texts in a part.

    Source: GradCache (arXiv 2101.06983).
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], chunk: int) -> None:
        self._encoder = encoder
        self._parts = [texts[first : first + chunk] for first in range(0, len(texts), chunk)]
        if len(self._parts) == 1:  # it fits: one pass does
            self.vectors = encoder(texts)
            self._graph: Tensor | None = self.vectors
        else:
            with torch.no_grad():
                vectors = torch.cat([encoder(part) for part in self._parts])
            self.vectors = vectors.requires_grad_()
            self._graph = None

    def backward(self) -> None:
        """Carry the gradient that has arrived at ``vectors`` into the weights; nothing to do where it fitted."""
        if self._graph is not None or self.vectors.grad is None:
            return
        first = 0
        for part in self._parts:
            gradient = self.vectors.grad[first : first + len(part)]
            torch.autograd.backward(self._encoder(part), gradient)
            first += len(part)
