"""The unified model (LREM § 3.3): one causal LM that reasons and embeds, its vector read off ``<emb>``.

Direct vectors are those of ``HfEmbedder`` over a tokenizer that puts ``<emb>`` behind every text. Reasoned vectors are
read in the pass that wrote the reasoning: ``</think><emb>`` is fed into the key/value cache that it left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lrem_os.errors import CheckpointError
from lrem_os.model.contract import TokenContract
from lrem_os.model.decoding import backbone_of
from lrem_os.model.generate import MAX_QUERY_TOKENS, HfReasoner, special_pattern, special_tokens
from lrem_os.model.hf import HfEmbedder
from lrem_os.model.pooling import l2_normalise
from lrem_os.model.prompts import (
    EMB,
    END_THINK,
    UNIFIED_ITEM_PREFIX,
    UNIFIED_QUERY_PREFIX,
    UNIFIED_TEMPLATE_VERSION,
    UNIFIED_TOKENS,
    unified_prompt,
)
from lrem_os.types import Reasoned, Reasoning, Vectors


class UnifiedEmbedder:
    """Reasons about queries and embeds them in one pass; embeds items, and queries if asked to, at once.

    Queries are cleaned and cut as ``HfReasoner`` does, in both modes. The vector of a query with several samples is
    the normalised mean of theirs. It is made from what the model wrote: the rules of ``parse_reasoning`` decide the
    keywords that are reported, not the vector. A sample with NaN or infinity is left out of the mean. A query with
    nothing else, or about which no sample has a keyword left, gets its direct vector.

    Args:
        model: A transformers causal LM in eval mode, on its device; its weights must not change any more.
        tokenizer: Its tokenizer, with ``<think>``, ``</think>`` and ``<emb>``.
        name: The model's name, without a path of this machine.
        revision: Hub commit, or hash of weights and tokenizer.
        max_tokens: Longer items lose their end; ``<emb>`` counts.
        samples: Reasonings a query.
        temperature: 0 is greedy, and then there is one sample.
        max_reasoning_tokens: Hard limit of a reasoning.
        seed: Of the sampling.
        banned: Phrases that no reported keyword may hold.
        batch_tokens: Tokens, padding included, in one forward pass of the direct mode.
        batch_rows: Samples decoded together; none: what fits the device.
        num_workers: Threads of the direct mode, each on one core.
        timeout_s: Of one batch of samples.

    Raises:
        CheckpointError: Tokenizer or embedding matrix lack a special token.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str,
        max_tokens: int,
        samples: int,
        temperature: float,
        max_reasoning_tokens: int,
        seed: int = 0,
        banned: Iterable[str] = (),
        batch_tokens: int = 2048,
        batch_rows: int | None = None,
        num_workers: int = 1,
        timeout_s: float = math.inf,
    ) -> None:
        ids = check_special_tokens(model, tokenizer, name)
        self._closing = (ids[END_THINK], ids[EMB])
        contract = TokenContract(
            model=name,
            revision=revision,
            dimension=int(model.config.get_text_config().hidden_size),
            pooling="last",
            max_tokens=max_tokens,
            special_tokens=UNIFIED_TOKENS,
            query_prefix=UNIFIED_QUERY_PREFIX,
            item_prefix=UNIFIED_ITEM_PREFIX,
        )
        self._direct = HfEmbedder(
            backbone_of(model),
            _WithEmb(tokenizer, ids[EMB]),
            contract,
            batch_tokens=batch_tokens,
            num_workers=num_workers,
        )
        self._reasoner = HfReasoner(
            model,
            tokenizer,
            {"model": name, "revision": revision, "template": UNIFIED_TEMPLATE_VERSION},
            samples=samples,
            temperature=temperature,
            max_tokens=max_reasoning_tokens,
            seed=seed,
            banned=banned,
            template=unified_prompt,
            batch_rows=batch_rows,
            timeout_s=timeout_s,
        )

    @property
    def contract(self) -> TokenContract:
        """How texts become vectors."""
        return self._direct.contract

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._direct.dimension

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable; the sampling does not: reasoned and direct vectors share a space."""
        return {**self.contract.identity, "template": UNIFIED_TEMPLATE_VERSION, "max_query_tokens": MAX_QUERY_TOKENS}

    @property
    def reasoner(self) -> HfReasoner:
        """The same model as a reasoner alone; its identity is what decides the keywords."""
        return self._reasoner

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given.

        Raises:
            EmbeddingError: A vector holds NaN or infinity.
            ModelError: A text cannot be tokenised, or the model failed.
        """
        return self._direct.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries without reasoning. Raises as ``embed_items`` does."""
        return self._direct.embed_queries(self._reasoner.clean(texts))

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given.

        Raises:
            GenerationError: The model failed, or gave NaN or infinity for every sample of every query.
        """
        return self._reasoner.reason(queries)

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        """Return (B, D) unit vectors of queries with their reasoning, in one pass; of empty reasoning, direct ones.

        Raises:
            EmbeddingError: A vector holds NaN or infinity, and so does the direct one.
            GenerationError: As ``reason`` does.
            ModelError: The model failed.
        """
        started = time.perf_counter()
        written = self._reasoner.write(queries, closing=self._closing)
        vectors = np.empty((len(queries), self.dimension), np.float32)
        embedding = time.perf_counter()
        if written.states is not None:
            each = torch.nn.functional.normalize(written.states, dim=-1)  # (B, n, D)
            each[~each.isfinite().all(-1)] = torch.nan
            vectors[:] = l2_normalise(each.nanmean(1)).numpy()
            is_empty = [not any(sample.keywords for sample in samples) for samples in written.reasonings]
            direct = np.flatnonzero(~np.isfinite(vectors).all(axis=1) | np.array(is_empty, bool))
            if len(direct):
                vectors[direct] = self.embed_queries([queries[row] for row in direct.tolist()])
        ended = time.perf_counter()
        return Reasoned(
            vectors=vectors,
            reasonings=tuple(written.reasonings),
            reason_ms=(embedding - started - written.close_s) * 1000,
            embed_ms=(ended - embedding + written.close_s) * 1000,
        )


