"""The queries of the two tests, those that the gate learns from, and what is worked out once about each of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrem_os.eval.datasets import read_qrels, read_queries
from lrem_os.text import normalise_query
from lrem_os.train.data import EASY, is_validation, read_training_queries

Judged = Mapping[str, int]
_WORD = re.compile(r"[a-z][a-z'-]+")
_HEADS = {"category": (35, 40), "title": (50, 60), "long": (45, 45)}  # to learn from, for the log
_MANY = 200  # a category of more products than this is too wide to be judged by its name


@dataclass(frozen=True)
class Asked:
    """A query with the products that answer it.

    Args:
        part: ``train``, ``log`` or ``misleading``.
        query_id: Its id.
        text: As typed.
        type: ``easy`` or a hard kind; of part misleading ``long-easy`` and ``short-hard``; of head queries their kind.
        judged: Grades by product.
    """

    part: str
    query_id: str
    text: str
    type: str
    judged: Judged

    @property
    def hard(self) -> bool:
        return self.type not in {EASY, "long-easy", *_HEADS}


def read_catalog(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_asked(root: Path, rows: Sequence[Mapping[str, Any]], *, heads: bool) -> list[Asked]:
    """Return all queries, none twice.

    To learn from: the tenth of the teacher's queries that the models have not learnt from, and all of its easy ones
    (the models have learnt to be silent about most of these).

    Args:
        root: Of the shared data.
        rows: The retail catalog.
        heads: Whether head queries belong to both.
    """
    asked = [*_dev(root / "retail", "log"), *_dev(root / "router", "misleading")]
    asked += [
        Asked("train", query.query_id, query.query, query.type, query.positives)
        for query in read_training_queries(root / "teacher" / "retail.jsonl")
        if query.positives and (query.type == EASY or is_validation(query.query_id, 0.1))
    ]
    asked += head_queries(rows) if heads else []
    kept: dict[str, Asked] = {}
    for one in asked:
        kept.setdefault(normalise_query(one.text).casefold(), one)
    return list(kept.values())


def _dev(folder: Path, part: str) -> list[Asked]:
    qrels = read_qrels(folder / "qrels.txt")
    queries = read_queries(folder / "queries.jsonl")
    return [Asked(part, query.query_id, query.text, query.type, qrels.get(query.query_id, {})) for query in queries]


def head_queries(rows: Sequence[Mapping[str, Any]]) -> list[Asked]:
    """Return queries that name what is wanted, with the products they name: half to learn from, half for the log.

    ``category``: a category (its products). ``title``: the last two or three words of a title (the products whose title
    has them). ``long``: the end of a title and a piece of its description (that product): long, and nothing to reason.
    """
    rng = random.Random(0)
    words = {str(row["id"]): _WORD.findall(row["title"].lower()) for row in rows}
    found = [*_categories(rows), *_titles(rows, words, rng), *_long(rows, words, rng)]
    rng.shuffle(found)
    left = {
        (kind, part): num for kind, nums in _HEADS.items() for part, num in zip(("train", "log"), nums, strict=True)
    }
    asked = []
    for text, kind, judged in found:
        part = "log" if int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 2 else "train"
        if left[kind, part] and len(judged) <= _MANY:
            left[kind, part] -= 1
            asked.append(Asked(part, f"head-{len(asked)}", text, kind, judged))
    return asked


def _categories(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, Judged]]:
    products: dict[str, dict[str, int]] = {}
    for row in rows:
        for name in str(row["category"]).split(" > "):
            products.setdefault(name, {})[str(row["id"])] = 1
    return [(name, "category", found) for name, found in products.items()]


def _titles(
    rows: Sequence[Mapping[str, Any]], words: Mapping[str, list[str]], rng: random.Random
) -> list[tuple[str, str, Judged]]:
    found: list[tuple[str, str, Judged]] = []
    for row in rng.sample(list(rows), 300):
        phrase = words[str(row["id"])][-rng.choice([2, 2, 3]) :]
        if len(phrase) > 1:
            judged = {key: 1 for key, title in words.items() if set(phrase) <= set(title)}
            found.append((" ".join(phrase), "title", judged))
    return found


def _long(
    rows: Sequence[Mapping[str, Any]], words: Mapping[str, list[str]], rng: random.Random
) -> list[tuple[str, str, Judged]]:
    found: list[tuple[str, str, Judged]] = []
    for row in rng.sample(list(rows), 200):
        told = _WORD.findall(str(row.get("description") or "").lower())
        first = rng.randrange(max(1, len(told) - 8))
        text = " ".join([*words[str(row["id"])][-3:], *told[first : first + rng.randint(3, 8)]])
        found.append((text, "long", {str(row["id"]): 1}))
    return found
