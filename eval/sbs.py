"""Two runs side by side, judged blind: which queries are shown, which run stands left, and the key to that. Pure.

People judge what they see, so a query on which both runs show the same products in the same order is not shown: it
counts as "same", by rule. Which run stands left is drawn for every query; the page does not hold it, only the key does.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lrem_os.config import CatalogSettings
from lrem_os.errors import InputError
from lrem_os.eval.runs import Run
from lrem_os.types import Query

KEY_SCHEMA = "lrem-os/sbs-key/1"
VOTES_SCHEMA = "lrem-os/sbs-votes/1"

_TEXT_SHOWN = 220  # characters: enough to tell two products apart, and ten of them still fit on a screen


@dataclass(frozen=True, slots=True)
class Item:
    """A product as judges see it: never its id, which may tell a run.

    Args:
        title: Its title, or its id where nothing is known about it.
        facts: Brand, category, price.
        text: The beginning of its description.
    """

    title: str
    facts: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with what both runs found.

    Args:
        query: The query.
        a: Document ids of the first run, best first.
        b: Of the second.
        a_is_left: Where they stand.
    """

    query: Query
    a: tuple[str, ...]
    b: tuple[str, ...]
    a_is_left: bool


@dataclass(frozen=True, slots=True)
class Draw:
    """What is to be judged.

    Args:
        pairs: Shown to judges, in this order.
        same: Queries on which both runs show the same.
        unanswered: Queries that neither run answers; they count for nothing.
    """

    pairs: tuple[Pair, ...]
    same: tuple[Query, ...]
    unanswered: tuple[Query, ...]


def sample_queries(queries: Sequence[Query], count: int | None, *, seed: int) -> list[Query]:
    """Return that many queries (none: all) in random order."""
    rng = random.Random(f"queries {seed}")  # noqa: S311 - a draw that must be repeatable, no secret
    return rng.sample(list(queries), len(queries) if count is None else min(count, len(queries)))


def draw_pairs(queries: Sequence[Query], a: Run, b: Run, *, top_k: int, seed: int) -> Draw:
    """Return the queries with the first ``top_k`` products of both runs, and which run stands left.

    Raises:
        InputError: There is nothing to judge: the runs answer none of the queries, or all of them alike.
    """
    rng = random.Random(f"sides {seed}")  # noqa: S311 - as above
    pairs, same, unanswered = [], [], []
    for query in queries:
        first, second = (_shown(run, query, top_k) for run in (a, b))
        a_is_left = rng.random() < 0.5
        if not first and not second:
            unanswered.append(query)
        elif first == second:
            same.append(query)
        else:
            pairs.append(Pair(query, first, second, a_is_left))
    if not pairs:
        raise InputError(
            f"nothing to judge: of {len(queries)} queries both runs answer {len(same)} alike, and {len(unanswered)} "
            "not at all",
            hint="runs and queries must use the same query ids; more hits (-n) show more differences",
        )
    return Draw(tuple(pairs), tuple(same), tuple(unanswered))


def build_item(doc_id: str, fields: Mapping[str, Any] | None, catalog: CatalogSettings) -> Item:
    """Return a product as it is shown, from its fields in catalog or index; ``None``: nothing is known about it."""
    if fields is None or not fields.get(catalog.title):
        return Item(doc_id)
    facts = [str(fields[name]) for name in catalog.keyword if isinstance(fields.get(name), str | int | float)]
    facts += [f"{name} {fields[name]}" for name in catalog.number if fields.get(name) is not None]
    others = [name for name in catalog.text if name not in (catalog.title, *catalog.keyword, *catalog.objects)]
    texts = [" ".join(fields[name].split()) for name in others if isinstance(fields.get(name), str)]
    text = " ".join(filter(None, texts))
    return Item(
        str(fields[catalog.title]), tuple(facts), text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 1] + "…"
    )


def page_data(draw: Draw, items: Mapping[str, Item], sheet: str) -> dict[str, Any]:
    """Return what the page holds: queries and products, and nothing that tells which run found them."""

    def shown(doc_ids: Sequence[str]) -> list[dict[str, Any]]:
        found = [items[doc_id] for doc_id in doc_ids]
        return [{"title": item.title, "facts": list(item.facts), "text": item.text} for item in found]

    return {
        "sheet": sheet,
        "schema": VOTES_SCHEMA,
        "pairs": [
            {
                "query_id": pair.query.query_id,
                "query": pair.query.text,
                "left": shown(pair.a if pair.a_is_left else pair.b),
                "right": shown(pair.b if pair.a_is_left else pair.a),
            }
            for pair in draw.pairs
        ],
    }


def build_key(draw: Draw, names: tuple[str, str], *, sheet: str, top_k: int, seed: int) -> dict[str, Any]:
    """Return what turns votes for left and right into votes for runs; keep it from the judges."""
    return {
        "schema": KEY_SCHEMA,
        "sheet": sheet,
        "runs": list(names),
        "top_k": top_k,
        "seed": seed,
        "pairs": {
            pair.query.query_id: {"left": names[0 if pair.a_is_left else 1], "type": pair.query.type}
            for pair in draw.pairs
        },
        "same": {query.query_id: {"type": query.type} for query in draw.same},
        "unanswered": [query.query_id for query in draw.unanswered],
    }


def sheet_id(draw: Draw, names: tuple[str, str], *, top_k: int, seed: int) -> str:
    """Return what ties votes to their key: another draw, other results, another id."""
    content = [names, top_k, seed, [(pair.query.query_id, pair.a, pair.b, pair.a_is_left) for pair in draw.pairs]]
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:16]


def _shown(run: Run, query: Query, top_k: int) -> tuple[str, ...]:
    ranking = run.get(query.query_id)
    return () if ranking is None else tuple(hit.doc_id for hit in ranking.hits[:top_k])
