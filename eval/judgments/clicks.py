"""Judgments from clicks: how often a result was clicked against how often it can have been seen. Pure numbers.

All three scores are clicks over exposure; they differ in what exposure is. A click rate counts every impression as
seen. COEC counts an impression as the clicks that results at its position get on average. The position-based model
counts it as the clicks that an average result of the whole log would get there: it tells how often a position is looked
at apart from how good the results are that the ranker puts there.
``docs/judgments.md`` says when to trust which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrem_os.errors import InputError

Method = Literal["ctr", "coec", "pbm"]
METHODS: tuple[Method, ...] = ("pbm", "coec", "ctr")

DEFAULT_THRESHOLDS: dict[Method, tuple[float, ...]] = {
    "pbm": (0.5, 1.0, 2.0),
    "coec": (0.5, 1.0, 2.0),
    "ctr": (0.02, 0.05, 0.15),
}
"""From which score on a grade is 1, 2, 3: half, all, twice the clicks that were to be expected; click rates."""

_Z95 = 1.959963984540054
_MAX_ROUNDS = 2000
_CLOSE = 1e-7

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClickCounts:
    """Impressions and clicks per pair and position, as parallel arrays of length C.

    Args:
        pairs: ``(query id, document id)``; a pair's number is its place here.
        pair: (C,) number of the pair.
        position: (C,) from 1.
        impressions: (C,) how often the pair was shown there.
        clicks: (C,) how often it was clicked there, at most ``impressions``.
    """

    pairs: tuple[tuple[str, str], ...]
    pair: Ints
    position: Ints
    impressions: Floats
    clicks: Floats


@dataclass(frozen=True, slots=True)
class ClickScore:
    """What the clicks say about a pair.

    Args:
        query_id: The query.
        doc_id: The document.
        score: Clicks over exposure.
        low: Lower end of its 95 % interval.
        high: Upper end.
        clicks: All its clicks.
        impressions: All its impressions.
    """

    query_id: str
    doc_id: str
    score: float
    low: float
    high: float
    clicks: int
    impressions: int


def score_clicks(counts: ClickCounts, method: Method) -> list[ClickScore]:
    """Return the score of every pair, in their order; of none that was shown only where no click is expected.

    At a position without one click in the whole log nobody looks, for all the log tells: no click there says nothing.

    The interval is Wilson's for the click rate, times impressions over exposure: what is known about the positions
    comes from the whole log, and counts as known.

    Source: Wilson (1927). COEC: Zhang & Jones, Comparing Click Logs and Editorial Labels for Training Query Rewriting
    (WWW 2007 workshop). Position-based model: Chuklin, Markov, de Rijke, Click Models for Web Search (2015), § 3.3.

    Raises:
        InputError: There is no click at all.
    """
    num_pairs = len(counts.pairs)
    shown = np.bincount(counts.pair, counts.impressions, num_pairs)
    clicked = np.bincount(counts.pair, counts.clicks, num_pairs)
    if not clicked.sum():
        raise InputError("the log has no click", hint="do they go by another name? --columns, --click-action")
    if method == "ctr":
        exposure = shown
    else:
        seen = position_rates(counts) if method == "coec" else _average_clicks(counts)
        exposure = np.bincount(counts.pair, counts.impressions * seen[counts.position], num_pairs)
    scores = []
    per_pair = zip(counts.pairs, clicked.tolist(), shown.tolist(), exposure.tolist(), strict=True)
    for (query_id, doc_id), num_clicks, num_shown, seen_as in per_pair:
        low, high = wilson(num_clicks, num_shown)
        if not seen_as:
            continue
        factor = num_shown / seen_as
        score = num_clicks / num_shown * factor
        scores.append(
            ClickScore(query_id, doc_id, score, low * factor, high * factor, round(num_clicks), round(num_shown))
        )
    return scores


def position_rates(counts: ClickCounts) -> Floats:
    """Return the click rate of each position over the whole log, shape (P + 1,), by position; 0 where none was shown.

    It is what a result there is expected to be clicked, and so holds both: how many look there, and how good the
    results are that the ranker puts there.
    """
    size = int(counts.position.max()) + 1
    shown = np.bincount(counts.position, counts.impressions, size)
    clicked = np.bincount(counts.position, counts.clicks, size)
    rates: Floats = np.divide(clicked, shown, out=np.zeros(size), where=shown > 0)
    return rates


def examination(counts: ClickCounts) -> Floats:
    """Return how often each position is looked at, relative to the one looked at most, by EM, shape (P + 1,).

    P(click) = γ(position) · α(pair). E-step: an impression without a click was examined with probability
    γ(1 − α) / (1 − γα), and attractive with α(1 − γ) / (1 − γα). M-step: γ and α are the means of that and 1 for each
    click. No prior: pairs are seldom shown at the bottom, and one click they never had there would lift their α and so
    lower γ. γ and α are known up to a factor: the largest γ is set to 1. Where every document has one position for
    ever nothing tells them apart, and γ stays near its start, 1/√position.

    Source: Chuklin, Markov, de Rijke (2015), § 4.3; Wang et al., Position Bias Estimation for Unbiased Learning to
    Rank in Personal Search (WSDM 2018), § 4.
    """
    pair, position, clicks = counts.pair, counts.position, counts.clicks
    skipped = counts.impressions - clicks
    size, num_pairs = int(position.max()) + 1, len(counts.pairs)
    shown_at = np.bincount(position, counts.impressions, size)
    shown = np.bincount(pair, counts.impressions, num_pairs)
    gamma = 1 / np.sqrt(np.maximum(np.arange(size), 1.0))
    alpha = np.bincount(pair, clicks, num_pairs) / shown
    for _ in range(_MAX_ROUNDS):
        seen, liked = gamma[position], alpha[pair]
        unclicked = np.maximum(1 - seen * liked, 1e-12)
        examined = np.bincount(position, clicks + skipped * seen * (1 - liked) / unclicked, size)
        alpha = np.bincount(pair, clicks + skipped * liked * (1 - seen) / unclicked, num_pairs) / shown
        updated = np.divide(examined, shown_at, out=np.zeros(size), where=shown_at > 0)
        moved = float(np.abs(updated - gamma)[shown_at > 0].max())
        gamma = updated
        if moved < _CLOSE:
            break
    gamma[shown_at == 0] = 0
    relative: Floats = gamma / gamma.max()
    return relative


def _average_clicks(counts: ClickCounts) -> Floats:
    """Return what an average result of the whole log would be clicked at each position."""
    looked = examination(counts)
    average = counts.clicks.sum() / (counts.impressions * looked[counts.position]).sum()
    return looked * float(average)


def wilson(clicks: float, impressions: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate. Source: Wilson, JASA 22 (1927); Brown, Cai, DasGupta (2001).

    >>> [round(end, 4) for end in wilson(1, 10)]
    [0.0179, 0.4042]
    """
    rate, z2 = clicks / impressions, _Z95 * _Z95
    centre = (rate + z2 / (2 * impressions)) / (1 + z2 / impressions)
    half = _Z95 / (1 + z2 / impressions) * math.sqrt(rate * (1 - rate) / impressions + z2 / (4 * impressions**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def grade_score(score: float, thresholds: Sequence[float]) -> int:
    """Return how many thresholds a score reaches.

    >>> grade_score(1.2, (0.5, 1.0, 2.0))
    2
    """
    return sum(score >= threshold for threshold in thresholds)


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise ``InputError`` unless the thresholds are above 0 and rise."""
    if (
        not thresholds
        or any(not 0 < value < math.inf for value in thresholds)
        or list(thresholds) != sorted(set(thresholds))
    ):
        shown = ", ".join(f"{value:g}" for value in thresholds) or "none"
        raise InputError(
            f"the thresholds are {shown}: want numbers above 0, rising",
            hint="--thresholds 0.5,1,2: from which grade 1, 2, 3",
        )
