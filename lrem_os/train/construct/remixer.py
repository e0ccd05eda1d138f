"""ReasonEmbed's ReMixer: queries written for items, answers mined without the item itself, every one annotated.

Source: ReasonEmbed § 3.1. Deviations: the types and their instructions are a shop's, not BRIGHT's domains; the first
``candidates`` of the ranking are kept (the authors search 1,000 deep and keep 100); scores of 3 become grade 1, 4 and 5
grade 2, so that all training files have one scale. The released data's ``reasoning_query`` is not made here: how
it was is not published. Feed the output to the LREM construction, or its queries to a teacher, for reasoning.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.model.prompts import one_line
from lrem_os.train.construct.difference import ItemText, retrieve_each
from lrem_os.train.construct.endpoint import Endpoint, NoAnswer, in_threads, seed_of
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.judge import Grade, Judge, Pair, count_grades, judge_failure
from lrem_os.train.construct.lines import Unusable
from lrem_os.train.construct.prompts import WRITE_QUERY, Prompt
from lrem_os.train.construct.run import Failure, Outcome
from lrem_os.train.construct.settings import RemixSettings
from lrem_os.types import Document, Query, Retriever

SOURCE = "Made as ReasonEmbed's ReMixer makes its data (arXiv 2510.08252, § 3.1)."
"""For the data card."""

STEPS = {
    "read": "items read",
    "unusable": "items left out: unreadable, too short or too long",
    "failed": "items that a step failed on",
    "queries": "queries written for items",
    "candidates": "products mined for them",
    "judged": "of them judged",
    "judge_failed": "of them the judge gave no score for",
    "relevant": "of them positive",
    "no_positive": "queries dropped: nothing is positive",
    "no_negative": "queries dropped: nothing is negative",
    "written": "queries written out",
}
"""What is counted, in order."""

_QUOTES = "\"'“”„«»"


@dataclass(frozen=True, slots=True)
class Wish:
    """What kind of query is to be written for an item."""

    type: str
    length: str
    education: str


def draw_wish(doc_id: str, settings: RemixSettings) -> Wish:
    """Return what is drawn for an item: by its id and the seed alone, so that order and resuming do not matter.

    Source: ReasonEmbed § 3.1, the weights of length and education level.
    """
    rng = random.Random(seed_of(settings.seed, doc_id))
    return Wish(
        rng.choice(list(settings.types)),
        rng.choices(list(settings.lengths), list(settings.lengths.values()))[0],
        rng.choices(list(settings.education), list(settings.education.values()))[0],
    )


def fitting(items: Iterable[Document | Unusable], settings: RemixSettings) -> Iterator[Document | Unusable]:
    """Yield the items, those whose length does not fit as unusable (ReasonEmbed § 3.1: 200 to 5,000 characters)."""
    for item in items:
        if isinstance(item, Unusable) or settings.min_chars <= len(item.text) <= settings.max_chars:
            yield item
            continue
        reason = f"has {len(item.text)} characters: want {settings.min_chars} to {settings.max_chars}"
        yield Unusable(item.line, reason, item.doc_id)


@dataclass(frozen=True, slots=True)
class RemixRecipe:
    """Makes training lines of windows of items.

    Args:
        writer: Writes the queries.
        retriever: Mines the candidates.
        judge: Annotates them.
        item_text: What the judge reads of a product.
        settings: What is written and mined.
    """

    writer: Endpoint
    retriever: Retriever
    judge: Judge
    item_text: ItemText
    settings: RemixSettings

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What writer and judge are asked."""
        return (WRITE_QUERY, *self.judge.prompts)

    @property
    def header(self) -> Mapping[str, Any]:
        """What decides the lines."""
        return {
            "construction": "remix-1",
            "writer": {**self.writer.settings.identity, "prompts": [WRITE_QUERY.version]},
            "judge": dict(self.judge.identity),
            **self.settings.model_dump(),
        }

    def process(self, window: Sequence[Document], journal: Journal) -> Outcome:
        """Return the lines of a window of items.

        Raises:
            GenerationError: Writer or judge does not work as a whole.
            SearchError: The cluster does not answer.
        """
        outcome = Outcome()
        pairs = self._mine(self._write_queries(window, journal, outcome), outcome)
        flat = [pair for _, found in pairs for pair in found]
        grades = self.judge.grade(flat, journal)
        outcome.counts.update(count_grades(grades))
        by_pair = {(pair.query_id, pair.doc_id): grade for pair, grade in zip(flat, grades, strict=True)}
        for item, found in pairs:
            graded = {pair.doc_id: by_pair[pair.query_id, pair.doc_id] for pair in found}
            self._write(item, found, graded, outcome)
        return outcome

    def _write_queries(
        self, window: Sequence[Document], journal: Journal, outcome: Outcome
    ) -> list[tuple[Document, Query]]:
        def write(item: Document) -> str:
            text: str = journal.once(query_id_of(item), "query", lambda: self._ask(item))
            return text

        written = []
        for item, text in zip(window, in_threads(write, window, self.writer.settings.concurrency), strict=True):
            if isinstance(text, NoAnswer):
                outcome.failures.append(Failure(item.line, query_id_of(item), "", "query", str(text)))
            else:
                kind = draw_wish(item.doc_id, self.settings).type
                written.append((item, Query(query_id_of(item), text, kind)))
        outcome.counts["queries"] += len(written)
        return written

    def _ask(self, item: Document) -> str:
        messages = query_messages(item, self.settings)
        answer = self.writer.ask(messages, f"{WRITE_QUERY.version} {item.doc_id}")
        text = one_line(answer.text).strip(_QUOTES + " ")
        if answer.truncated or not text:
            raise NoAnswer("the query was cut: raise the limit of tokens" if text else "the query is empty")
        return text

    def _mine(self, written: Sequence[tuple[Document, Query]], outcome: Outcome) -> list[tuple[Document, list[Pair]]]:
        """Return what is found for each query, without the item that it was written for."""
        queries = [query for _, query in written]
        rankings = retrieve_each(self.retriever, queries, top_k=self.settings.candidates + 1) if queries else []
        mined = []
        for (item, query), ranking in zip(written, rankings, strict=True):
            if isinstance(ranking, str):
                outcome.failures.append(Failure(item.line, query.query_id, query.text, "retrieve", ranking))
                continue
            hits = [hit for hit in ranking.hits if hit.doc_id != item.doc_id][: self.settings.candidates]
            pairs = [Pair(query.query_id, query.text, hit.doc_id, self.item_text(hit)) for hit in hits]
            outcome.counts["candidates"] += len(pairs)
            outcome.counts["no_positive"] += not pairs
            mined += [(item, pairs)] if pairs else []
        return mined

    def _write(self, item: Document, pairs: Sequence[Pair], graded: Mapping[str, Grade], outcome: Outcome) -> None:
        query = pairs[0].query
        if failure := judge_failure(item.line, query_id_of(item), query, graded):
            outcome.failures.append(failure)
            if not failure.partial:
                return
        positives = {doc_id: grade for doc_id, grade in graded.items() if isinstance(grade, int) and grade > 0}
        negatives = [doc_id for doc_id, grade in graded.items() if grade == 0]
        if not positives or not negatives:
            outcome.counts["no_positive" if not positives else "no_negative"] += 1
            return
        kind = draw_wish(item.doc_id, self.settings).type
        row = {"qid": query_id_of(item), "type": kind, "query": query}
        outcome.rows.append({**row, "positives": positives, "violates": negatives})


def query_messages(item: Document, settings: RemixSettings) -> list[dict[str, str]]:
    """Return what the writer is asked for an item."""
    wish = draw_wish(item.doc_id, settings)
    instruction = settings.types[wish.type]
    return WRITE_QUERY.fill(item=item.text, instruction=instruction, length=wish.length, education=wish.education)


def query_id_of(item: Document) -> str:
    """Return the id of the query that is written for an item."""
    return f"remix-{item.doc_id}"
