"""Runs and judgments of any size as TREC files: seeded, and written a query at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_CATALOG = 1_000_000  # documents that are drawn from
_JUDGED = 20  # documents a query


def query_ids(num: int) -> list[str]:
    return [f"q{at}" for at in range(num)]


def write_qrels(path: Path, num_queries: int) -> None:
    """Write judgments with grades 0 to 3, at least one relevant document a query."""
    with path.open("w", encoding="utf-8") as file:
        for query, row in enumerate(_judged(num_queries)):
            grades = np.random.default_rng([1, query]).choice(4, size=_JUDGED, p=[0.4, 0.3, 0.2, 0.1])
            grades[0] = 3
            file.writelines(f"q{query} 0 d{doc} {grade}\n" for doc, grade in zip(row, grades, strict=True))


def write_run(path: Path, run: int, num_queries: int, depth: int) -> None:
    """Write a run that finds some of the judged documents, the more the higher its number; few scores are equal."""
    with path.open("w", encoding="utf-8") as file:
        for query, judged in enumerate(_judged(num_queries)):
            rng = np.random.default_rng([2, run, query])
            found = judged[rng.random(_JUDGED) < 0.5 + 0.02 * run]
            docs = np.unique(np.concatenate([found, rng.integers(0, _CATALOG, depth)]))
            docs = rng.permutation(docs)[:depth]
            scores = np.sort(rng.gamma(2.0, 3.0, len(docs)))[::-1]
            name = f"run{run}"
            rows = zip(docs.tolist(), scores.tolist(), range(1, len(docs) + 1), strict=True)
            file.writelines(f"q{query} Q0 d{doc} {rank} {score:.6f} {name}\n" for doc, score, rank in rows)


def _judged(num_queries: int) -> np.ndarray:
    """Return (queries, judged) numbers of documents."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, _CATALOG - _JUDGED * 97, size=num_queries)
    return starts[:, None] + np.arange(_JUDGED) * 97
