"""Decoding with a kept key/value cache: prompts in, tokens out. What the tokens mean is not known here.

transformers' own ``generate`` is not used: it fills the cache once per sample and not once per prompt, has no cache
of a shared prefix, no generator of its own per row (so a row's tokens depend on its neighbours), and throws away the
cache that a unified model embeds from.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_DROP_SHARE = 0.25  # of finished rows at which the others go on alone: their cache is copied then
_DROP_SHARE_CLOSING = 0.5  # closing is a forward pass for the dropped rows: fewer and larger ones


@dataclass(frozen=True, slots=True)
class Prefix:
    """The key/value cache of what all prompts begin with; worthless once the weights change.

    Args:
        token_ids: The tokens.
        cache: Theirs, one row.
    """

    token_ids: tuple[int, ...]
    cache: Any


@dataclass(slots=True)
class Generation:
    """What was generated; sample ``s`` of prompt ``b`` is row ``b * num_samples + s``.

    Args:
        token_ids: Per row, the stop token included.
        logprobs: Of these tokens under the model itself, whatever the temperature was.
        stopped: Whether the model ended the row, not a limit.
        failed: Whether the model gave NaN or infinity; such a row has no tokens.
        states: (R, D) float32, the last hidden state at the last closing token, NaN for a failed row; ``None`` without
            closing tokens.
        close_s: Seconds that went into the closing tokens.
    """

    token_ids: list[list[int]]
    logprobs: list[list[float]]
    stopped: list[bool]
    failed: list[bool]
    states: Tensor | None = None
    close_s: float = 0.0


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop_ids: Collection[int],
    num_samples: int = 1,
    temperature: float = 0.0,
    draws: Tensor | None = None,
    prefix: Prefix | None = None,
    closing: Sequence[int] = (),
    timeout_s: float = math.inf,
    min_tokens: int = 0,
) -> Generation:
    """Return ``num_samples`` continuations of every prompt, decoded as one batch.

    Args:
        model: A transformers causal LM, perhaps with an adapter; in eval mode, unless dropout is wanted.
        prompts: Token ids, none empty.
        max_tokens: Hard limit of a continuation, stop token included.
        stop_ids: Tokens that end a row.
        num_samples: Continuations a prompt; they share the prompt's prefill.
        temperature: 0 takes the likeliest token.
        draws: (R, max_tokens) in (0, 1], where the sampling cuts the distribution; needed unless temperature is 0.
        prefix: Used if every prompt begins with it.
        closing: Fed to every row after its end, in place of the stop token; ``states`` is read off the last one.
        timeout_s: Rows that are not done then end where they are.
        min_tokens: No row stops before it has so many.
    """
    if not prompts:
        return Generation([], [], [], [])
    batch = _prefill(model, prompts, prefix)
    batch.repeat(num_samples)
    decoder = _Decoder(model, batch, len(prompts) * num_samples, tuple(closing), frozenset(stop_ids))
    deadline = time.monotonic() + timeout_s
    for step in range(max_tokens):
        if step < min_tokens:
            batch.logits[:, list(stop_ids)] = -math.inf
        tokens, logprobs = choose(
            batch.logits,
            temperature,
            None if draws is None else draws[decoder.rows.cpu(), step].to(batch.logits.device),
        )
        decoder.record(tokens, logprobs)
        if step + 1 == max_tokens or not decoder.live.any() or time.monotonic() > deadline:
            break
        decoder.drop_finished()
        decoder.advance()
    decoder.close()
    return decoder.result


def choose(logits: Tensor, temperature: float, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the next token of every row, and its log-probability at temperature 1; NaN where the logits are bad.

    Sampling inverts the distribution function: the token where it reaches the draw. One draw is enough, and the same
    draw gives the same token in any batch, but for logits that differ in their last bits.

    Shapes: logits (R, V) float32, draws (R,) in (0, 1] -> (R,) int64, (R,) float32
    """
    if temperature == 0:
        tokens = logits.argmax(-1)
    elif draws is None:
        raise ValueError("sampling needs draws")
    else:
        reached = torch.softmax(logits / temperature, -1).cumsum(-1)  # (R, V)
        cuts = draws.to(reached.dtype).unsqueeze(1) * reached[:, -1:]  # rounding: the sum is not quite 1
        tokens = torch.searchsorted(reached, cuts).squeeze(1).clamp_max(logits.shape[1] - 1)
    logprobs = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
    return tokens, torch.where(logprobs.isfinite(), logprobs, torch.nan)


