"""Cold start of a unified model: it learns to reason, and to embed with and without its reasoning, all at once.

``L = 0.1 · L_SFT + L_InfoNCE`` (LREM § 3.3). Items are embedded at once; a query gives two vectors in one step, the
direct one and the reasoned one with the teacher's keywords, and L_InfoNCE is the mean over both views: LREM trains the
reasoned one alone, and its direct mode is then worse than a plain embedder's (LREM § 4.3, "Empty-CoT").

Further deviations from the paper:

1. The loss of a query with several positives in the batch is averaged over them: none counts as a negative.
2. Items that a negative query rules out are put into its batch.
3. Reasoning that is cut keeps its closing tokens, but is not learnt to end there.
4. Lines without a catalog take part in L_SFT alone, spread over all batches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrem_os.errors import TrainingError
from lrem_os.model.pooling import l2_normalise
from lrem_os.model.prompts import (
    EMB,
    END_THINK,
    UNIFIED_ITEM_PREFIX,
    reason_answer,
    unified_prompt,
    unified_query,
)
from lrem_os.train.data import TrainingQuery, catalog_batches, chunks
from lrem_os.train.loop import ALONE, Backward, Metrics, Share
from lrem_os.train.losses import info_nce
from lrem_os.train.reasoner import Line, pad_rows, split_head

TokenRow = tuple[list[int], list[int]]
"""Token ids that end in ``<emb>``, and labels, -100 where no loss is."""


@dataclass(frozen=True, slots=True)
class UnifiedBatch:
    """What one step reads.

    Args:
        rows: Numbers of queries.
        items: Numbers of items, each once.
        lines: Numbers of lines that are for L_SFT alone.
    """

    rows: tuple[int, ...]
    items: tuple[int, ...]
    lines: tuple[int, ...]


class UnifiedStage:
    """Trains a causal LM that knows ``<think>``, ``</think>`` and ``<emb>``.

    Args:
        model: The model, perhaps with an adapter, on its device. Dropout is off: two passes must agree.
        tokenizer: Its tokenizer, with the three tokens.
        queries: Per catalog name its training queries; one without a positive in the catalog is for L_SFT alone.
        items: Per catalog name its item texts by id.
        lines: More lines for L_SFT alone.
        batch_size: Queries in a step.
        micro_batch_size: Sequences in one forward pass, by GradCache; none: all of the step.
        share: Which part of the gradient this process computes.
        sft_weight: Weight of L_SFT.
        temperature: InfoNCE's tau.
        max_reasoning_tokens: Longer reasoning is cut (LREM § 4.1: 16).
        max_item_tokens: Longer item texts are cut.

    Raises:
        TrainingError: No query has a positive in its catalog.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        queries: Mapping[str, Sequence[TrainingQuery]],
        items: Mapping[str, Mapping[str, str]],
        lines: Sequence[Line],
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        share: Share = ALONE,
        sft_weight: float = 0.1,
        temperature: float = 0.05,
        max_reasoning_tokens: int = 16,
        max_item_tokens: int = 64,
    ) -> None:
        self._model = model.eval()
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size
        self._share = share
        self._sft_weight = sft_weight
        self._temperature = temperature
        everyone = [(name, query) for name, part in queries.items() for query in part]
        self._queries = [
            (name, query) for name, query in everyone if query.positives.keys() & items.get(name, {}).keys()
        ]
        if not self._queries:
            raise TrainingError("no query has a positive in its catalog", hint="check data.catalogs")
        encoder = _Encoder(tokenizer, max_reasoning_tokens, max_item_tokens)
        self._reasoned = [encoder.reasoned(Line.of(query)) for _, query in self._queries]
        self._direct = [encoder.direct(query.query) for _, query in self._queries]
        self._lines = [encoder.reasoned(line) for line in lines]
        wanted = dict.fromkeys(
            (name, key) for name, query in self._queries for key in (*query.positives, *query.negatives)
        )
        self._item_rows = {key: row for row, key in enumerate(key for key in wanted if key[1] in items[key[0]])}
        self._items = [encoder.item(items[name][key]) for name, key in self._item_rows]

    @property
    def module(self) -> torch.nn.Module:
        """The language model."""
        return self._model

    def plan(self, epoch: int, rng: random.Random) -> list[UnifiedBatch]:
        """Return batches of one catalog each; a positive of every query is drawn, and an item that it rules out."""
        groups = catalog_batches([name for name, _ in self._queries], self._batch_size, rng)
        lines = list(range(len(self._lines)))
        rng.shuffle(lines)
        return [
            UnifiedBatch(tuple(rows), tuple(self._draw_items(rows, rng)), tuple(lines[number :: len(groups)]))
            for number, rows in enumerate(groups)
        ]

    def step(self, batch: UnifiedBatch, step: int, backward: Backward) -> Metrics:
        """Take one step; with GradCache (arXiv 2101.06983) where the sequences do not go into one forward pass."""
        sequences = [
            *(self._reasoned[row] for row in batch.rows),
            *(self._direct[row] for row in batch.rows),
            *(self._items[row] for row in batch.items),
            *(self._lines[row] for row in batch.lines),
        ]
        num_told = len(batch.rows) + len(batch.lines)
        parts = list(chunks(range(len(sequences)), self._micro_batch_size or len(sequences)))
        if len(parts) == self._share.count == 1:
            vectors, sft = self._forward(sequences)
            views = self._contrast(vectors, batch)
            sft = sft / num_told
            backward(views.mean() + self._sft_weight * sft)
        else:
            with torch.no_grad():
                passed = [self._forward([sequences[row] for row in part]) for part in parts]
            sft = torch.stack([part for _, part in passed]).sum() / num_told
            vectors = torch.cat([part for part, _ in passed]).requires_grad_()
            views = self._contrast(vectors, batch)
            (gradient,) = torch.autograd.grad(views.mean(), vectors)
            for part in self._share.of(parts):
                again, part_sft = self._forward([sequences[row] for row in part])
                carried = (again * gradient[list(part)]).sum() + self._sft_weight * part_sft / num_told
                backward(carried * self._share.count)
        reasoned, direct, told = *views.detach().tolist(), sft.item()
        return {
            "loss": (reasoned + direct) / 2 + self._sft_weight * told,
            "reasoned": reasoned,
            "direct": direct,
            "sft": told,
        }

    def _draw_items(self, rows: Sequence[int], rng: random.Random) -> list[int]:
        drawn: dict[int, None] = {}
        for row in rows:
            name, query = self._queries[row]
            for keys in (tuple(query.positives), query.negatives):
                known = [self._item_rows[name, key] for key in keys if (name, key) in self._item_rows]
                drawn.update(dict.fromkeys([rng.choice(known)] if known else []))
        return list(drawn)

    def _forward(self, sequences: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
        """Return the unit vectors at ``<emb>`` (S, D), and the cross-entropy summed over all labelled tokens, ()."""
        device = next(self._model.parameters()).device
        ids, mask, labels = (part.to(device) for part in pad_rows(sequences, self._pad_id))
        backbone, head = split_head(self._model)
        hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state  # (S, T, D)
        ends = hidden[torch.arange(len(ids), device=device), mask.sum(1) - 1].float()
        wanted = labels[:, 1:] != -100
        logits = head(hidden[:, :-1][wanted]).float()
        sft = torch.nn.functional.cross_entropy(
            logits, labels[:, 1:][wanted], reduction="sum"
        )  # 0 where there are none
        return l2_normalise(ends), sft

    def _contrast(self, vectors: Tensor, batch: UnifiedBatch) -> Tensor:
        """Return InfoNCE of the reasoned and of the direct view, each a mean over the queries: (2,)."""
        num = len(batch.rows)
        items = vectors[2 * num : 2 * num + len(batch.items)]
        relevance = torch.zeros((num, len(items)), device=vectors.device)
        places = {row: place for place, row in enumerate(batch.items)}
        for row, number in enumerate(batch.rows):
            name, query = self._queries[number]
            for key, grade in query.positives.items():
                place = places.get(self._item_rows.get((name, key), -1))
                if place is not None:
                    relevance[row, place] = grade
        views = (vectors[:num], vectors[num : 2 * num])
        with torch.autocast(vectors.device.type, enabled=False):  # a cosine in bfloat16 is off by more than it matters
            losses = [info_nce(view @ items.T, relevance, temperature=self._temperature).mean() for view in views]
        return torch.stack(losses)


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Texts to token ids.

    Args:
        tokenizer: With the three tokens.
        max_reasoning_tokens: Of the keywords.
        max_item_tokens: Of an item.
    """

    tokenizer: Any
    max_reasoning_tokens: int
    max_item_tokens: int

    def reasoned(self, line: Line) -> TokenRow:
        """Return a query with its reasoning; the loss is on the keywords and on ``</think>``."""
        prompt, keywords = self._ids(unified_prompt(line.query)), self._ids(reason_answer(line.reasoning))
        end, emb = self._token(END_THINK), self._token(EMB)
        stop = end if len(keywords) <= self.max_reasoning_tokens else -100
        keywords = keywords[: self.max_reasoning_tokens]
        return [*prompt, *keywords, end, emb], [*([-100] * len(prompt)), *keywords, stop, -100]

    def direct(self, query: str) -> TokenRow:
        """Return a query that is embedded at once."""
        ids = self._ids(unified_query(query))
        return ids, [-100] * len(ids)

    def item(self, text: str) -> TokenRow:
        """Return an item, cut so that ``<emb>`` stays."""
        ids = [*self._ids(UNIFIED_ITEM_PREFIX + text)[: self.max_item_tokens - 1], self._token(EMB)]
        return ids, [-100] * len(ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids

    def _token(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))
