"""Gain labels: what reasoning changes for each training query, for a router to learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lrem_os.train.data import TrainingQuery, chunks
from lrem_os.train.embedder import Shelf
from lrem_os.train.losses import RI_EPSILON, info_nce
from lrem_os.train.rewards import rank_reward
from lrem_os.train.rl import positive_ranks
from lrem_os.types import ReasoningEmbedder, Vectors

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Gain:
    """What reasoning changes for one query.

    Args:
        query_id: Its id.
        query: Its text.
        type: Its kind.
        catalog: Where its positives are.
        rank_direct: Best rank of a positive among all items, from 1, by the direct vector.
        rank_reasoned: The same by the reasoned vector.
        gain: ``1 - log rank / log N`` averaged over the positives, reasoned minus direct; above 0: reasoning helps.
        intensity: Redapter's RI: InfoNCE direct / reasoned over all items, clamped to [0, 5].
        keywords: What was reasoned, per sample.
    """

    query_id: str
    query: str
    type: str
    catalog: str
    rank_direct: int
    rank_reasoned: int
    gain: float
    intensity: float
    keywords: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def label_gains(
    model: ReasoningEmbedder,
    queries: Sequence[tuple[str, TrainingQuery]],
    shelves: Mapping[str, Shelf],
    *,
    temperature: float = 0.05,
    kappa: float = 5.0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Gain]:
    """Yield the gain of every query that has a positive in its catalog, in order.

    Raises:
        ModelError: The model failed.
    """
    wanted = [(name, query) for name, query in queries if any(key in shelves[name].ids for key in query.positives)]
    done = 0
    for part in chunks(wanted, _BATCH):
        texts = [query.query for _, query in part]
        direct, reasoned = model.embed_queries(texts), model.embed_reasoned(texts)
        for row, (name, query) in enumerate(part):
            keywords = tuple(", ".join(sample.keywords) for sample in reasoned.reasonings[row])
            pair = np.stack([direct[row], reasoned.vectors[row]])
            yield _gain(pair, query, shelves[name], keywords, temperature=temperature, kappa=kappa)
        done += len(part)
        on_progress(done)


def _gain(
    pair: Vectors, query: TrainingQuery, shelf: Shelf, keywords: tuple[str, ...], *, temperature: float, kappa: float
) -> Gain:
    positives = [shelf.ids[key] for key in query.positives if key in shelf.ids]
    before, after = positive_ranks(pair, shelf, positives)
    relevance = torch.zeros((2, len(shelf.ids)))
    relevance[:, positives] = 1.0
    similarities = torch.from_numpy(pair) @ shelf.vectors.cpu().T
    loss_direct, loss_reasoned = info_nce(similarities, relevance, temperature=temperature).tolist()
    return Gain(
        query_id=query.query_id,
        query=query.query,
        type=query.type,
        catalog=shelf.name,
        rank_direct=min(before),
        rank_reasoned=min(after),
        gain=rank_reward(after, len(shelf.ids)) - rank_reward(before, len(shelf.ids)),
        intensity=min(kappa, max(0.0, loss_direct / (loss_reasoned + RI_EPSILON)))
        if math.isfinite(loss_direct)
        else 1.0,
        keywords=keywords,
    )
