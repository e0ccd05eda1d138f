"""Rankings of many queries under one name: from a retriever, to and from TREC run files.

A run is a set of scores; its order follows from them. Everything that is measured or saved goes through ``strict``
first, so no tool downstream has ties to break its own way: ranx breaks them by an unstable sort, trec_eval by id
descending, OpenSearch's hits here by id ascending.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lrem_os.errors import RunError
from lrem_os.eval.answers import Answers, is_answers, parse_answers
from lrem_os.eval.datasets import COLUMNS, DataFile, read_file
from lrem_os.eval.output import write_whole
from lrem_os.types import Hit, Query, Ranking, Retriever

Run = Mapping[str, Ranking]
"""Query id → ranking."""

MAX_SCORE = 3e38
"""Beyond this a score is infinite to trec_eval, which reads 32 bits."""

_BATCH = 16  # queries handed to the retriever at once: progress moves, and a failure or a kill costs little


def strict(ranking: Ranking, *, run: str = "run", query_id: str = "") -> Ranking:
    """Return the ranking by score descending, ties by id ascending, with scores that strictly decrease in 32 bits.

    A tied score is lowered to the next smaller float32, so the order stays the same in every tool and the scores are
    what they were to seven digits.

    Raises:
        RunError: A score is NaN, infinite or beyond ``MAX_SCORE``; a document comes twice; an id is empty.

    >>> strict(Ranking((Hit("b", 1.0), Hit("c", 2.0), Hit("a", 1.0)))).hits
    (Hit(doc_id='c', score=2.0, source={}, legs={}), Hit(doc_id='a', score=1.0, source={}, legs={}), \
Hit(doc_id='b', score=0.9999999403953552, source={}, legs={}))
    """
    where = f"run {run!r}, query {query_id!r}"
    seen: set[str] = set()
    for hit in ranking.hits:
        if not math.isfinite(hit.score) or abs(hit.score) > MAX_SCORE:
            raise RunError(f"{where}: document {hit.doc_id!r} has score {hit.score}: want a finite number")
        if not hit.doc_id:
            raise RunError(f"{where}: a document has an empty id")
        if hit.doc_id in seen:
            raise RunError(f"{where}: document {hit.doc_id!r} comes twice")
        seen.add(hit.doc_id)
    hits = sorted(ranking.hits, key=lambda hit: (-hit.score, hit.doc_id))
    scores = _strictly_decreasing([hit.score for hit in hits])
    ordered = tuple(Hit(hit.doc_id, score, hit.source, hit.legs) for hit, score in zip(hits, scores, strict=True))
    return replace(ranking, hits=ordered)


def collect_run(
    open_retriever: Callable[[], Retriever],
    queries: Sequence[Query],
    *,
    top_k: int,
    name: str = "run",
    answers: Answers | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Ranking]:
    """Ask a retriever every query that is not answered yet and return all rankings by query id.

    Args:
        open_retriever: Gives what is measured, the same that serves; not called where every answer is there.
        queries: In any order; their ids are unique.
        top_k: Depth of the run.
        name: Of the run, for messages.
        answers: Where answers are kept as they come, and taken from; none: nowhere.
        on_progress: Called with name, queries done, queries in all.

    Raises:
        RunError: The retriever breaks its contract: number of rankings, their length or their order.
        SearchError: OpenSearch could not answer.
    """
    report = on_progress or (lambda _name, _done, _total: None)
    kept = {} if answers is None else {query.query_id: answers.get(query) for query in queries}
    run = {query_id: ranking for query_id, ranking in kept.items() if ranking is not None}
    left = [query for query in queries if query.query_id not in run]
    if run:
        report(name, len(run), len(queries))
    retriever = open_retriever() if left else None
    for start in range(0, len(left), _BATCH):
        batch = left[start : start + _BATCH]
        rankings = [] if retriever is None else retriever.retrieve(batch, top_k=top_k)
        if len(rankings) != len(batch):
            raise RunError(f"run {name!r}: {len(rankings)} rankings came back for {len(batch)} queries")
        found = [
            (query, _as_served(ranking, top_k, name, query.query_id))
            for query, ranking in zip(batch, rankings, strict=True)
        ]
        run |= {query.query_id: ranking for query, ranking in found}
        if answers is not None:
            answers.add(found)
        report(name, len(run), len(queries))
    return {query.query_id: run[query.query_id] for query in queries}


def read_run(path: str | Path) -> dict[str, Ranking]:
    """Return the run of a file (gzip is undone). See ``parse_run``."""
    return parse_run(read_file(path))


def parse_run(file: DataFile) -> dict[str, Ranking]:
    """Return a run of answers as ``answers.py`` keeps them, or a TREC run, ordered as trec_eval orders it.

    TREC (``qid Q0 docid rank score tag``) is ordered by the score in 32 bits, ties by document id descending; the rank
    column is not looked at.

    Raises:
        DatasetError: A line of answers is broken.
        RunError: A line has not 6 columns, a score is no finite number, or a document comes twice.
    """
    if is_answers(file):
        return {qid: strict(ranking, run=file.path, query_id=qid) for qid, ranking in parse_answers(file).items()}
    rows: dict[str, dict[str, float]] = {}
    for number, line in file.lines:
        where = f"{file.path}:{number}"
        columns = COLUMNS.split(line.strip(" \t"))
        if len(columns) != 6:
            raise RunError(f"{where}: {len(columns)} columns: want 6 (query id, Q0, document id, rank, score, tag)")
        query_id, _, doc_id, _, score, _ = columns
        documents = rows.setdefault(query_id, {})
        if doc_id in documents:
            raise RunError(f"{where}: document {doc_id!r} comes twice for query {query_id!r}")
        documents[doc_id] = _score(score, where)
    return {query_id: _as_trec_eval(documents) for query_id, documents in rows.items()}


def format_run(name: str, run: Run) -> str:
    """Return the run as TREC text, queries by id, best document first. A query without results leaves no line.

    Raises:
        RunError: An id or the name cannot stand in a column: it is empty or holds a blank.
    """
    lines = []
    _check_column(name, "the name of the run")
    for query_id in sorted(run):
        _check_column(query_id, "the query id")
        for rank, hit in enumerate(strict(run[query_id], run=name, query_id=query_id).hits, 1):
            _check_column(hit.doc_id, "the document id")
            lines.append(f"{query_id} Q0 {hit.doc_id} {rank} {np.float32(hit.score)!s} {name}\n")
    return "".join(lines)


def write_run(path: str | Path, name: str, run: Run) -> None:
    """Write the run as a TREC file: the whole file or none.

    Raises:
        DatasetError: The file cannot be written.
        RunError: An id has no place in the format.
    """
    write_whole(path, format_run(name, run).encode())


def _strictly_decreasing(scores: Sequence[float]) -> list[float]:
    """Return non-increasing scores as float32 values that strictly decrease."""
    narrow = np.asarray(scores, dtype=np.float32)
    if not (narrow[1:] < narrow[:-1]).all():  # almost no ranking has ties
        for idx in range(1, len(narrow)):
            if narrow[idx] >= narrow[idx - 1]:
                narrow[idx] = np.nextafter(narrow[idx - 1], np.float32(-np.inf))
    return [float(score) for score in narrow]


def _as_trec_eval(documents: Mapping[str, float]) -> Ranking:
    order = sorted(documents.items(), key=lambda item: (np.float32(item[1]), item[0]), reverse=True)
    scores = _strictly_decreasing([score for _, score in order])
    hits = tuple(Hit(doc_id, score) for (doc_id, _), score in zip(order, scores, strict=True))
    return Ranking(hits, total=len(hits))


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError as exc:
        raise RunError(f"{where}: score {text!r} is no number") from exc
    if not math.isfinite(score) or abs(score) > MAX_SCORE:
        raise RunError(f"{where}: score {text!r}: want a finite number")
    return score


def _as_served(ranking: Ranking, top_k: int, name: str, query_id: str) -> Ranking:
    """Return the strict ranking; sorting by another order than the scores' would measure what nobody is served."""
    where = f"run {name!r}, query {query_id!r}"
    if len(ranking.hits) > top_k:
        raise RunError(f"{where}: {len(ranking.hits)} hits came back, {top_k} were asked for")
    for better, worse in pairwise(ranking.hits):
        if better.score < worse.score:
            raise RunError(f"{where}: {better.doc_id!r} ({better.score}) stands above {worse.doc_id!r} ({worse.score})")
    return strict(ranking, run=name, query_id=query_id)


def _check_column(value: str, what: str) -> None:
    if not value or any(char.isspace() or "\ud800" <= char <= "\udfff" for char in value):
        raise RunError(
            f"{what} is {value!r}: a TREC file cannot hold an empty id or one with a blank in it",
            hint="measure without saving the runs, or change the id in the catalog",
        )
