"""Reinforcement learning of a reasoner on the rank its keywords give to the right products: GRPO.

Source: LREM § 3.4. Deviations from the paper:

1. The rank is taken among all products of the catalog, not those of the batch: with N small, r_acc is soon 1.
2. A query may have several positives; r_acc is averaged over them.
3. What is served is the mean of several samples, so a sample also earns what the mean of the group gains by it.
4. A sample cannot be empty, and one of which the rules leave nothing is fined: otherwise the model soon answers
   nothing to every query, since a first reasoner does more harm than good. (Tried: after 25 steps every answer was
   empty.) When to be silent is learnt from lines without reasoning, in the loss of 5.
5. The language-model loss of the supervised stage is kept beside the reward, on a few lines a step.
6. Of each group only the samples with the largest advantages are used for the gradient (``keep``), see
   ``advantages.most_telling``: on a CPU the backward pass is most of the time.
7. On-policy: one update a batch, so the ratio is 1 and the clip is idle.
8. The embedder is frozen (composed model), so there is no InfoNCE term here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lrem_os.model.decoding import draws_for, generate
from lrem_os.model.prompts import reason_prompt
from lrem_os.model.reasoning import parse_reasoning
from lrem_os.train.advantages import group_advantages, most_telling
from lrem_os.train.data import TrainingQuery, chunks, shuffled_batches
from lrem_os.train.embedder import Shelf
from lrem_os.train.loop import Backward, Metrics
from lrem_os.train.losses import policy_loss
from lrem_os.train.reasoner import Line, encode_line, language_model_loss, pad_rows, split_head
from lrem_os.train.rewards import (
    FORMAT_WEIGHT,
    LENGTH_WEIGHT,
    format_reward,
    length_reward,
    rank_reward,
    repeated_share,
)
from lrem_os.train.settings import RlOptions
from lrem_os.types import Embedder, Vectors


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled reasoning.

    Args:
        prompt: Token ids before it.
        tokens: Its own token ids.
        ended: Whether it stopped by itself.
        keywords: What search would use of it, after the rules.
    """

    prompt: Sequence[int]
    tokens: Sequence[int]
    ended: bool
    keywords: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """r_acc of one query.

    Args:
        direct: Without reasoning.
        single: With each sample alone, shape (G,).
        served: With the mean of all samples.
        marginal: What ``served`` gains by each sample, shape (G,).
    """

    direct: float
    single: npt.NDArray[np.float64]
    served: float
    marginal: npt.NDArray[np.float64]


