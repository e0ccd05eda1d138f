"""Whether a run differs from the baseline: paired tests, corrected for how many there are, and what they could miss.

Everything is a function of paired differences, one row a query, one column a run and measure; NaN where a measure does
not apply to a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrem_os.eval.intervals import Floats, alike
from lrem_os.eval.result import Comparison, Mover
from lrem_os.extras import require

ALPHA = 0.05
POWER = 0.8
MOVERS = 10

_EQUAL = 1e-12  # below this two values of a measure are the same: sums of the same terms differ in their last bits
_CHUNK_CELLS = 4_000_000

Test = Literal["randomisation", "t"]


def compare(
    differences: Floats,
    *,
    less_is_better: Sequence[bool],
    families: Sequence[str] | None = None,
    test: Test = "randomisation",
    permutations: int = 10_000,
    seed: int = 0,
    relevant_difference: float = 0.02,
) -> list[Comparison]:
    """Return one comparison a column.

    Args:
        differences: (queries, columns) run less baseline; every column has a value.
        less_is_better: Per column, whether a negative difference is a win.
        families: Per column, with which others its p-value is corrected; none: all with all.
        test: See ``randomisation_p`` and ``t_p``.
        permutations: Sign patterns that the randomisation test draws.
        seed: Of the draws.
        relevant_difference: Of this much a comparison without a result should have been able to tell.

    Raises:
        DependencyMissing: scipy is not installed.
    """
    columns = differences.shape[1]
    p_values = np.ones(columns)
    for rows, group in alike(differences):
        part = differences[rows][:, group]
        p_values[group] = t_p(part) if test == "t" else randomisation_p(part, permutations=permutations, seed=seed)
    adjusted, sizes = _adjust(differences, p_values, families or [""] * columns)
    found = []
    for at in range(columns):
        column = differences[:, at]
        column = column[~np.isnan(column)]
        better = -column if less_is_better[at] else column
        detectable = minimum_detectable(column, comparisons=sizes[at])
        found.append(
            Comparison(
                p_value=float(p_values[at]),
                p_adjusted=float(adjusted[at]),
                effect_size=effect_size(column),
                wins=int((better > _EQUAL).sum()),
                ties=int((np.abs(better) <= _EQUAL).sum()),
                losses=int((better < -_EQUAL).sum()),
                minimum_detectable=detectable,
                underpowered=bool(adjusted[at] >= ALPHA and not detectable <= relevant_difference),
            )
        )
    return found


def _adjust(differences: Floats, p_values: Floats, families: Sequence[str]) -> tuple[Floats, list[int]]:
    """Return the p-values corrected within their families, and how many comparisons each family has.

    Equal columns are one comparison: whatever signs are drawn, they stay equal.
    """
    columns = np.ascontiguousarray((np.round(differences, 12) + 0.0).T)  # no -0
    keys = [(family, column.tobytes()) for family, column in zip(families, columns, strict=True)]
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    corrected: dict[tuple[str, bytes], float] = {}
    for family in dict.fromkeys(families):
        of = [key for key in first if key[0] == family]
        corrected |= dict(zip(of, holm(p_values[[first[key] for key in of]]).tolist(), strict=True))
    sizes = [sum(key[0] == family for key in first) for family in families]
    return np.array([corrected[key] for key in keys]), sizes


def randomisation_p(differences: Floats, *, permutations: int, seed: int) -> Floats:
    """Return each column's two-sided p-value of Fisher's paired randomisation test on the mean.

    Under the null hypothesis it is chance which of a pair of values is whose, so every pattern of signs is as likely.
    Queries without a difference change nothing; where the patterns of the others are no more than ``permutations``, all
    are tried and the p-value is exact. Otherwise that many are drawn, the same for all columns, and the observed one
    counts as one more.

    Source: Smucker, Allan & Carterette, A Comparison of Statistical Significance Tests for IR Evaluation (CIKM 2007);
    the added one: Phipson & Smyth, Permutation P-values Should Never Be Zero (2010).
    """
    differences = np.where(np.abs(differences) <= _EQUAL, 0.0, differences)
    moved = (differences != 0).sum(axis=0)
    p_values = np.ones(differences.shape[1])
    exact = moved <= int(np.log2(permutations))
    for at in np.flatnonzero(exact & (moved > 0)):
        column = differences[:, at]
        p_values[at] = _exact_p(column[column != 0])
    drawn = np.flatnonzero(~exact)
    if len(drawn):
        p_values[drawn] = _drawn_p(differences[:, drawn], permutations, seed)
    return p_values


def t_p(differences: Floats) -> Floats:
    """Return each column's two-sided p-value of the paired t-test.

    Differences that do not vary have no t: without any the p-value is 1, as with a single query; all the same it is 0.
    """
    num = len(differences)
    if num < 2:
        return np.ones(differences.shape[1])
    mean, error = differences.mean(axis=0), _deviation(differences) / np.sqrt(num)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(mean) / error, np.where(np.abs(mean) > _EQUAL, np.inf, 0.0))
    return np.asarray(2 * require("scipy.special", extra="eval").stdtr(num - 1, -t), dtype=np.float64)


def holm(p_values: Floats) -> Floats:
    """Return p-values that hold for all of them together, at most 1.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def effect_size(differences: Floats) -> float:
    """Return the standardised mean paired difference, mean over standard deviation; NaN where they do not vary.

    Source: Cohen, Statistical Power Analysis (1988), §2.3.5 (d_z); Sakai, On Fuhr's Guideline for IR Evaluation (2020).
    """
    deviation = float(_deviation(differences[:, None])[0]) if len(differences) > 1 else 0.0
    return float(differences.mean()) / deviation if deviation > 0 else float("nan")


