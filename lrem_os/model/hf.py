"""The transformers backend: tokenise, forward, pool. Loading is in ``hf_load.py``.

On a CPU, batches are spread over threads that each use one core: nothing waits at the end of every operation. With
MiniLM on two cores that other work shared, that was about twice as fast as one thread whose operations use both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrem_os.errors import ModelError
from lrem_os.model.batches import plan_batches, share_tokens
from lrem_os.model.contract import TokenContract
from lrem_os.model.pooling import l2_normalise, pool
from lrem_os.model.rows import check_finite, listed
from lrem_os.model.token_embedder import TokenEmbedder
from lrem_os.types import Vectors

_DAMAGED = "set model.dtype to float32; if that does not help, the weights are damaged"


class HfEmbedder(TokenEmbedder):
    """Embeds with a transformers encoder or decoder. Safe to call from several threads.

    Args:
        model: Takes ``input_ids`` and ``attention_mask``, gives ``last_hidden_state``; in eval mode, on its device.
        tokenizer: A transformers tokenizer.
        contract: How texts become vectors.
        batch_tokens: Tokens, padding included, in one forward pass.
        num_workers: Threads that run batches side by side, each on one core; 1: no threads of our own.
    """

    def __init__(
        self, model: torch.nn.Module, tokenizer: Any, contract: TokenContract, *, batch_tokens: int, num_workers: int
    ) -> None:
        super().__init__(contract)
        self._model = model
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._num_workers = num_workers
        self._device = next(model.parameters()).device
        self._pool = _start_workers(num_workers) if num_workers > 1 else None

    def _embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        token_ids = self._tokenise(texts)
        lengths = [len(ids) for ids in token_ids]
        budget = share_tokens(sum(lengths), self._batch_tokens, self._num_workers)
        for rows, part in self._run(token_ids, plan_batches(lengths, budget)):
            vectors[rows] = part
        check_finite(vectors, hint=_DAMAGED)
        return vectors

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids with special tokens, cut at the limit; never an empty list.

        All texts at once: the tokenizer runs them on all cores.
        """
        if not texts:
            return []
        if self._contract.lowercase:
            texts = [text.lower() for text in texts]
        try:
            encoded = self._tokenizer(
                list(texts),
                truncation=True,
                max_length=self._contract.max_tokens,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        except (TypeError, ValueError) as exc:  # a lone surrogate: not UTF-8
            raise ModelError(f"{_not_unicode(texts)} cannot be tokenised: {exc}") from exc
        return [ids or [_stand_in(self._tokenizer)] for ids in encoded]

    def _run(self, token_ids: list[list[int]], batches: list[list[int]]) -> Iterator[tuple[list[int], Vectors]]:
        """Yield the rows and vectors of every batch."""

        def forward(rows: list[int]) -> tuple[list[int], Vectors]:
            return rows, self._forward([token_ids[row] for row in rows])

        if self._pool is None or len(batches) == 1:  # one batch: the operations themselves use all cores
            return map(forward, batches)
        return self._pool.map(forward, batches)

    def _forward(self, token_ids: list[list[int]]) -> Vectors:
        """Return (B, D) vectors of one batch; where a GPU has too little memory for it, of its halves."""
        try:
            with torch.inference_mode():
                ids, mask = self._pad(token_ids)
                hidden = self._model(input_ids=ids, attention_mask=mask.to(torch.int64)).last_hidden_state  # (B, T, D)
                vectors: Vectors = l2_normalise(pool(hidden, mask, self._contract.pooling)).cpu().numpy()
                return vectors
        except torch.cuda.OutOfMemoryError as exc:
            if len(token_ids) == 1:
                raise ModelError(
                    f"the GPU has too little memory for one text of {len(token_ids[0])} tokens",
                    hint="lower model.max_tokens, or set model.device to cpu",
                ) from exc
        except (RuntimeError, IndexError, ValueError) as exc:  # what torch raises
            raise ModelError(f"the model failed on {len(token_ids)} texts: {exc}") from exc
        torch.cuda.empty_cache()
        self._batch_tokens = max(64, self._batch_tokens // 2)  # for the next call
        half = len(token_ids) // 2
        return np.concatenate([self._forward(token_ids[:half]), self._forward(token_ids[half:])])

    def _pad(self, token_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids (B, T) int64 and mask (B, T) bool on the model's device, filled up on the right."""
        shape = (len(token_ids), max(map(len, token_ids)))
        ids, mask = np.full(shape, _pad_id(self._tokenizer), np.int64), np.zeros(shape, np.bool_)
        for row, tokens in enumerate(token_ids):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
        return torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)


def _start_workers(num_workers: int) -> ThreadPoolExecutor:
    """Return a pool whose threads all run, each with one core for its operations."""
    num_threads = torch.get_num_threads()
    started = threading.Barrier(num_workers + 1)

    def start() -> None:
        torch.set_num_threads(1)  # of this thread, and of every thread that torch has not met yet: restored below
        torch.get_num_threads()  # now torch has met this one
        started.wait()

    workers = ThreadPoolExecutor(num_workers, thread_name_prefix="lrem-embed", initializer=start)
    for _ in range(num_workers):
        workers.submit(int)  # a thread starts when there is work
    started.wait()
    torch.set_num_threads(num_threads)
    return workers


def _pad_id(tokenizer: Any) -> int:
    """Return what to fill up with: masked, so any id does where the tokenizer has none."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def _stand_in(tokenizer: Any) -> int:
    """Return the token for an empty text, where the tokenizer puts no special tokens around it."""
    known = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return next((int(token) for token in known if token is not None), 0)


def _not_unicode(texts: Sequence[str]) -> str:
    rows = [row for row, text in enumerate(texts) if any("\ud800" <= char <= "\udfff" for char in text)]
    return f"rows {listed(rows)}" if rows else f"{len(texts)} texts"
