"""The reasoner in this process: a transformers causal LM that continues a template with keywords.

The template is tokenised whole, as in training; decoding is in ``decoding.py``, the rules in ``reasoning.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrem_os.errors import GenerationError
from lrem_os.model.decoding import Generation, Prefix, build_prefix, draws_for, generate
from lrem_os.model.prompts import (
    CHAT_TEMPLATE_VERSION,
    REASON_TEMPLATE_VERSION,
    one_line,
    reason_instruction,
    reason_prompt,
)
from lrem_os.model.reasoning import parse_reasoning
from lrem_os.types import Reasoning

MAX_QUERY_TOKENS = 64  # the longest of the 5,141 teacher queries has 21 of SmolLM2's
CPU_BATCH_ROWS = 64  # more gains little: the weights are then read once for enough rows
GPU_BATCH_ROWS = 1024  # not measured
_MAX_TOKEN_CHARS = 64  # longer tokens do not happen after white space is one blank


@dataclass(frozen=True, slots=True)
class Written:
    """What was generated for some queries.

    Args:
        reasonings: Per query, its samples.
        states: (B, n, D) float32 on the CPU, the state at the last closing token, NaN for a failed sample; ``None``
            without closing tokens.
        close_s: Seconds that went into the closing tokens.
    """

    reasonings: list[tuple[Reasoning, ...]]
    states: Tensor | None
    close_s: float


class HfReasoner:
    """Writes keywords with a transformers causal LM. The same query gets the same keywords in any batch.

    A query is put on one line, loses what its tokenizer takes for special tokens, and is cut after
    ``max_query_tokens`` tokens. A reasoning ends at any special token or line break, at ``max_tokens``, or
    ``timeout_s`` after its batch was begun; the last two count as truncated. A sample with NaN or infinity in its
    logits is an empty reasoning.

    Args:
        model: In eval mode, on its device; its weights must not change any more.
        tokenizer: A fast transformers tokenizer.
        identity: Model, revision, adapter; template and sampling are added.
        samples: Reasonings a query.
        temperature: 0 is greedy, and then there is one sample.
        max_tokens: Hard limit of a reasoning, the end-of-text token included.
        seed: Of the sampling.
        banned: Phrases that no keyword may hold.
        use_chat_template: Ask as one asks a chat model, in place of the completion that our adapters are trained on.
        template: A query's prompt, in place of both; ``identity`` then names its version as ``template``.
        batch_rows: Samples decoded together; none: what fits the device.
        timeout_s: Of one such batch.
        max_query_tokens: Longer queries are cut.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        identity: Mapping[str, Any],
        *,
        samples: int,
        temperature: float,
        max_tokens: int,
        seed: int = 0,
        banned: Iterable[str] = (),
        use_chat_template: bool = False,
        template: Callable[[str], str] | None = None,
        batch_rows: int | None = None,
        timeout_s: float = math.inf,
        max_query_tokens: int = MAX_QUERY_TOKENS,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._samples = samples if temperature > 0 else 1
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._seed = seed
        self._banned = tuple(banned)
        self._template = template or (self._chat_prompt if use_chat_template else reason_prompt)
        self._timeout_s = timeout_s
        self._max_query_tokens = max_query_tokens
        self._batch_rows = batch_rows or (CPU_BATCH_ROWS if model.device.type == "cpu" else GPU_BATCH_ROWS)
        self._stop_ids = stop_ids(tokenizer)
        self._special = special_pattern(tokenizer)
        self._identity = {
            "template": CHAT_TEMPLATE_VERSION if use_chat_template else REASON_TEMPLATE_VERSION,
            **identity,
            "samples": self._samples,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "max_query_tokens": max_query_tokens,
            "seed": seed,
            "banned": list(self._banned),
        }
        self._prefix: Prefix | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords."""
        return self._identity

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given.

        Raises:
            GenerationError: The model failed, or gave NaN or infinity for every sample of every query.
        """
        return self.write(queries).reasonings

    def write(self, queries: Sequence[str], *, closing: Sequence[int] = ()) -> Written:
        """Return the samples of each query, and the state after the closing tokens if there are any.

        Raises:
            GenerationError: As ``reason`` does.
        """
        cleaned = self.clean(queries)
        prompts = self._encode([self._template(query) for query in cleaned])
        order = sorted(range(len(queries)), key=lambda row: -len(prompts[row]))  # alike lengths: little padding
        reasonings: list[tuple[Reasoning, ...]] = [()] * len(queries)
        states: Tensor | None = None
        close_s, num_failed = 0.0, 0
        step = max(1, self._batch_rows // self._samples)
        for first in range(0, len(order), step):
            rows = order[first : first + step]
            found = self._generate([prompts[row] for row in rows], [cleaned[row] for row in rows], closing)
            num_failed += sum(found.failed)
            close_s += found.close_s
            for at, row in enumerate(rows):
                reasonings[row] = self._parse(found, at, queries[row])
            if found.states is not None:
                part = found.states.view(len(rows), self._samples, -1).cpu()  # (b, n, D)
                states = part.new_empty((len(queries), *part.shape[1:])) if states is None else states
                states[rows] = part
        if queries and num_failed == len(queries) * self._samples:
            raise GenerationError(
                f"the model gave NaN or infinity for all of {len(queries)} queries",
                hint="set model.dtype to float32; if that does not help, the weights are damaged",
            )
        return Written(reasonings, states, close_s)

    def clean(self, queries: Sequence[str]) -> list[str]:
        """Return the queries as the template gets them: on one line, no special tokens, not too long."""
        if not queries:
            return []
        room = self._max_query_tokens * _MAX_TOKEN_CHARS
        texts = [one_line(self._special.sub(" ", one_line(query)[:room])) for query in queries]
        texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # a lone surrogate: "?"
        offsets = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        limit = self._max_query_tokens
        return [
            text[: spans[limit - 1][1]] if len(spans) > limit else text
            for text, spans in zip(texts, offsets, strict=True)
        ]

    def _chat_prompt(self, query: str) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": reason_instruction(query)}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # known to some templates, and ignored by the others
            )
        )

    def _encode(self, prompts: Sequence[str]) -> list[list[int]]:
        return list(self._tokenizer(list(prompts), add_special_tokens=False)["input_ids"]) if prompts else []

    def _generate(self, prompts: list[list[int]], keys: list[str], closing: Sequence[int]) -> Generation:
        """Run one batch; where a GPU has too little memory for it, its halves.

        Raises:
            GenerationError: The model failed.
        """
        try:
            if self._prefix is None:
                self._prefix = build_prefix(self._model, self._shared_ids())
            return generate(
                self._model,
                prompts,
                max_tokens=self._max_tokens,
                stop_ids=self._stop_ids,
                num_samples=self._samples,
                temperature=self._temperature,
                draws=draws_for(keys, self._samples, self._max_tokens, self._seed) if self._temperature > 0 else None,
                prefix=self._prefix,
                closing=closing,
                timeout_s=self._timeout_s,
            )
        except torch.cuda.OutOfMemoryError as exc:
            if len(prompts) == 1:
                raise GenerationError(
                    f"the GPU has too little memory for {self._samples} samples of one query",
                    hint="lower reasoning.samples, or set model.device to cpu",
                ) from exc
        except (RuntimeError, IndexError, ValueError) as exc:  # what torch raises
            raise GenerationError(f"the model failed on {len(prompts)} queries: {exc}") from exc
        torch.cuda.empty_cache()
        self._batch_rows = max(self._samples, self._batch_rows // 2)  # for the next call
        half = len(prompts) // 2
        return _joined(
            self._generate(prompts[:half], keys[:half], closing), self._generate(prompts[half:], keys[half:], closing)
        )

    def _shared_ids(self) -> list[int]:
        """Return the tokens that every prompt begins with, found on two queries that share nothing."""
        one, other = self._encode([self._template("a"), self._template("7 Z")])
        length = next(at for at in range(len(one)) if one[at] != other[at])
        return one[:length]

    def _parse(self, found: Generation, at: int, query: str) -> tuple[Reasoning, ...]:
        rows = range(at * self._samples, (at + 1) * self._samples)
        return tuple(self._reasoning(found, row, query) for row in rows)

    def _reasoning(self, found: Generation, row: int, query: str) -> Reasoning:
        if found.failed[row]:
            return Reasoning(confidence=0.0)
        tokens, logprobs = found.token_ids[row], found.logprobs[row]
        return parse_reasoning(
            self._tokenizer.decode(tokens[:-1] if found.stopped[row] else tokens, skip_special_tokens=True),
            query,
            banned=self._banned,
            num_tokens=len(tokens),
            truncated=not found.stopped[row],
            confidence=math.exp(sum(logprobs) / len(logprobs)),
        )


def stop_ids(tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a reasoning: every special one, and every one with a line break in it."""
    lines = [
        id_ for piece, id_ in tokenizer.get_vocab().items() if "Ċ" in piece or "\n" in piece or piece == "<0x0A>"
    ]  # the ways to write one; decoding the whole vocabulary would take seconds
    return frozenset([*special_tokens(tokenizer).values(), *(id_ for id_ in lines if "\n" in tokenizer.decode([id_]))])


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Return text and id of every special token."""
    added = {str(token): int(id_) for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(map(str, tokenizer.all_special_tokens), tokenizer.all_special_ids, strict=True))


def special_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Return what finds special tokens that somebody has typed."""
    names = sorted(special_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _joined(one: Generation, other: Generation) -> Generation:
    states = torch.cat([one.states, other.states]) if one.states is not None and other.states is not None else None
    return Generation(
        one.token_ids + other.token_ids,
        one.logprobs + other.logprobs,
        one.stopped + other.stopped,
        one.failed + other.failed,
        states,
        one.close_s + other.close_s,
    )