def minimum_detectable(differences: Floats, *, comparisons: int = 1) -> float:
    """Return the smallest true mean difference that a paired t-test of so many queries finds with 80 % power.

    ``(t[1 - a/2, n - 1] + t[0.8, n - 1]) · s / √n``, s the standard deviation of the differences. The level a is 5 %
    divided by the number of comparisons: the strictest step of Holm's correction, so that what counts as detectable is
    so whatever the other comparisons turn out to be. NaN where nothing is known about s: with fewer than two queries,
    or where all differences are the same.

    Source: Bloom, Minimum Detectable Effects (Evaluation Review 19(5), 1995).
    """
    num = len(differences)
    if num < 2:
        return float("nan")
    quantile = require("scipy.special", extra="eval").stdtrit
    factor = quantile(num - 1, 1 - ALPHA / comparisons / 2) + quantile(num - 1, POWER)
    detectable = float(factor * _deviation(differences[:, None])[0] / np.sqrt(num))
    return detectable if detectable > 0 else float("nan")


def movers(query_ids: Sequence[str], values: Floats, baseline: Floats, *, count: int = MOVERS) -> tuple[Mover, ...]:
    """Return the queries that gained most, then those that lost most, at most so many of each.

    Equal differences go by query id. NaN is left out.
    """
    difference = values - baseline
    found = []
    for sign in (1.0, -1.0):
        signed = np.nan_to_num(sign * difference, nan=0.0)
        candidates = np.flatnonzero(signed > _EQUAL)
        if len(candidates) > count:
            least = np.partition(signed[candidates], -count)[-count]
            candidates = candidates[signed[candidates] >= least]
        ranked = sorted(candidates.tolist(), key=lambda at: (-signed[at], query_ids[at]))
        found += [
            Mover(query_ids[at], float(values[at]), float(baseline[at]), float(difference[at])) for at in ranked[:count]
        ]
    return tuple(found)


def _exact_p(differences: Floats) -> float:
    """Return the share of all sign patterns whose sum is at least as far from 0 as the observed one."""
    patterns = (np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences))) & 1
    return float(_as_far((2.0 * patterns - 1.0) @ differences[:, None], differences[:, None]).mean())


def _drawn_p(differences: Floats, permutations: int, seed: int) -> Floats:
    differences = differences[(differences != 0).any(axis=1)]
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_CELLS // len(differences))
    as_far = np.zeros(differences.shape[1])
    for start in range(0, permutations, rows):
        shape = (min(rows, permutations - start), len(differences))
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), dtype=np.uint8))
        signs = bits[: shape[0] * shape[1]].reshape(shape) * 2.0 - 1.0
        as_far += _as_far(signs @ differences, differences).sum(axis=0)
    return (as_far + 1) / (permutations + 1)


def _as_far(sums: Floats, differences: Floats) -> npt.NDArray[np.bool_]:
    """Return which sums are as far from 0 as the observed ones; sums of the same terms in another order are equal."""
    slack = _EQUAL * np.abs(differences).sum(axis=0)
    return np.asarray(np.abs(sums) >= np.abs(differences.sum(axis=0)) - slack)


def _deviation(differences: Floats) -> Floats:
    """Return the columns' standard deviations (n - 1); exactly 0 where all values are the same."""
    return np.asarray(np.std(differences - differences[0], axis=0, ddof=1), dtype=np.float64)