def add_special_tokens(model: Any, tokenizer: Any) -> None:
    """Add ``<think>``, ``</think>`` and ``<emb>`` to tokenizer and model, where they are missing.

    Their rows in the embedding matrix, and in the output head if it has its own, become the mean of the rows that the
    tokenizer knew before: the model then neither expects nor avoids them (Hewitt 2021). The three are alike until they
    are trained.
    """
    known = set(tokenizer.get_vocab())
    new = [token for token in UNIFIED_TOKENS if token not in known]
    if not new:
        return
    tokenizer.add_tokens(new, special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(new)
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    matrices = {
        id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    with torch.no_grad():
        for weight in matrices.values():  # one if they are tied
            weight[ids] = weight[: min(ids)].float().mean(0).to(weight.dtype)


def check_special_tokens(model: Any, tokenizer: Any, name: str) -> dict[str, int]:
    """Return the ids of the special tokens.

    Raises:
        CheckpointError: The tokenizer lacks one or takes it for ordinary text, or the embedding matrix is too small.
    """
    hint = "a unified model is trained with `lrem-os train`; for another causal LM, set reasoning.name and model.name"
    ids = special_tokens(tokenizer)
    missing = [token for token in UNIFIED_TOKENS if token not in ids]
    if missing:
        raise CheckpointError(f"{name}: its tokenizer lacks the special tokens {', '.join(missing)}", hint=hint)
    num_rows = int(model.get_input_embeddings().weight.shape[0])
    beyond = [f"{token} ({ids[token]})" for token in UNIFIED_TOKENS if ids[token] >= num_rows]
    if beyond:
        raise CheckpointError(
            f"{name}: its embedding matrix has {num_rows} rows, too few for {', '.join(beyond)}", hint=hint
        )
    return {token: ids[token] for token in UNIFIED_TOKENS}


class _WithEmb:
    """A tokenizer that puts ``<emb>`` behind every text, and takes no typed special token for a real one."""

    def __init__(self, tokenizer: Any, emb_id: int) -> None:
        self._tokenizer = tokenizer
        self._emb_id = emb_id
        self._special = special_pattern(tokenizer)
        self.pad_token_id, self.eos_token_id, self.bos_token_id = tokenizer.pad_token_id, emb_id, None

    def __call__(self, texts: Sequence[str], *, max_length: int, **options: Any) -> dict[str, list[list[int]]]:
        texts = [self._special.sub(" ", text) for text in texts]
        encoded = self._tokenizer(texts, max_length=max_length - 1, add_special_tokens=False, **options)["input_ids"]
        return {"input_ids": [[*ids, self._emb_id] for ids in encoded]}
