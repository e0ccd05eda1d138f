"""Contrastive training of an embedder on both views of a query: as typed, and with its reasoning.

The reasoned view is made as it is served (``lrem_os.model.composed``): ``normalise(w e(query) + (1 - w) e(text))``,
where the text is the keywords, or query and keywords as one. The keywords are the teacher's, or what the reasoner
itself has written: only then does the embedder learn how far it can be trusted.

Batches come from one catalog each. Two ways to treat the items:

- ``frozen``: their vectors are those of the base model, over the whole catalog, and only the query side learns. An
  index that was built with the base model stays valid, and every product of the catalog is a negative.
- ``trained``: the items of the batch are embedded with the gradient, so both sides learn (LREM § 3.3).

Queries without a catalog learn to lie close to the teacher's keywords about them.

Deviations from the papers: several positives a query; grades weigh them; the reasoned view carries a gradient.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrem_os.errors import TrainingError
from lrem_os.model.prompts import query_with_keywords
from lrem_os.train.data import TrainingQuery, catalog_batches
from lrem_os.train.encoder import CachedTexts, TextEncoder
from lrem_os.train.loop import Backward, Metrics
from lrem_os.train.losses import info_nce, redapter_weights, symmetric_info_nce
from lrem_os.train.settings import EmbedderOptions

REDAPTER_START = 100  # ReasonEmbed's code, qri_start_step


@dataclass(frozen=True, slots=True)
class Shelf:
    """A catalog as training sees it.

    Args:
        name: Its name in the recipe.
        ids: Product id to row.
        vectors: (N, D) unit vectors of the base model, by row.
        texts: What is embedded of each product, by row.
    """

    name: str
    ids: Mapping[str, int]
    vectors: Tensor
    texts: Sequence[str]


class EmbedderStage:
    """Trains the encoder of queries, and of items where they are trained too.

    Args:
        encoder: The model.
        queries: Per catalog name its training queries; under ``""`` those without a catalog.
        shelves: The catalogs, by name.
        batch_size: Queries in a step.
        generated: By query id, what the reasoner wrote about it, one text a sample, empty ones included.
        options: What to do.
        seed: Of the choice among the samples.

    Raises:
        TrainingError: A query has no positive in its catalog.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        queries: Mapping[str, Sequence[TrainingQuery]],
        shelves: Mapping[str, Shelf],
        *,
        batch_size: int,
        generated: Mapping[str, Sequence[str]] | None = None,
        options: EmbedderOptions | None = None,
        seed: int = 0,
    ) -> None:
        self._encoder = encoder
        self._shelves = shelves
        self._batch_size = batch_size
        self._generated = generated or {}
        self._options = options or EmbedderOptions()
        self._seed = seed
        self._rows = [(name, query) for name, rows in queries.items() for query in rows]
        for name, query in self._rows:
            if name and not any(key in shelves[name].ids for key in query.positives):
                raise TrainingError(f"query {query.query_id!r} has no positive in the catalog {name!r}")

    @property
    def module(self) -> torch.nn.Module:
        """The encoder's model."""
        return self._encoder.model

    def plan(self, epoch: int, rng: random.Random) -> list[list[int]]:
        """Return batches of row numbers, each of one catalog."""
        return catalog_batches([name for name, _ in self._rows], self._batch_size, rng)

    def step(self, batch: list[int], step: int, backward: Backward) -> Metrics:
        """Take one step on a batch of rows of one catalog."""
        options = self._options
        name = self._rows[batch[0]][0]
        queries = [self._rows[row][1] for row in batch]
        direct = self._embed([query.query for query in queries])
        rng = random.Random(f"{self._seed}/{step}")
        if name:
            keywords = self._embed([self._reasoned_text(query, rng) for query in queries])
            items, relevance, ignored, more = self._items(name, queries)
            parts = [direct, keywords, *more]
            loss, metrics = self._contrast(direct.vectors, keywords.vectors, items, relevance, ignored, step)
        else:
            target = self._embed([query.reasoning or query.query for query in queries])
            views, parts = [direct.vectors], [direct, target]
            if self._generated:  # the teacher's keywords are the target: as a view they would say nothing
                keywords = self._embed([self._reasoned_text(query, rng) for query in queries])
                views, parts = [*views, self._mix(direct.vectors, keywords.vectors)], [*parts, keywords]
            with _exact(target.vectors):
                losses = [symmetric_info_nce(view, target.vectors, temperature=options.temperature) for view in views]
            loss = options.general * torch.stack(losses).mean()
            metrics = {"general": float(loss.detach())}
        backward(loss)
        for part in parts:
            part.backward()
        return {"loss": float(loss.detach()), **metrics}

    def _embed(self, texts: Sequence[str]) -> CachedTexts:
        return CachedTexts(self._encoder, texts, self._options.chunk)

    def _reasoned_text(self, query: TrainingQuery, rng: random.Random) -> str:
        """Return the text of the reasoned view; without keywords the query stands for itself, as in search."""
        samples = self._generated.get(query.query_id, ())
        keywords = rng.choice(samples) if samples and rng.random() >= self._options.teacher else query.reasoning
        if self._options.combine == "text":
            return query_with_keywords(query.query, [keywords] if keywords else [])
        return keywords or query.query

    def _mix(self, direct: Tensor, keywords: Tensor) -> Tensor:
        weight = self._options.query_weight
        return torch.nn.functional.normalize(weight * direct + (1 - weight) * keywords, dim=1)

    def _contrast(
        self, direct: Tensor, keywords: Tensor, items: Tensor, relevance: Tensor, ignored: Tensor, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        options = self._options
        mixed = self._mix(direct, keywords)
        with _exact(items):
            losses = [
                info_nce(vectors @ items.T, relevance, temperature=options.temperature, ignored=ignored)
                for vectors in (direct, mixed)
            ]
        if options.redapter and step >= REDAPTER_START:
            direct_loss = (redapter_weights(losses[0], losses[1]) * losses[0]).sum()
        else:
            direct_loss = losses[0].mean()
        loss = direct_loss + options.reasoned * losses[1].mean()
        return loss, {"direct": float(losses[0].mean().detach()), "reasoned": float(losses[1].mean().detach())}

    def _items(self, name: str, queries: Sequence[TrainingQuery]) -> tuple[Tensor, Tensor, Tensor, list[CachedTexts]]:
        """Return item vectors (N, D), relevance (B, N), what to ignore (B, N), and what wants a gradient."""
        shelf = self._shelves[name]
        more: list[CachedTexts] = []
        if self._options.items == "frozen":
            items, rows = shelf.vectors, dict(shelf.ids)
        else:
            wanted = dict.fromkeys(
                key for query in queries for key in (*query.positives, *query.negatives) if key in shelf.ids
            )
            cached = self._embed([shelf.texts[shelf.ids[key]] for key in wanted])
            items, rows, more = cached.vectors, {key: row for row, key in enumerate(wanted)}, [cached]
        relevance = torch.zeros((len(queries), len(items)), device=items.device)
        refused = torch.zeros_like(relevance, dtype=torch.bool)
        for row, query in enumerate(queries):
            for key, grade in query.positives.items():
                if key in rows:
                    relevance[row, rows[key]] = grade
            refused[row, [rows[key] for key in query.negatives if key in rows]] = True
        base = shelf.vectors[[shelf.ids[key] for key in rows]]  # (N, D)
        nearest = torch.stack([(base[row > 0] @ base.T).amax(0) for row in relevance])  # (B, N)
        return items, relevance, (nearest > self._options.twin_cosine) & ~refused & (relevance == 0), more


def _exact(vectors: Tensor) -> torch.autocast:
    """Return a context in which similarities are float32: a cosine in bfloat16 is off by more than it matters."""
    return torch.autocast(vectors.device.type, enabled=False)
