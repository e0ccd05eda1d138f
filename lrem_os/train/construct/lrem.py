"""LREM's data construction: query → reasoning → what only the reasoning finds → judged → training line.

Source: LREM § 3.2. Deviations: grades of 0 to 2 in place of relevant or not; ``cot`` is kept whole (the cut to 16
tokens belongs to the training); k is a setting, since the paper does not give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.train.construct.difference import (
    Candidate,
    ItemText,
    difference,
    query_with_reasoning,
    retrieve_each,
)
from lrem_os.train.construct.endpoint import NoAnswer
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.judge import Grade, Judge, Pair, count_grades, judge_failure
from lrem_os.train.construct.lines import QueryLine
from lrem_os.train.construct.run import Failure, Outcome
from lrem_os.train.construct.teacher import Teacher
from lrem_os.types import Query, Reasoning, Retriever

SOURCE = "Made as LREM makes its data (arXiv 2510.14321, § 3.2)."
"""For the data card."""

STEPS = {
    "read": "lines read",
    "unusable": "lines that could not be used",
    "duplicate": "queries that came before",
    "failed": "queries that a step failed on",
    "reasoned": "queries with keywords after the rules",
    "no_keywords": "queries dropped: the reasoning adds nothing",
    "no_difference": "queries dropped: the reasoning finds nothing new",
    "candidates": "products found only with the reasoning",
    "judged": "of them judged",
    "judge_failed": "of them the judge gave no grade for",
    "relevant": "of them relevant",
    "no_relevant": "queries dropped: nothing new is relevant",
    "written": "queries written",
}
"""What is counted, in order."""


@dataclass(frozen=True, slots=True)
class LremRecipe:
    """Makes training lines of windows of queries.

    Args:
        teacher: Writes the keywords.
        retriever: Finds products: the direct one.
        judge: Grades what was found; ``None``: everything counts as acceptable, unjudged.
        item_text: What the judge reads of a product.
        top_k: Depth of both rankings.
        keep_negatives: Write products judged not relevant under ``violates``; the paper drops them.
    """

    teacher: Teacher
    retriever: Retriever
    judge: Judge | None
    item_text: ItemText
    top_k: int = 50
    keep_negatives: bool = False

    @property
    def header(self) -> Mapping[str, Any]:
        """What decides the lines."""
        return {
            "construction": "lrem-1",
            "teacher": dict(self.teacher.identity),
            "judge": dict(self.judge.identity) if self.judge is not None else {"model": "none: unjudged"},
            "top_k": self.top_k,
            "keep_negatives": self.keep_negatives,
        }

    def process(self, window: Sequence[QueryLine], journal: Journal) -> Outcome:
        """Return the lines of a window of queries.

        Raises:
            GenerationError: Teacher or judge does not work as a whole.
            SearchError: The cluster does not answer.
        """
        outcome = Outcome()
        reasoned = self._reason(window, journal, outcome)
        found = self._find(reasoned, outcome)
        grades = self._grade(found, journal, outcome)
        for query, reasoning, candidates in found:
            graded = {candidate.doc_id: grades[query.query_id, candidate.doc_id] for candidate in candidates}
            self._write(query, reasoning, graded, outcome)
        return outcome

    def _reason(
        self, window: Sequence[QueryLine], journal: Journal, outcome: Outcome
    ) -> list[tuple[QueryLine, Reasoning]]:
        reasoned = []
        for query, reasoning in zip(window, self.teacher.reason(window, journal), strict=True):
            if isinstance(reasoning, NoAnswer):
                outcome.failures.append(_failure(query, "teacher", str(reasoning)))
            elif reasoning.keywords:
                reasoned.append((query, reasoning))
            else:
                outcome.counts["no_keywords"] += 1
        outcome.counts["reasoned"] += len(reasoned)
        return reasoned

    def _find(
        self, reasoned: Sequence[tuple[QueryLine, Reasoning]], outcome: Outcome
    ) -> list[tuple[QueryLine, Reasoning, list[Candidate]]]:
        """Return the queries whose difference set holds something, with it."""
        texts = [(query.text, query_with_reasoning(query.text, reasoning)) for query, reasoning in reasoned]
        asked = [Query(query.query_id, query.text, query.type) for query, _ in reasoned]
        longer = [Query(query.query_id, text, query.type) for query, (_, text) in zip(asked, texts, strict=True)]
        first = retrieve_each(self.retriever, asked, top_k=self.top_k) if asked else []
        second = retrieve_each(self.retriever, longer, top_k=self.top_k) if asked else []
        found = []
        for (query, reasoning), without, with_reasoning in zip(reasoned, first, second, strict=True):
            if isinstance(without, str) or isinstance(with_reasoning, str):
                reason = without if isinstance(without, str) else str(with_reasoning)
                outcome.failures.append(_failure(query, "retrieve", reason))
            elif hits := difference(without, with_reasoning):
                found.append((query, reasoning, [Candidate(hit.doc_id, self.item_text(hit)) for hit in hits]))
                outcome.counts["candidates"] += len(hits)
            else:
                outcome.counts["no_difference"] += 1
        return found

    def _grade(
        self, found: Sequence[tuple[QueryLine, Reasoning, list[Candidate]]], journal: Journal, outcome: Outcome
    ) -> dict[tuple[str, str], Grade]:
        pairs = [
            Pair(query.query_id, query.text, candidate.doc_id, candidate.text)
            for query, _, candidates in found
            for candidate in candidates
        ]
        if self.judge is None:
            return {(pair.query_id, pair.doc_id): 1 for pair in pairs}
        grades = self.judge.grade(pairs, journal)
        outcome.counts.update(count_grades(grades))
        return {(pair.query_id, pair.doc_id): grade for pair, grade in zip(pairs, grades, strict=True)}

    def _write(self, query: QueryLine, reasoning: Reasoning, graded: Mapping[str, Grade], outcome: Outcome) -> None:
        if failure := judge_failure(query.line, query.query_id, query.text, graded):
            outcome.failures.append(failure)
            if not failure.partial:
                return
        positives = {doc_id: grade for doc_id, grade in graded.items() if isinstance(grade, int) and grade > 0}
        if not positives:
            outcome.counts["no_relevant"] += 1
            return
        row: dict[str, Any] = {"qid": query.query_id, "type": query.type, "query": query.text}
        row |= {"cot": ", ".join(reasoning.keywords), "positives": positives}
        if self.keep_negatives and (negatives := [doc_id for doc_id, grade in graded.items() if grade == 0]):
            row["violates"] = negatives
        outcome.rows.append(row)


def _failure(query: QueryLine, step: str, error: str) -> Failure:
    return Failure(query.line, query.query_id, query.text, step, error)
