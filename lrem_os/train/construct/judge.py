"""Relevance judges: query and product in, a grade out; 2 fully, 1 acceptable, 0 not relevant.

LREM filters its difference sets with TaoSR1, a relevance model of its own (§ 3.2); ReasonEmbed annotates candidates
with a distilled 8B model, 1 to 5, and takes 3 and more as positive (§ 3.1). Here: a model behind an endpoint with
either prompt, or a cross-encoder (``cross_encoder.py``). Never the model that is evaluated later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lrem_os.train.construct.endpoint import Endpoint, NoAnswer, in_threads
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.prompts import ANNOTATE, RELEVANCE, Prompt
from lrem_os.train.construct.run import Failure

MAX_ITEM_CHARS = 4000
"""A judge reads no more of a product: a long description must not exceed the model's context."""

_SCORE = re.compile(r"<score>\s*([0-9])\s*</score>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """What is judged.

    Args:
        query_id: Id of the query.
        query: Its text, without any reasoning.
        doc_id: Id of the product.
        item: Its text.
    """

    query_id: str
    query: str
    doc_id: str
    item: str


Grade = int | NoAnswer
"""2, 1 or 0; or that the judge gave none."""


class Judge(Protocol):
    """Grades products for queries."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the grades."""
        ...

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What it is asked, if it is asked anything."""
        ...

    def grade(self, pairs: Sequence[Pair], journal: Journal) -> list[Grade]:
        """Return a grade a pair, in the order given. Raises ``ModelError`` when it fails as a whole."""
        ...


@dataclass(frozen=True, slots=True)
class Scale:
    """A graded prompt, and what its scores mean: score → grade."""

    prompt: Prompt
    grades: Mapping[int, int]


GRADED = Scale(RELEVANCE, {0: 0, 1: 1, 2: 2})
"""The grades of the project's judged sets."""

ANNOTATED = Scale(ANNOTATE, {1: 0, 2: 0, 3: 1, 4: 2, 5: 2})
"""ReasonEmbed § 3.1: 3 and more is positive, 1 and 2 negative."""


@dataclass(frozen=True, slots=True)
class EndpointJudge:
    """A model behind an endpoint, asked pair by pair.

    Args:
        endpoint: The model.
        scale: Prompt and scores.
    """

    endpoint: Endpoint
    scale: Scale = GRADED

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model, sampling and prompt."""
        return {**self.endpoint.settings.identity, "prompts": [self.scale.prompt.version]}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The graded prompt."""
        return (self.scale.prompt,)

    def grade(self, pairs: Sequence[Pair], journal: Journal) -> list[Grade]:
        """Return a grade a pair. Raises ``GenerationError`` when the endpoint as a whole does not work."""

        def score(pair: Pair) -> int:
            step = f"judge {pair.doc_id}"
            return self.scale.grades[journal.once(pair.query_id, step, lambda: self._ask(pair))]

        return in_threads(score, pairs, self.endpoint.settings.concurrency)

    def _ask(self, pair: Pair) -> int:
        messages = self.scale.prompt.fill(query=pair.query, item=pair.item[:MAX_ITEM_CHARS])
        answer = self.endpoint.ask(messages, f"{self.scale.prompt.version} {pair.query_id} {pair.doc_id}")
        return parse_score(answer.text, self.scale)


def parse_score(text: str, scale: Scale) -> int:
    """Return the last score in tags, on the scale.

    Raises:
        NoAnswer: There is none.

    >>> parse_score("Not <score>0</score> but <score> 2 </score>", GRADED)
    2
    """
    scores = _SCORE.findall(text)
    if not scores:
        raise NoAnswer(f"no score in tags: …{text[-80:]!r}")
    score = int(scores[-1])
    if score not in scale.grades:
        raise NoAnswer(f"the score is {score}: not one of {', '.join(map(str, scale.grades))}")
    return score


def count_grades(grades: Sequence[Grade]) -> Counter[str]:
    """Return how many pairs were judged, how many were not, how many are relevant."""
    numbers = [grade for grade in grades if isinstance(grade, int)]
    return Counter(
        judged=len(numbers), judge_failed=len(grades) - len(numbers), relevant=sum(grade > 0 for grade in numbers)
    )


def judge_failure(line: int, query_id: str, query: str, graded: Mapping[str, Grade]) -> Failure | None:
    """Return the failure of a query some of whose products got no grade, if there are such."""
    failed = {doc_id: grade for doc_id, grade in graded.items() if isinstance(grade, NoAnswer)}
    if not failed:
        return None
    doc_id, reason = next(iter(failed.items()))
    error = f"{len(failed)} of {len(graded)} products without a grade, the first {doc_id!r}: {reason}"
    return Failure(line, query_id, query, "judge", error, partial=len(failed) < len(graded))
