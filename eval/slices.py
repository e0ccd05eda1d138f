"""Parts of the queries: by their type, their length, how often they are asked, and the route that a run took. Pure.

A part exists where a query is in it; a dimension with one part alone says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lrem_os.types import Query, Trace

SHORT, MIDDLE, LONG = "1-2 words", "3-5 words", "6+ words"
HEAD, TORSO, TAIL = "head", "torso", "tail"

Masks = dict[str, npt.NDArray[np.bool_]]
"""Part → which queries are in it."""


def parts_of_queries(counted: Sequence[Query], asked: Sequence[Query]) -> dict[str, Masks]:
    """Return what the queries themselves tell: ``type``, ``length``, ``frequency`` → its parts.

    Args:
        counted: The queries that are measured: what the masks are over.
        asked: All queries of the file: the traffic that head, torso and tail are parts of.
    """
    frequency = frequency_parts(asked)
    labels = {
        "type": ([query.type for query in counted], sorted({query.type for query in counted})),
        "length": ([length_part(query.text) for query in counted], [SHORT, MIDDLE, LONG]),
        "frequency": ([frequency[query.query_id] for query in counted], [HEAD, TORSO, TAIL]),
    }
    found = {dimension: _masks(values, order) for dimension, (values, order) in labels.items()}
    return {dimension: masks for dimension, masks in found.items() if len(masks) > 1}


def parts_by_route(counted: Sequence[Query], traces: Mapping[str, Trace]) -> Masks:
    """Return the parts of the queries by the route that a run's traces tell; empty where fewer than two are told."""
    routes = [traces[query.query_id].route if query.query_id in traces else "" for query in counted]
    masks = _masks(routes, sorted(set(routes)))
    return masks if len(masks) > 1 else {}


def length_part(text: str) -> str:
    """Return how long a query is, in words between blanks (a language without blanks has one word a query).

    >>> length_part("red bag"), length_part("red bag for work"), length_part("a red bag for my old laptop")
    ('1-2 words', '3-5 words', '6+ words')
    """
    words = len(text.split())
    return SHORT if words <= 2 else MIDDLE if words <= 5 else LONG


def frequency_parts(asked: Sequence[Query]) -> dict[str, str]:
    """Return query id → ``head``, ``torso`` or ``tail``: thirds of the traffic, the most frequent queries first.

    A query is in the head where those asked more often than it make up less than a third of the traffic, in the torso
    where they make up less than two thirds. So equally frequent queries stand together, and the order of the file does
    not matter; equal frequencies throughout are all head, which is no slice.
    """
    frequencies = np.array([query.frequency for query in asked])
    values, counts = np.unique(-frequencies, return_counts=True)  # the most frequent first
    traffic = -values * counts
    before = np.concatenate([[0.0], np.cumsum(traffic)[:-1]]) / traffic.sum()
    names = {
        -value: HEAD if share < 1 / 3 else TORSO if share < 2 / 3 else TAIL
        for value, share in zip(values.tolist(), before.tolist(), strict=True)
    }
    return {query.query_id: names[query.frequency] for query in asked}


def _masks(values: Sequence[str], order: Sequence[str]) -> Masks:
    column = np.array(values, dtype=object)
    masks = {part: column == part for part in order}
    return {part: mask for part, mask in masks.items() if mask.any()}
