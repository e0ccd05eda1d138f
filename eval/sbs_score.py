"""From votes to a verdict: GSB with its interval, per query type, and how far the judges agree.

GSB = (good − bad) / all: good is a vote for the second run, bad one for the first, all holds the votes for "same" too.
Source: LREM (arXiv 2510.14321), § 4.4. The interval is the percentile bootstrap over queries: the votes on one query
are not independent of each other. A query that both runs answer alike is not shown; it counts as "same" with the votes
that a shown query has on average, so that it weighs no more where judges split a sheet or leave part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrem_os.errors import InputError
from lrem_os.eval.intervals import bootstrap_columns
from lrem_os.eval.sbs_votes import Key, Votes

SCHEMA = "lrem-os/sbs-score/1"


@dataclass(frozen=True, slots=True)
class Gsb:
    """Votes on some queries.

    Args:
        gsb: (good − bad) / all, in [−1, 1]; above 0 the second run is preferred. All holds the votes below, and for
            each query that both runs answer alike as many as a shown query has on average.
        low: Lower end of its interval.
        high: Upper end.
        good: Votes for the second run.
        same: Votes for neither.
        bad: Votes for the first run.
        num_queries: Queries with a vote, and those that both runs answer alike.
    """

    gsb: float
    low: float
    high: float
    good: int
    same: int
    bad: int
    num_queries: int


@dataclass(frozen=True, slots=True)
class Score:
    """What a side-by-side evaluation says.

    Args:
        runs: First and second; GSB is of the second over the first.
        overall: Over all votes.
        by_type: Per query type; empty when there are fewer than two.
        judges: Name → how many queries each has decided.
        skipped: Votes of "cannot tell"; they count for nothing.
        unjudged: Queries of the sheet that nobody has decided.
        num_alike: Queries that both runs answer alike; not shown, and counted as same.
        agreement: Krippendorff's alpha over the queries that two or more have decided: 1 is perfect, 0 is chance;
            None with one judge, or where all votes are equal.
        num_shared: How many queries that are.
        left_share: Of the votes for a side, those for the left one; far from 0.5 the side, not the run, was judged.
    """

    runs: tuple[str, str]
    overall: Gsb
    by_type: Mapping[str, Gsb]
    judges: Mapping[str, int]
    skipped: int
    unjudged: int
    num_alike: int
    agreement: float | None
    num_shared: int
    left_share: float | None


def score_votes(key: Key, sheets: Sequence[Votes], *, resamples: int, seed: int) -> Score:
    """Return what the judges' votes amount to.

    Args:
        key: Of the sheet.
        sheets: One per judge, all of this sheet.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: Nobody has decided anything.
    """
    votes: dict[str, list[int]] = {}  # query → +1 for the second run, −1 for the first, 0 for neither
    sides = []
    for sheet in sheets:
        for query_id, choice in sheet.choices.items():
            if choice != "skip":
                votes.setdefault(query_id, []).append(key.value(query_id, choice))
                sides.append(choice)
    if not votes:
        raise InputError("no query is decided in any sheet", hint="judge with 1, 2 and 3, then export")
    weight = sum(map(len, votes.values())) / len(key.left)  # of a query that both runs answer alike
    counted: dict[str, list[int]] = votes | {query_id: [] for query_id in key.alike}
    kinds = sorted({key.types[query_id] for query_id in counted})
    by_type = {
        kind: _gsb(
            [found for query_id, found in counted.items() if key.types[query_id] == kind], weight, resamples, seed
        )
        for kind in kinds
        if len(kinds) > 1
    }
    decided = [side for side in sides if side != "same"]
    return Score(
        runs=key.runs,
        overall=_gsb(list(counted.values()), weight, resamples, seed),
        by_type=by_type,
        judges={sheet.judge: sum(choice != "skip" for choice in sheet.choices.values()) for sheet in sheets},
        skipped=sum(choice == "skip" for sheet in sheets for choice in sheet.choices.values()),
        unjudged=len(key.left.keys() - votes.keys()),
        num_alike=len(key.alike),
        agreement=krippendorff_alpha(votes.values()),
        num_shared=sum(len(found) > 1 for found in votes.values()),
        left_share=sum(side == "left" for side in decided) / len(decided) if decided else None,
    )


def to_dict(score: Score) -> dict[str, Any]:
    """Return the score as a value that JSON can hold."""
    return {"schema": SCHEMA, **asdict(score)}


def krippendorff_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Return how far judges agree on values whose distances matter (interval metric); any number a unit may miss.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: one less the observed squared
    difference of pairs within a unit over the one expected of pairs of all values.

    >>> krippendorff_alpha([[1, 1], [0, 0], [-1, -1]])
    1.0
    >>> krippendorff_alpha([[1], [0]]) is None
    True
    """
    shared = [np.array(unit, dtype=np.float64) for unit in units if len(unit) > 1]
    if not shared:
        return None
    values = np.concatenate(shared)
    expected = _squares(values) / (len(values) - 1)
    if not expected:
        return None
    return 1 - sum(_squares(unit) / (len(unit) - 1) for unit in shared) / expected


def _squares(values: npt.NDArray[np.float64]) -> float:
    """Return the sum of the squared differences of all ordered pairs."""
    return float(2 * (len(values) * (values**2).sum() - values.sum() ** 2))


def _gsb(votes: Sequence[Sequence[int]], weight: float, resamples: int, seed: int) -> Gsb:
    """Return the verdict; a query without votes is one that both runs answer alike, and weighs as given."""
    counts = np.array([len(found) or weight for found in votes], dtype=np.float64)
    means = np.array([sum(found) for found in votes], dtype=np.float64) / counts
    (found,) = bootstrap_columns(means[:, None], resamples=resamples, seed=seed, weights=counts)
    if found is None:
        raise ValueError("there is no query")
    flat = [vote for cast in votes for vote in cast]
    return Gsb(found.mean, found.low, found.high, flat.count(1), flat.count(0), flat.count(-1), len(votes))
