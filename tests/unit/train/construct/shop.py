"""A shop that fits into a test: products, a retriever over them, and a model that answers as its script says."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from lrem_os.train.construct.run import Outcome, Run
from lrem_os.types import Document, Hit, Query, Ranking

PRODUCTS = {
    "p1": "Winona moisturiser for sensitive skin, barrier cream with ceramides",
    "p2": "La Mer crème, the luxury moisturising cream",
    "p3": "Red leather handbag with a zip",
    "p4": "Blue canvas tote, a handbag of cotton",
    "p5": "Oat milk, a vegan drink",
    "p6": "Soy drink, vegan, without sugar",
    "p7": "Whole milk from cows",
}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class TinyRetriever:
    """BM25 over the products, in memory; ``refuse`` names a word whose queries fail."""

    def __init__(self, products: Mapping[str, str] = PRODUCTS, refuse: Callable[[str], Exception | None] | None = None):
        self.bags = {doc_id: Counter(words(text)) for doc_id, text in products.items()}
        self.products = products
        self.refuse = refuse or (lambda _text: None)
        self.asked: list[str] = []

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        return [self._one(query.text, top_k) for query in queries]

    def _one(self, text: str, top_k: int) -> Ranking:
        if error := self.refuse(text):
            raise error
        self.asked.append(text)
        mean = sum(bag.total() for bag in self.bags.values()) / len(self.bags)
        scores = {}
        for doc_id, bag in self.bags.items():
            score = 0.0
            for word in words(text):
                found = sum(word in other for other in self.bags.values())
                rarity = math.log(1 + (len(self.bags) - found + 0.5) / (found + 0.5))
                score += rarity * bag[word] * 2.2 / (bag[word] + 1.2 * (0.25 + 0.75 * bag.total() / mean))
            if score > 0:
                scores[doc_id] = score
        order = sorted(scores, key=lambda doc_id: (-scores[doc_id], doc_id))[:top_k]
        return Ranking(tuple(Hit(doc_id, scores[doc_id], {"title": self.products[doc_id]}) for doc_id in order))


def item_text(hit: Hit) -> str:
    return str(hit.source["title"])


def document(doc_id: str, text: str | None = None, line: int = 1) -> Document:
    return Document(doc_id, PRODUCTS[doc_id] if text is None else text, {}, "", "catalog.jsonl", line)


def process_all(run: Run[Any], files: Any) -> tuple[list[dict[str, Any]], dict[str, int], list[dict[str, Any]]]:
    """Write a run; return lines, counts and failures."""
    counts = run.write(files)
    return read(files.out), counts, read(files.failed)


def read(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n") if line]


def nothing(_window: Sequence[Any], _journal: Any) -> Outcome:
    return Outcome()
