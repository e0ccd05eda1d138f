"""How far two judges agree beyond chance: Cohen's kappa, plain and with quadratic weights. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrem_os.errors import InputError
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.intervals import ENDS


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement beyond chance, 1 at best, 0 as chance has it.

    Args:
        value: Kappa; ``None`` where both judges gave one and the same grade throughout: nothing to agree on.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges on the pairs that both graded.

    Args:
        pairs: How many.
        queries: Of how many queries.
        exact: Share of pairs with the same grade.
        plain: Cohen's kappa.
        quadratic: With weights (i − j)²: a grade off by two counts four times as much as one off by one.
        relevant: Kappa of relevant or not, from grade ``min_grade`` on.
        grades: The grades, ascending: rows and columns of the table.
        table: Counts; row the first judge (a person, say), column the second.
    """

    pairs: int
    queries: int
    exact: float
    plain: Kappa
    quadratic: Kappa
    relevant: Kappa
    grades: tuple[int, ...]
    table: tuple[tuple[int, ...], ...]


def measure_agreement(
    first: Qrels, second: Qrels, *, min_grade: int = 1, resamples: int = 2000, seed: int = 0
) -> Agreement:
    """Compare two sets of judgments on the pairs that are in both.

    The intervals are percentile bootstraps over queries: pairs of one query are judged alike, and drawing single pairs
    would make the intervals too narrow.

    Source: Cohen, A Coefficient of Agreement for Nominal Scales (1960); Weighted Kappa (1968).

    Raises:
        InputError: No pair is in both.
    """
    shared = {qid: [doc_id for doc_id in grades if doc_id in second.get(qid, {})] for qid, grades in first.items()}
    shared = {qid: doc_ids for qid, doc_ids in shared.items() if doc_ids}
    if not shared:
        raise InputError("no query and document are judged by both", hint="check that the ids are the same ones")
    both = [(first[qid], second[qid], doc_ids) for qid, doc_ids in shared.items()]
    grades = sorted({side[doc_id] for one, two, doc_ids in both for doc_id in doc_ids for side in (one, two)})
    place = {grade: number for number, grade in enumerate(grades)}
    tables = np.zeros((len(both), len(grades), len(grades)))  # one a query: (Q, G, G)
    for number, (one, two, doc_ids) in enumerate(both):
        for doc_id in doc_ids:
            tables[number, place[one[doc_id]], place[two[doc_id]]] += 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(both), np.full(len(both), 1 / len(both)), size=resamples)  # (R, Q): how often each
    samples = np.einsum("rq,qij->rij", drawn.astype(float), tables)
    total, levels = tables.sum(axis=0), np.array(grades, dtype=float)
    relevant = (levels >= min_grade).astype(float)
    return Agreement(
        pairs=int(total.sum()),
        queries=len(both),
        exact=float(np.trace(total) / total.sum()),
        plain=_estimate(total, samples, _distances(levels, 0)),
        quadratic=_estimate(total, samples, _distances(levels, 2)),
        relevant=_estimate(total, samples, _distances(relevant, 0)),
        grades=tuple(grades),
        table=tuple(tuple(int(count) for count in row) for row in total),
    )


def kappa(table: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]) -> float:
    """Return 1 − observed over expected disagreement, shape of both (G, G); NaN where none can be expected.

    >>> round(kappa(np.array([[20.0, 5.0], [10.0, 15.0]]), 1 - np.eye(2)), 3)
    0.4
    """
    total = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total if total else np.zeros_like(table)
    chance = float((distances * expected).sum())
    return 1 - float((distances * table).sum()) / chance if chance else float("nan")


def _distances(levels: npt.NDArray[np.float64], power: int) -> npt.NDArray[np.float64]:
    """Return |i − j|^power; with 0: whether they differ."""
    apart = np.abs(levels[:, None] - levels[None, :])
    return apart**power if power else (apart > 0).astype(float)


def _estimate(
    total: npt.NDArray[np.float64],
    samples: Sequence[npt.NDArray[np.float64]] | npt.NDArray[np.float64],
    distances: npt.NDArray[np.float64],
) -> Kappa:
    value = kappa(total, distances)
    values = np.array([kappa(sample, distances) for sample in samples])
    known = values[np.isfinite(values)]
    if not np.isfinite(value) or not len(known):
        return Kappa(None, None, None)
    low, high = np.quantile(known, ENDS)
    return Kappa(value, float(low), float(high))
