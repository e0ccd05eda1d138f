"""A model behind an OpenAI-compatible server, asked from several threads at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lrem_os.errors import GenerationError
from lrem_os.extras import require
from lrem_os.text import without_thinking

T = TypeVar("T")
R = TypeVar("R")

_GIVE_UP_AFTER = 20  # requests that fail one after the other: then it is the server, not the question


class NoAnswer(Exception):
    """One question was not answered; others may be. A result more than an error: counted, and never shown as one."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where a model answers, and how it is asked.

    Args:
        url: Address up to ``/v1``.
        model: Its name there.
        api_key: Sent as a bearer token, if any.
        timeout_s: Seconds until a question is given up.
        retries: Further tries after 408, 409, 429, 5xx, a time-out or a lost connection.
        concurrency: Questions at the same time.
        temperature: Of the sampling.
        max_tokens: Most tokens of an answer.
        seed: Of the sampling, where the server supports it.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    retries: int = 5
    concurrency: int = 8
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers."""
        return {name: getattr(self, name) for name in ("model", "temperature", "max_tokens", "seed")}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote, without its thinking.

    Args:
        text: The answer.
        num_tokens: Tokens generated, 0 where the server does not say.
        truncated: Whether the limit ended it.
    """

    text: str
    num_tokens: int = 0
    truncated: bool = False


class Endpoint:
    """A chat model behind a server. May be used from several threads; close it in the end.

    Args:
        settings: Where and how.

    Raises:
        DependencyMissing: The package openai is not installed.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._openai: Any = require("openai", extra="train")
        self.settings = settings
        self._client = self._openai.OpenAI(
            base_url=settings.url,
            api_key=settings.api_key or "none",
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )
        self._lock = threading.Lock()
        self._failures = 0

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, messages: Sequence[dict[str, str]], key: str) -> Answer:
        """Return the answer to a chat.

        Args:
            messages: The chat.
            key: Makes the seed of this question: the same in every run.

        Raises:
            NoAnswer: This question got none.
            GenerationError: The server cannot be reached, refuses us, or fails on every question.
        """
        settings = self.settings
        try:
            completion = self._client.chat.completions.create(
                model=settings.model,
                messages=list(messages),
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                seed=seed_of(settings.seed, key),
            )
            answer = _answer_of(completion)
        except (self._openai.OpenAIError, NoAnswer, ValueError) as exc:  # ValueError: the body is not JSON
            raise self._judge(exc) from exc
        with self._lock:
            self._failures = 0
        return answer

    def _judge(self, exc: Exception) -> Exception:
        """Return what a failed question means."""
        openai, where = self._openai, f"{self.settings.model} at {self.settings.url}"
        said = " ".join(str(exc).split())[:300]
        if isinstance(exc, openai.APIConnectionError) and not isinstance(exc, openai.APITimeoutError):
            return GenerationError(f"cannot reach {where}: {said}", hint="is it running? start again to go on")
        if isinstance(exc, openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError):
            return GenerationError(f"{where} refuses: {said}", hint="check address, model name and key")
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= _GIVE_UP_AFTER:
            return GenerationError(
                f"{where} failed on {failures} questions in a row; the last: {said}",
                hint="see its log; start again to go on where this stopped",
            )
        timed_out = isinstance(exc, openai.APITimeoutError)
        return NoAnswer(f"no answer within {self.settings.timeout_s:g} s" if timed_out else said)


def in_threads(function: Callable[[T], R], inputs: Sequence[T], num_threads: int) -> list[R | NoAnswer]:
    """Return the results in the order of the inputs, ``NoAnswer`` in the place of those that got none.

    Raises:
        GenerationError: What ``function`` raises beside ``NoAnswer`` ends it all: questions not asked yet are dropped.
    """
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        futures = [pool.submit(function, one) for one in inputs]
        results: list[R | NoAnswer] = []
        try:
            for future in futures:
                try:
                    results.append(future.result())
                except NoAnswer as exc:
                    results.append(exc)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def seed_of(seed: int, key: str) -> int:
    """Return a seed for one question, in [0, 2**31).

    >>> seed_of(0, "q1") == seed_of(0, "q1") != seed_of(1, "q1")
    True
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _answer_of(completion: Any) -> Answer:
    choices = getattr(completion, "choices", None)  # the client does not check what a server sends
    message = getattr(choices[0], "message", None) if choices else None
    if not choices or message is None:
        raise NoAnswer("the answer holds no message")
    choice = choices[0]
    text = without_thinking(message.content or "").strip()
    truncated = choice.finish_reason == "length"
    if not text:
        raise NoAnswer("the answer is empty" + (": max_tokens ended it" if truncated else ""))
    usage = completion.usage
    return Answer(text, usage.completion_tokens if usage is not None else 0, truncated)
