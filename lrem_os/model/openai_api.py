"""Models behind any OpenAI-compatible server: vLLM's own, llama.cpp's, Ollama's, a hosted one.

Of one text that the server refuses, its neighbours notice nothing; of a server that is down, the caller hears soon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrem_os.errors import EmbeddingError, GenerationError, ModelError
from lrem_os.model.endpoints import EndpointState
from lrem_os.model.openai_client import OpenAIClient, Refused
from lrem_os.model.prompts import CHAT_TEMPLATE_VERSION, REASON_TEMPLATE_VERSION, reason_instruction, reason_prompt
from lrem_os.model.reasoning import parse_reasoning
from lrem_os.model.rows import listed
from lrem_os.types import Reasoning, Vectors


class OpenAIReasoner:
    """Reasons with a model on a server. Safe to call from several threads.

    Where the server does not tell log-probabilities, confidence is NaN, and the number of tokens of one of several
    samples is 0: not known.

    Args:
        url: Up to ``/v1``; several for several servers with the same model.
        model: As ``GET /v1/models`` names it.
        api_key: Sent as bearer token.
        timeout_s: Until a request is given up, its retries included.
        samples: Reasonings a query; with temperature 0 there is one.
        temperature: Of the sampling; 0: greedy.
        max_tokens: Hard limit of a reasoning.
        seed: Of the sampling.
        banned: Phrases that no keyword may hold.
        chat: Ask a general instruct model by ``/v1/chat/completions``, instead of ``/v1/completions``.
        logprobs: Ask for log-probabilities; some servers refuse to.
        batch_size: Queries in one request. A server that does not take lists gets them one by one.
        max_concurrency: Requests on their way to a server at once at most.
        extra_body: More fields for every request, for servers that know them.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        samples: int = 8,
        temperature: float = 0.9,
        max_tokens: int = 16,
        seed: int = 0,
        banned: Sequence[str] = (),
        chat: bool = False,
        logprobs: bool = True,
        batch_size: int = 8,
        max_concurrency: int = 8,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = OpenAIClient(
            url, api_key=api_key, timeout_s=timeout_s, max_concurrency=max_concurrency, error=GenerationError
        )
        self._model = model
        self._num_samples = samples if temperature > 0 else 1
        self._sampling = {"temperature": temperature, "max_tokens": max_tokens}
        self._seed = seed
        self._banned = tuple(banned)
        self._chat = chat
        self._logprobs = logprobs
        self._batch_size = 1 if chat else batch_size
        self._extra_body = dict(extra_body or {})

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """How each server is."""
        return self._client.endpoints

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords, as far as a client can tell: the server's address is not part of it."""
        return {
            "backend": "openai",
            "model": self._model,
            "prompt_version": CHAT_TEMPLATE_VERSION if self._chat else REASON_TEMPLATE_VERSION,
            "samples": self._num_samples,
            **self._sampling,
            "seed": self._seed,
            "banned": list(self._banned),
            "extra_body": self._extra_body,
        }

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given.

        Of a query that the server refuses, they are empty; of one on which it fails or answers garbage, there are none.

        Raises:
            GenerationError: The server is not there, is too slow, has refused every query so far, or fails on all.
        """
        answers = self._client.ask_all(self._ask, queries, self._batch_size)
        failures = [answer for answer in answers if isinstance(answer, Refused) and not answer.for_the_text]
        if failures and len(failures) == len(answers):
            raise GenerationError(
                f"the server failed on all of {len(queries)} queries; the last time: {failures[-1]}",
                hint="look into the server's log",
            ) from failures[-1]
        return [self._samples(query, answer) for query, answer in zip(queries, answers, strict=True)]

    def _samples(self, query: str, answer: list[dict[str, Any]] | Refused) -> tuple[Reasoning, ...]:
        if isinstance(answer, Refused):
            return (Reasoning(),) * self._num_samples if answer.for_the_text else ()
        return tuple(self._parse(choice, query) for choice in answer)

    def _parse(self, choice: Mapping[str, Any], query: str) -> Reasoning:
        return parse_reasoning(query=query, banned=self._banned, **choice)

    async def _ask(self, client: Any, queries: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the choices of each query: text, num_tokens, truncated, confidence."""
        samples: list[list[dict[str, Any]]] = [[] for _ in queries]
        while missing := self._num_samples - len(samples[0]):
            answer = await self._create(client, queries, missing, self._seed + len(samples[0]))
            choices = _in_order(answer, "choices")
            # One query may get fewer than it asked for: some servers know no `n`, and are asked again. Of several
            # queries nobody could tell which choice is whose.
            each = missing if len(queries) > 1 else min(missing, max(1, len(choices)))
            if len(choices) != each * len(queries):
                self._batch_size = 1
                raise Refused(f"{len(choices)} choices for {len(queries)} queries, {missing} each")
            read = [_read_choice(choice, answer) for choice in choices]
            for row, found in enumerate(samples):
                found += read[row * each : (row + 1) * each]
        return samples

    async def _create(self, client: Any, queries: Sequence[str], num: int, seed: int) -> Any:
        options = {"model": self._model, "n": num, "seed": seed, **self._sampling, "extra_body": self._extra_body}
        if not self._chat:
            prompts = [reason_prompt(query) for query in queries]
            options |= {"logprobs": 1} if self._logprobs else {}
            return await client.completions.create(
                prompt=prompts if len(prompts) > 1 else prompts[0], stop=["\n"], **options
            )
        options |= {"logprobs": True} if self._logprobs else {}
        messages = [{"role": "user", "content": reason_instruction(queries[0])}]
        return await client.chat.completions.create(messages=messages, **options)


