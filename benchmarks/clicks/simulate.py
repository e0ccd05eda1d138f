"""Click logs whose truth is known: a ranker of a given quality, users who follow a click model, a seed.

Position-based model: a result is clicked when its position is looked at (1/position) and it attracts. Cascade model
(Craswell et al., An Experimental Comparison of Click Position-Bias Models, WSDM 2008): the user reads from the top and
stops at the first click.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrem_os.eval.judgments.clicks import ClickCounts

Users = Literal["position", "cascade"]

ATTRACTS = np.array([0.04, 0.12, 0.3, 0.6])
"""Probability of a click on a result that is looked at, by its grade."""
SHARES = (0.5, 0.25, 0.15, 0.1)


@dataclass(frozen=True)
class Shop:
    """What is simulated.

    Args:
        users: Who clicks.
        skill: What a grade adds to a ranker's score, whose error per query and document has deviation 1.
        shuffle: Deviation of what changes from search to search: personalisation, stock, tests.
        num_queries: Queries.
        num_docs: Candidates of each.
        num_shown: Results on a page.
        num_searches: How often each query is asked.
        seed: Of everything.
    """

    users: Users
    skill: float = 0.5
    shuffle: float = 0.5
    num_queries: int = 200
    num_docs: int = 15
    num_shown: int = 10
    num_searches: int = 500
    seed: int = 0


def simulate(shop: Shop) -> tuple[ClickCounts, npt.NDArray[np.int64]]:
    """Return the log, and the true grade of every pair in the log's order."""
    rng = np.random.default_rng(shop.seed)
    shown = np.zeros((shop.num_queries, shop.num_docs, shop.num_shown))
    clicked = np.zeros_like(shown)
    grades = rng.choice(4, size=(shop.num_queries, shop.num_docs), p=SHARES)
    for query in range(shop.num_queries):
        order = _rank(shop, grades[query], rng)  # (searches, shown): documents
        clicks = _click(shop, ATTRACTS[grades[query]][order], rng)
        places = np.broadcast_to(np.arange(shop.num_shown), order.shape)
        np.add.at(shown[query], (order, places), 1)
        np.add.at(clicked[query], (order, places), clicks)
    query_at, doc_at, place_at = np.nonzero(shown)
    pairs, pair = np.unique(query_at * shop.num_docs + doc_at, return_inverse=True)
    names = tuple((f"q{number // shop.num_docs:04}", f"d{number % shop.num_docs:02}") for number in pairs)
    cells = shown[query_at, doc_at, place_at], clicked[query_at, doc_at, place_at]
    return ClickCounts(names, pair, place_at + 1, *cells), grades.reshape(-1)[pairs]


def _rank(shop: Shop, grades: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    fixed = shop.skill * grades + rng.normal(size=shop.num_docs)
    scores = fixed + shop.shuffle * rng.normal(size=(shop.num_searches, shop.num_docs))
    order: npt.NDArray[np.int64] = np.argsort(-scores, axis=1)[:, : shop.num_shown]
    return order


def _click(shop: Shop, attracts: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    liked: npt.NDArray[np.bool_] = rng.random(attracts.shape) < attracts
    if shop.users == "position":
        looked: npt.NDArray[np.bool_] = rng.random(attracts.shape) < 1 / np.arange(1, shop.num_shown + 1)
        return liked & looked
    first: npt.NDArray[np.bool_] = liked & (np.cumsum(liked, axis=1) == 1)
    return first
