"""Training queries: what was asked, the teacher's reasoning, the products that answer it."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError

EASY = "easy"
"""Type of queries that plain search answers: the right reasoning about them is none."""


@dataclass(frozen=True, slots=True)
class TrainingQuery:
    """One line of a training file.

    Args:
        query_id: Its id, unique in the file.
        query: What the shopper typed.
        type: ``easy``, ``qa``, ``alternative``, ``negative``, ``knowledge``, or empty when unknown.
        reasoning: The teacher's keywords; empty when there is nothing to add.
        positives: Products that answer it, with their grade (2 fully, 1 acceptable).
        negatives: Products that must not be found (``violates``: they break the exclusion of a negative query).
    """

    query_id: str
    query: str
    type: str = ""
    reasoning: str = ""
    positives: Mapping[str, int] = field(default_factory=dict)
    negatives: tuple[str, ...] = ()


def read_training_queries(path: str | Path) -> list[TrainingQuery]:
    """Return the queries of a JSONL file (``qid``, ``query``, ``type?``, ``cot?``, ``positives?``, ``violates?``).

    Raises:
        DatasetError: The file cannot be read, or a line is not such an object.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")  # never splitlines: texts may hold U+2028
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror}", path=path) from exc
    return [_parse(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def is_validation(query_id: str, share: float) -> bool:
    """Return whether a query is held out: by a hash of its id, so that every stage holds out the same ones.

    >>> [is_validation("q1", share) for share in (0.0, 1.0)]
    [False, True]
    """
    return int.from_bytes(hashlib.sha256(query_id.encode()).digest()[:4], "big") < share * 2**32


def head_queries(rows: Iterable[Mapping[str, Any]], num: int, rng: random.Random) -> list[str]:
    """Return short queries that need no reasoning: the catalog's brands, categories and most frequent title phrases.

    A share of each that is drawn by frequency, since that is what people type.
    """
    brands: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    phrases: Counter[str] = Counter()
    for row in rows:
        brands.update([str(row["brand"]).lower()] if row.get("brand") else [])
        leaf = str(row.get("category") or "").split(">")[-1].strip().lower().replace("_", " ")
        categories.update([leaf] if leaf else [])
        words = re.findall(r"[a-z][a-z-]+", str(row.get("title") or "").lower())
        phrases.update(words)
        phrases.update(" ".join(pair) for pair in itertools.pairwise(words))
    chosen: dict[str, None] = {}
    for counter in (brands, categories, phrases):
        for phrase in _draw(counter, num // 3, rng):
            chosen.setdefault(phrase)
    return list(chosen)[:num]


def _draw(counter: Counter[str], num: int, rng: random.Random) -> list[str]:
    frequent = [phrase for phrase, count in counter.most_common(20 * num) if count >= 3 and len(phrase) > 2]
    weights = [counter[phrase] ** 0.5 for phrase in frequent]
    keyed = sorted(zip(frequent, weights, strict=True), key=lambda pair: -(rng.random() ** (1 / pair[1])))
    return [phrase for phrase, _ in keyed[:num]]


def _parse(line: bytes, path: str | Path, number: int) -> TrainingQuery:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"is not JSON: {exc}", path=path, line=number) from exc
    if not isinstance(row, dict):
        raise DatasetError("is not a JSON object", path=path, line=number)
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise DatasetError("has no text under 'query'", path=path, line=number)
    positives, negatives = row.get("positives") or {}, row.get("violates") or []
    if not isinstance(positives, dict) or not all(isinstance(grade, int) for grade in positives.values()):
        raise DatasetError("'positives' is not an object of id and whole grade", path=path, line=number)
    if not isinstance(negatives, list):
        raise DatasetError("'violates' is not a list of ids", path=path, line=number)
    return TrainingQuery(
        query_id=str(row.get("qid") or f"{Path(path).stem}-{number}"),
        query=query,
        type=str(row.get("type") or ""),
        reasoning=str(row.get("cot") or row.get("reasoning") or ""),
        positives={str(key): grade for key, grade in positives.items()},
        negatives=tuple(map(str, negatives)),
    )


def chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield consecutive parts of at most ``size``."""
    for first in range(0, len(values), size):
        yield values[first : first + size]


def shuffled_batches(rows: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Return every row once, in random batches.

    Not sorted by length: rows without reasoning are short, and a batch of nothing else swings the weights.
    """
    mixed = list(rows)
    rng.shuffle(mixed)
    return [list(batch) for batch in chunks(mixed, batch_size)]


def catalog_batches(names: Sequence[str], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Return every row once, in random batches of one catalog each.

    Args:
        names: The catalog of each row.
        batch_size: Rows in a batch.
        rng: Draws the order.
    """
    by_catalog: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        by_catalog.setdefault(name, []).append(row)
    batches = [batch for rows in by_catalog.values() for batch in shuffled_batches(rows, batch_size, rng)]
    rng.shuffle(batches)
    return batches