class OpenAIEmbedder:
    """Embeds with a model on a server, by ``/v1/embeddings``. Safe to call from several threads.

    Args:
        url: Up to ``/v1``; several for several servers with the same model.
        model: As ``GET /v1/models`` names it.
        dimension: Length D of a vector; none: the server is asked when it is first needed.
        api_key: Sent as bearer token.
        timeout_s: Until a request is given up, its retries included.
        query_prefix: Put before every query.
        item_prefix: Put before every item text.
        batch_size: Texts in one request.
        max_concurrency: Requests on their way to a server at once at most.
        extra_body: More fields for every request: vLLM cuts long texts, where others refuse them, with
            ``{"truncate_prompt_tokens": -1}``.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        *,
        dimension: int | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        query_prefix: str = "",
        item_prefix: str = "",
        batch_size: int = 64,
        max_concurrency: int = 8,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = OpenAIClient(
            url, api_key=api_key, timeout_s=timeout_s, max_concurrency=max_concurrency, error=ModelError
        )
        self._model = model
        self._dimension = dimension
        self._query_prefix, self._item_prefix = query_prefix, item_prefix
        self._batch_size = batch_size
        self._extra_body = dict(extra_body or {})

    @property
    def dimension(self) -> int:
        """Length D of a vector. Raises ``ModelError`` where the server must be asked and does not answer."""
        if self._dimension is None:
            self._dimension = self._embed(["dimension"]).shape[1]
        return self._dimension

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """How each server is."""
        return self._client.endpoints

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two vectors comparable, as far as a client can tell: the server's address is not part of it."""
        return {
            "backend": "openai",
            "model": self._model,
            "dimension": self.dimension,
            "query_prefix": self._query_prefix,
            "item_prefix": self._item_prefix,
            "extra_body": self._extra_body,
        }

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of catalog items, in the order given.

        Raises:
            EmbeddingError: The server refuses texts, or what it gives for them are no vectors of D numbers; by row.
            ModelError: The server is not there, is too slow, or has refused every text so far.
        """
        return self._embed([self._item_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return (B, D) unit vectors of queries, in the order given. Raises as ``embed_items`` does."""
        return self._embed([self._query_prefix + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        rows = self._client.ask_all(self._ask, texts, self._batch_size)
        refused = {number: row for number, row in enumerate(rows) if isinstance(row, Refused)}
        if refused:
            raise EmbeddingError(
                f"{self._model} refused rows {listed(list(refused))} of {len(texts)}: {next(iter(refused.values()))}",
                hint="shorten the texts, or let the server cut them",
            )
        vectors = [row for row in rows if not isinstance(row, Refused)]
        dimension = self._dimension or vectors[0].size
        wrong = [number for number, vector in enumerate(vectors) if vector.shape != (dimension,)]
        if wrong:
            raise EmbeddingError(
                f"{self._model} gave {vectors[wrong[0]].size} numbers for rows {listed(wrong)}, not {dimension}",
                hint="set the dimension that the model has; an index must be built anew for another one",
            )
        return _normalised(np.stack(vectors), self._model)

    async def _ask(self, client: Any, texts: Sequence[str]) -> list[Vectors]:
        answer = await client.embeddings.create(
            model=self._model, input=list(texts), encoding_format="float", extra_body=self._extra_body
        )
        found = _in_order(answer, "data")
        if len(found) != len(texts):
            raise Refused(f"{len(found)} vectors for {len(texts)} texts")
        return [_read_vector(item) for item in found]


def _in_order(answer: Any, name: str) -> list[Any]:
    """Return the answer's list by ``index``: servers may send its items in any order.

    Raises:
        Refused: There is no such list, or its items are not numbered from 0.
    """
    items = getattr(answer, name, None)
    if not isinstance(items, list):
        raise Refused(f"the answer has no list {name!r}")
    try:
        ordered = sorted(items, key=lambda item: int(item.index))
    except (AttributeError, TypeError, ValueError) as exc:
        raise Refused(f"an item of {name!r} has no index") from exc
    if [item.index for item in ordered] != list(range(len(items))):
        raise Refused(f"the items of {name!r} are not numbered from 0")
    return ordered


def _read_choice(choice: Any, answer: Any) -> dict[str, Any]:
    """Return what ``parse_reasoning`` takes, of a completion's or a chat's choice."""
    message = getattr(choice, "message", None)
    text = (message.content if message is not None else choice.text) or ""
    if not isinstance(text, str):
        raise Refused(f"a choice has {type(text).__name__} in place of its text")
    logprobs = _logprobs(choice)
    usage = getattr(answer, "usage", None)
    alone = usage.completion_tokens if usage is not None and len(answer.choices) == 1 else 0
    return {
        "text": text,
        "num_tokens": len(logprobs) or alone,
        "truncated": choice.finish_reason == "length",
        "confidence": min(1.0, math.exp(math.fsum(logprobs) / len(logprobs))) if logprobs else math.nan,
    }


def _logprobs(choice: Any) -> list[float]:
    """Return the log-probability of every token; empty where the server does not tell."""
    found = getattr(choice, "logprobs", None)
    values = getattr(found, "token_logprobs", None)
    if values is None:
        values = [getattr(token, "logprob", None) for token in getattr(found, "content", None) or []]
    return [] if any(value is None for value in values) else [float(value) for value in values]


def _read_vector(item: Any) -> Vectors:
    """Return the numbers of one vector, as they are."""
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is found later
            return np.asarray(item.embedding, np.float32)
    except (TypeError, ValueError) as exc:
        raise Refused(f"a vector holds something other than numbers: {exc}") from exc


def _normalised(vectors: Vectors, model: str) -> Vectors:
    """Return unit vectors.

    Raises:
        EmbeddingError: NaN, infinity, or nothing but zeros, by row.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))).tolist()
    if bad:
        raise EmbeddingError(
            f"{model} gave NaN, infinity or zeros for rows {listed(bad)} of {len(vectors)}",
            hint="look into the server's log; float32 may help",
        )
    unit: Vectors = vectors / norms
    return unit
