"""The language model that writes paraphrases, behind an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.errors import GenerationError
from lrem_os.eval.robustness.paraphrase import Ask
from lrem_os.model.openai_client import OpenAIClient, Refused

_ANSWER_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Paraphraser:
    """A chat model behind an OpenAI-compatible server.

    Args:
        url: Up to ``/v1``.
        model: As ``GET /v1/models`` names it.
        api_key: Sent as bearer token.
        temperature: Of the sampling; the seeds make a difference above 0.
        timeout_s: Until a request is given up, its retries included.
        max_concurrency: Requests on their way at once at most.
    """

    url: str
    model: str
    api_key: str | None = None
    temperature: float = 0.7
    timeout_s: float = 60.0
    max_concurrency: int = 4

    def ask(self) -> Ask:
        """Return what asks it. Raises ``DependencyMissing``."""
        client = OpenAIClient(
            self.url,
            api_key=self.api_key,
            timeout_s=self.timeout_s,
            max_concurrency=self.max_concurrency,
            error=GenerationError,
        )

        def ask_all(prompts: Sequence[str], seed: int) -> list[str | None]:
            async def ask_one(openai: Any, texts: Sequence[str]) -> list[str]:
                completion = await openai.chat.completions.create(
                    model=self.model,
                    messages=[{"role": "user", "content": texts[0]}],
                    temperature=self.temperature,
                    max_tokens=_ANSWER_TOKENS,
                    seed=seed,
                )
                choices = completion.choices
                if not choices or choices[0].message is None:
                    raise ValueError("the answer holds no message")
                return [choices[0].message.content or ""]

            return [None if isinstance(one, Refused) else one for one in client.ask_all(ask_one, prompts, 1)]

        return ask_all