def draws_for(keys: Sequence[str], num_samples: int, max_tokens: int, seed: int) -> Tensor:
    """Return where the sampling cuts: a row's draws depend on seed, key and number of the sample alone.

    Shapes: -> (len(keys) * num_samples, max_tokens) float32 in (0, 1]
    """
    draws = np.empty((len(keys) * num_samples, max_tokens), np.float32)
    for row in range(len(draws)):
        name = f"{seed}\0{row % num_samples}\0{keys[row // num_samples]}".encode("utf-8", "surrogatepass")
        entropy = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "big")
        draws[row] = 1.0 - np.random.Generator(np.random.PCG64(entropy)).random(max_tokens, np.float32)
    return torch.from_numpy(draws)


@torch.no_grad()
def build_prefix(model: Any, token_ids: Sequence[int]) -> Prefix:
    """Return the cache of tokens that many prompts begin with."""
    batch = _Batch.empty(1, model.device)
    ids = torch.tensor([list(token_ids)], device=model.device)
    batch.feed(backbone_of(model), ids, torch.ones_like(ids))
    return Prefix(tuple(token_ids), batch.cache)


def backbone_of(model: Any) -> Any:
    """Return the part of a causal LM that gives hidden states, with the adapter in place if there is one."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.base_model


@dataclass(slots=True)
class _Batch:
    """Rows that are decoded together.

    Args:
        cache: transformers' key/value cache; ``None`` before the first token.
        mask: (R, T) int64: which slots of the cache hold a token of the row.
        lengths: (R,) int64: tokens of the row so far, which is the position of its next one.
        logits: (R, V) float32: of the next token.
    """

    cache: Any
    mask: Tensor
    lengths: Tensor
    logits: Tensor

    @classmethod
    def empty(cls, num_rows: int, device: torch.device) -> _Batch:
        nothing = torch.zeros((num_rows, 0), dtype=torch.int64, device=device)
        return cls(None, nothing, nothing.sum(1), nothing)

    def feed(self, module: Any, ids: Tensor, mask: Tensor, **options: Any) -> Any:
        """Run tokens through model or backbone and keep their cache.

        Shapes: ids, mask (R, t) int64
        """
        self.mask = torch.cat([self.mask, mask], 1)
        positions = (self.lengths.unsqueeze(1) + mask.cumsum(1) - 1).clamp_min(0)  # padding: any position does
        output = module(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        self.cache = output.past_key_values
        self.lengths = self.lengths + mask.sum(1)
        return output

    def feed_for_logits(self, model: Any, ids: Tensor, mask: Tensor) -> None:
        self.logits = self.feed(model, ids, mask, logits_to_keep=1).logits[:, -1].float()

    def repeat(self, times: int) -> None:
        """Make every row ``times`` rows, one after the other."""
        if times > 1:
            self.cache.batch_repeat_interleave(times)
            self.mask, self.lengths, self.logits = (
                values.repeat_interleave(times, 0) for values in (self.mask, self.lengths, self.logits)
            )

    def select(self, rows: Tensor) -> None:
        """Keep these rows."""
        self.cache.batch_select_indices(rows)
        self.mask, self.lengths, self.logits = self.mask[rows], self.lengths[rows], self.logits[rows]


def _fork(cache: Any) -> Any:
    """Return a cache that goes its own way; a layer replaces its tensors when it grows and never writes into them."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _prefill(model: Any, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> _Batch:
    """Return the prompts in a cache, filled up on the left, so that all rows go on in the same slot."""
    batch = _Batch.empty(len(prompts), model.device)
    shared = len(prefix.token_ids) if prefix else 0
    if prefix and all(tuple(ids[:shared]) == prefix.token_ids and len(ids) > shared for ids in prompts):
        batch.cache = _fork(prefix.cache)
        batch.cache.batch_repeat_interleave(len(prompts))
        batch.mask = batch.mask.new_ones((len(prompts), shared))
        batch.lengths = batch.lengths + shared
        prompts = [ids[shared:] for ids in prompts]
    width = max(map(len, prompts))
    ids, mask = np.zeros((len(prompts), width), np.int64), np.zeros((len(prompts), width), np.int64)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :], mask[row, width - len(tokens) :] = tokens, 1
    batch.feed_for_logits(model, torch.from_numpy(ids).to(model.device), torch.from_numpy(mask).to(model.device))
    return batch


