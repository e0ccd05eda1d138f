"""Supervised training of a reasoner on teacher lines: the loss is on the keywords and on stopping after them.

Source: LREM § 3.3, L_SFT, averaged over queries and summed over tokens there; here averaged over the tokens of the
batch, so that the learning rate does not depend on the length of the reasoning.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrem_os.model.prompts import reason_answer, reason_prompt
from lrem_os.train.data import EASY, TrainingQuery, chunks, shuffled_batches
from lrem_os.train.loop import ALONE, Backward, Metrics, Share
from lrem_os.train.losses import sft_loss


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a teacher: what is asked, and the keywords it should be answered with (empty: nothing to add)."""

    query: str
    reasoning: str

    @classmethod
    def of(cls, query: TrainingQuery) -> Line:
        """Return what the teacher would have a reasoner answer: nothing to an easy query, whatever it wrote itself."""
        return cls(query.query, "" if query.type == EASY else query.reasoning)


class ReasonerStage:
    """Trains a causal LM to continue ``reason_prompt`` with keywords and the end-of-text token.

    Args:
        model: A transformers causal LM, perhaps with an adapter, on its device.
        tokenizer: Its tokenizer.
        lines: What it learns.
        batch_size: Lines in a step.
        micro_batch_size: Lines in one forward pass, where memory does not hold the whole step; none: all of them.
        share: Which part of each batch this process takes.
        max_reasoning_tokens: Longer reasoning loses its end, and then does not learn to stop there (LREM § 4.1: 16).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        lines: Sequence[Line],
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        share: Share = ALONE,
        max_reasoning_tokens: int = 24,
    ) -> None:
        self._model = model
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size or batch_size
        self._share = share
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self._rows = [encode_line(tokenizer, line, max_reasoning_tokens) for line in lines]

    @property
    def module(self) -> torch.nn.Module:
        """The language model."""
        return self._model

    def plan(self, epoch: int, rng: random.Random) -> list[list[int]]:
        """Return batches of row numbers."""
        return shuffled_batches(range(len(self._rows)), self._batch_size, rng)

    def step(self, batch: list[int], step: int, backward: Backward) -> Metrics:
        """Take one step on a batch of rows: on this process's share of them, in parts, weighted by their tokens."""
        device = next(self._model.parameters()).device
        num_tokens, total = _count_labels([self._rows[row] for row in batch]), 0.0
        for part in chunks(self._share.of(batch), self._micro_batch_size):
            rows = [self._rows[row] for row in part]
            ids, mask, labels = pad_rows(rows, self._pad_id)
            loss = language_model_loss(self._model, ids.to(device), mask.to(device), labels.to(device))
            loss = loss * (self._share.count * _count_labels(rows) / num_tokens)  # exactly 1 where there is one part
            backward(loss)
            total += loss.item()
        return {"loss": total}


def language_model_loss(model: torch.nn.Module, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labelled tokens; logits are computed for those positions alone.

    Shapes: ids, mask, labels (B, T) int64, labels -100 where no loss is -> ()
    """
    backbone, head = split_head(model)
    hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]  # (B, T - 1, D)
    wanted = labels[:, 1:] != -100
    return sft_loss(head(hidden[wanted]), labels[:, 1:][wanted])


def split_head(model: Any) -> tuple[Any, Any]:
    """Return backbone and output head of a causal LM, with the adapter in place if there is one."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.model, causal.lm_head


def pad_rows(rows: Sequence[tuple[list[int], list[int]]], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, mask and labels, filled up on the right.

    Shapes: -> three of (B, T) int64
    """
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    labels = torch.full((len(rows), width), -100)
    for row, (tokens, wanted) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, : len(wanted)] = torch.tensor(wanted)
    return ids, mask, labels


def _count_labels(rows: Sequence[tuple[list[int], list[int]]]) -> int:
    return sum(label != -100 for _, labels in rows for label in labels)


def encode_line(tokenizer: Any, line: Line, max_reasoning_tokens: int) -> tuple[list[int], list[int]]:
    """Return token ids and labels of a line: -100 on the prompt, the stop token unless the reasoning was cut."""
    prompt = tokenizer(reason_prompt(line.query), add_special_tokens=False)["input_ids"]
    answer = tokenizer(reason_answer(line.reasoning), add_special_tokens=False)["input_ids"] if line.reasoning else []
    stop = [tokenizer.eos_token_id] if len(answer) <= max_reasoning_tokens else []
    answer = answer[:max_reasoning_tokens] + stop
    return prompt + answer, [-100] * len(prompt) + answer
