"""Step A of LREM's data construction: reasoning by a teacher, keywords out of it, rules over them.

Source: LREM § 3.2. Deviations: the rules of the extraction also cover excluded things and queries that need nothing;
where a query's reasoning came with it (a file of teacher lines), A1 and A2 are left out and A3 applies as ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.model.reasoning import parse_reasoning
from lrem_os.train.construct.endpoint import Endpoint, NoAnswer, in_threads
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.lines import QueryLine
from lrem_os.train.construct.prompts import EXTRACT, REASON, Prompt
from lrem_os.types import Reasoning

_NOTHING = frozenset({"", "none", "n/a", "nothing"})


@dataclass(frozen=True, slots=True)
class Teacher:
    """Writes keywords about queries.

    Args:
        endpoint: The model; ``None``: every query brings its reasoning along.
        banned: Keywords that are always removed.
    """

    endpoint: Endpoint | None = None
    banned: tuple[str, ...] = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords."""
        if self.endpoint is None:
            return {"model": "none: reasoning comes with the queries", "banned": list(self.banned)}
        versions = [prompt.version for prompt in self.prompts]
        return {**self.endpoint.settings.identity, "prompts": versions, "banned": list(self.banned)}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What it is asked."""
        return () if self.endpoint is None else (REASON, EXTRACT)

    def reason(self, queries: Sequence[QueryLine], journal: Journal) -> list[Reasoning | NoAnswer]:
        """Return the reasoning of each query, after the rules (A3).

        Raises:
            GenerationError: The endpoint as a whole does not work.
        """
        num_threads = self.endpoint.settings.concurrency if self.endpoint is not None else 1
        return in_threads(lambda query: self._reason(query, journal), queries, num_threads)

    def _reason(self, query: QueryLine, journal: Journal) -> Reasoning:
        if query.reasoning is not None:
            return self._rules(query, query.reasoning)
        if self.endpoint is None:
            raise NoAnswer("it brings no 'cot', and no teacher was named")
        endpoint, key = self.endpoint, query.query_id
        thought = journal.once(key, "A1", lambda: _ask(endpoint, REASON, key, query=query.text))
        extracted = journal.once(
            key, "A2", lambda: _ask(endpoint, EXTRACT, key, query=query.text, reasoning=thought["text"])
        )
        return self._rules(query, extracted["text"], extracted["num_tokens"], extracted["truncated"])

    def _rules(self, query: QueryLine, text: str, num_tokens: int = 0, truncated: bool = False) -> Reasoning:
        """A3: no keyword twice, none that overlaps the query, none that is banned."""
        if text.strip().rstrip(".").lower() in _NOTHING:
            text = ""
        return parse_reasoning(
            text,
            query.text,
            banned=self.banned,
            num_tokens=num_tokens,
            truncated=truncated,
            confidence=math.nan,
        )


def _ask(endpoint: Endpoint, prompt: Prompt, key: str, **values: str) -> dict[str, Any]:
    answer = endpoint.ask(prompt.fill(**values), f"{prompt.version} {key}")
    return {"text": answer.text, "num_tokens": answer.num_tokens, "truncated": answer.truncated}