@dataclass(slots=True)
class _Decoder:
    """The rows that still go on, and what has been found out about all of them."""

    model: Any
    batch: _Batch
    num_rows: int
    closing: tuple[int, ...]
    stop_ids: frozenset[int]
    rows: Tensor = field(init=False)  # (r,) which of the R rows the batch still holds
    live: Tensor = field(init=False)  # (r,) bool: those that are not done
    tokens: Tensor = field(init=False)  # (r,) the last token of each, not fed yet
    result: Generation = field(init=False)

    def __post_init__(self) -> None:
        num = self.num_rows
        self.rows = torch.arange(num, device=self.batch.mask.device)
        self.live = torch.ones_like(self.rows, dtype=torch.bool)
        self.result = Generation([[] for _ in range(num)], [[] for _ in range(num)], [False] * num, [False] * num)

    def record(self, tokens: Tensor, logprobs: Tensor) -> None:
        """Write down the next token of every row that goes on, and which rows end with it."""
        self.tokens = tokens
        found = zip(self.rows.tolist(), self.live.tolist(), tokens.tolist(), logprobs.tolist(), strict=True)
        result, live = self.result, []
        for row, was_live, token, logprob in found:
            if was_live and math.isnan(logprob):
                result.failed[row], result.token_ids[row], result.logprobs[row] = True, [], []
            elif was_live:
                result.token_ids[row].append(token)
                result.logprobs[row].append(logprob)
                result.stopped[row] = token in self.stop_ids
            live.append(was_live and not result.failed[row] and not result.stopped[row])
        self.live = torch.tensor(live, device=self.rows.device)

    def drop_finished(self) -> None:
        """Leave finished rows behind when there are enough of them; with closing tokens, they are fed first."""
        finished = ~self.live
        share = _DROP_SHARE_CLOSING if self.closing else _DROP_SHARE
        if int(finished.sum()) < share * len(finished):
            return
        if self.closing:
            part = copy.copy(self.batch)
            part.cache = _fork(self.batch.cache)
            part.select(finished.nonzero().squeeze(1))
            self._close(part, self.rows[finished], self.tokens[finished], self.live[finished])
        kept = self.live.nonzero().squeeze(1)
        self.batch.select(kept)
        self.rows, self.tokens, self.live = self.rows[kept], self.tokens[kept], self.live[kept]

    def advance(self) -> None:
        """Feed the last token of every row that goes on; a finished row gets padding."""
        self.batch.feed_for_logits(self.model, self.tokens.unsqueeze(1), self.live.to(torch.int64).unsqueeze(1))

    def close(self) -> None:
        """Feed the closing tokens to the rows that are left."""
        if self.closing:
            self._close(self.batch, self.rows, self.tokens, self.live)
        if self.result.states is not None:
            failed = torch.tensor(self.result.failed, device=self.rows.device)
            self.result.states[failed] = torch.nan

    def _close(self, batch: _Batch, rows: Tensor, tokens: Tensor, pending: Tensor) -> None:
        """Feed the closing tokens, after the last token where that is no stop token and still pending."""
        started = time.perf_counter()
        closing = torch.tensor(self.closing, device=rows.device).expand(len(rows), -1)
        ids, mask = closing, torch.ones_like(closing)
        if pending.any():
            ids = torch.cat([tokens.unsqueeze(1), ids], 1)
            mask = torch.cat([pending.to(torch.int64).unsqueeze(1), mask], 1)
        states = batch.feed(backbone_of(self.model), ids, mask).last_hidden_state[:, -1].float()
        if self.result.states is None:
            self.result.states = states.new_full((self.num_rows, states.shape[1]), torch.nan)
        self.result.states[rows] = states
        self.result.close_s += time.perf_counter() - started