class RlStage:
    """Trains a causal LM, perhaps with an adapter, by the rank of the positives.

    Args:
        model: The policy, on its device.
        tokenizer: Its tokenizer.
        embedders: Give the vectors that are ranked with; a query's is ``embedders[fold(query)]``, so that one that
            was trained on a query need not be the one that judges it.
        fold: Which embedder judges a query.
        queries: Catalog name and query.
        lines: Of the supervised stage.
        shelves: The catalogs, by name.
        batch_size: Queries in a step.
        options: What to do.
        seed: Of the sampling.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        embedders: Sequence[Embedder],
        fold: Callable[[str], int],
        queries: Sequence[tuple[str, TrainingQuery]],
        lines: Sequence[Line],
        shelves: Mapping[str, Shelf],
        *,
        batch_size: int,
        options: RlOptions | None = None,
        seed: int = 0,
    ) -> None:
        options = options or RlOptions()
        self._model = model
        self._tokenizer = tokenizer
        self._embedders = embedders
        self._fold = fold
        self._queries = queries
        self._lines = [encode_line(tokenizer, line, options.max_tokens) for line in lines]
        self._shelves = shelves
        self._batch_size = batch_size
        self._options = options
        self._seed = seed

    @property
    def module(self) -> torch.nn.Module:
        """The policy."""
        return self._model

    def plan(self, epoch: int, rng: random.Random) -> list[list[int]]:
        """Return batches of row numbers."""
        return shuffled_batches(range(len(self._queries)), self._batch_size, rng)

    def step(self, batch: list[int], step: int, backward: Backward) -> Metrics:
        """Sample, reward, and take one step on a batch of rows."""
        options = self._options
        queries = [self._queries[row] for row in batch]
        samples = self._draw([query for _, query in queries], step)
        accuracy = [self._accuracy(*query, row) for query, row in zip(queries, samples, strict=True)]
        earned = np.stack([one.single + options.marginal * one.marginal for one in accuracy])
        form = torch.tensor([[self._form(sample) for sample in row] for row in samples])
        rewards = torch.from_numpy(earned).float() + form  # (B, G)
        advantages = group_advantages(rewards)
        kept = most_telling(advantages, options.keep)
        chosen = [row[column] for row, mask in zip(samples, kept, strict=True) for column in mask.nonzero()]
        self._update(chosen, advantages[kept], backward, denominator=len(batch) * options.keep)
        sft = self._anchor(step, backward)
        flat = [sample for row in samples for sample in row]
        return {
            "reward": float(rewards.mean()),
            "direct": float(np.mean([one.direct for one in accuracy])),
            "single": float(np.mean([one.single.mean() for one in accuracy])),
            "served": float(np.mean([one.served for one in accuracy])),
            "best": float(np.mean([one.single.max() for one in accuracy])),
            "sft": sft,
            "ended": sum(sample.ended for sample in flat) / len(flat),
            "nothing": sum(not sample.keywords for sample in flat) / len(flat),
            "tokens": sum(len(sample.tokens) for sample in flat) / len(flat),
        }

    def _anchor(self, step: int, backward: Backward) -> float:
        """Take the gradient of the language-model loss on a few lines; return the loss."""
        options = self._options
        if not self._lines or not options.sft_weight:
            return 0.0
        num = min(options.sft_lines, len(self._lines))
        chosen = random.Random(f"{self._seed}/{step}").sample(range(len(self._lines)), num)
        device = next(self._model.parameters()).device
        ids, mask, labels = pad_rows([self._lines[row] for row in chosen], self._tokenizer.eos_token_id)
        loss = language_model_loss(self._model, ids.to(device), mask.to(device), labels.to(device))
        backward(options.sft_weight * loss)
        return loss.item()

    def _draw(self, queries: Sequence[TrainingQuery], step: int) -> list[list[Sample]]:
        """Return the samples of each query from the policy as it is now; the same again in a resumed run."""
        options = self._options
        prompts: list[list[int]] = [
            self._tokenizer(reason_prompt(query.query), add_special_tokens=False)["input_ids"] for query in queries
        ]
        keys = [f"{step}/{query.query}" for query in queries]
        drawn = generate(
            self._model,
            prompts,
            max_tokens=options.max_tokens,
            stop_ids={self._tokenizer.eos_token_id},
            num_samples=options.group,
            temperature=options.temperature,
            draws=draws_for(keys, options.group, options.max_tokens, self._seed),
            min_tokens=1,
        )
        rows = chunks(drawn.token_ids, options.group)
        return [
            [self._read(query.query, prompt, tokens) for tokens in row]
            for query, prompt, row in zip(queries, prompts, rows, strict=True)
        ]

    def _read(self, query: str, prompt: Sequence[int], tokens: Sequence[int]) -> Sample:
        ended = bool(tokens) and tokens[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(tokens[:-1] if ended else tokens)
        parsed = parse_reasoning(text, query, num_tokens=len(tokens), truncated=not ended, confidence=1.0)
        return Sample(prompt, tokens, ended, ", ".join(parsed.keywords))

    def _form(self, sample: Sample) -> float:
        options = self._options
        text = self._tokenizer.decode(sample.tokens, skip_special_tokens=True)
        return (
            FORMAT_WEIGHT * format_reward(sample.ended)
            + LENGTH_WEIGHT * length_reward(len(sample.tokens), options.length_limit + 1)  # and the stop token
            - (0.0 if sample.keywords else options.nothing)
            - options.repetition * repeated_share(text.replace(",", " ").lower().split())
        )

    def _accuracy(self, name: str, query: TrainingQuery, samples: Sequence[Sample]) -> Accuracy:
        """Return how well the query is answered, and what each sample does to that."""
        shelf = self._shelves[name]
        embedder = self._embedders[self._fold(query.query_id)]
        texts = list(dict.fromkeys([query.query, *(sample.keywords for sample in samples if sample.keywords)]))
        known = dict(zip(texts, embedder.embed_queries(texts), strict=True))
        direct = known[query.query]
        weight = self._options.query_weight
        positives = [shelf.ids[key] for key in query.positives if key in shelf.ids]
        parts = np.stack([known[sample.keywords] if sample.keywords else direct for sample in samples])
        alone = weight * direct + (1 - weight) * parts
        total = parts.sum(0)
        without = (total - parts) / (len(parts) - 1)  # the mean of the group, each sample left out in turn
        served = weight * direct + (1 - weight) * np.stack([total / len(parts), *without])
        ranks = positive_ranks(np.concatenate([[direct], alone, served]), shelf, positives)
        values = np.array([rank_reward(row, len(shelf.ids)) for row in ranks])
        count = len(samples)
        return Accuracy(values[0], values[1 : count + 1], values[count + 1], values[count + 1] - values[count + 2 :])

    def _update(self, samples: Sequence[Sample], advantages: Tensor, backward: Backward, *, denominator: int) -> None:
        chunk = self._options.chunk
        order = sorted(range(len(samples)), key=lambda row: len(samples[row].prompt) + len(samples[row].tokens))
        for first in range(0, len(order), chunk):
            rows = order[first : first + chunk]
            logprobs = self._logprobs([samples[row] for row in rows])
            loss = policy_loss(logprobs, logprobs, advantages[rows].to(logprobs.device), clip=self._options.clip)
            backward(loss * (len(rows) / denominator))

    def _logprobs(self, samples: Sequence[Sample]) -> Tensor:
        """Return the log probability of each sample, summed over its tokens, per token of the limit: (B,)."""
        rows = [
            ([*sample.prompt, *sample.tokens], [-100] * len(sample.prompt) + list(sample.tokens)) for sample in samples
        ]
        device = next(self._model.parameters()).device
        ids, mask, labels = (part.to(device) for part in pad_rows(rows, self._tokenizer.eos_token_id))
        backbone, head = split_head(self._model)
        hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
        wanted = labels[:, 1:] != -100
        logits = head(hidden[wanted]).float()
        first = wanted & (wanted.cumsum(1) == 1)
        barred = torch.zeros_like(logits, dtype=torch.bool)
        barred[first[wanted], self._tokenizer.eos_token_id] = True  # as when it was drawn
        logprobs = -torch.nn.functional.cross_entropy(
            logits.masked_fill(barred, -torch.inf), labels[:, 1:][wanted], reduction="none"
        )
        owner = torch.arange(len(samples), device=device).unsqueeze(1).expand_as(wanted)[wanted]
        summed = torch.zeros(len(samples), device=device).index_add(0, owner, logprobs)
        return summed / self._options.max_tokens


def positive_ranks(vectors: Vectors, shelf: Shelf, positives: Sequence[int]) -> list[list[int]]:
    """Return per vector the ranks of the positives among all items, from 1; positives do not push one another down.

    Source: LREM § 3.4: ``rank(d) = 1 + number of other items with a larger similarity``.
    """
    similarities = vectors @ shelf.vectors.numpy().T  # (B, N)
    others = np.delete(similarities, positives, axis=1)
    return [
        [1 + int((others[row] > similarities[row, item]).sum()) for item in positives] for row in range(len(vectors))
    ]
