"""Learns a gate: from queries with features and the measured gain of reasoning to a logistic regression as plain JSON.

What is learnt is whether reasoning *helps* a query, not whether it looks hard. Two things keep the gate from learning
the length of queries in place of it: no feature grows with length, and queries are weighted so that in every class of
length as many are helped as in the others (inverse propensity weights).

Training files hold far more hard queries than people type: queries are weighted as a log in which a given share is
hard, and for that log probabilities are calibrated (Platt), on predictions of folds that the query was no part of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrem_os.errors import TrainingError
from lrem_os.extras import require
from lrem_os.train.data import EASY

Floats = NDArray[np.float64]

MIN_ROWS = 40
"""Fewer queries than this teach nothing that would hold elsewhere."""

_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # of sklearn's C: more is less regularisation
_LENGTHS = (2, 4, 6)  # words: a class of length ends here, the last is open
_MAX_FACTOR = 4.0
_NUM_REFERENCE = 101


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query with its label.

    Args:
        query: As typed.
        type: ``easy`` or one of the hard kinds; empty when unknown.
        gain: Measure with reasoning minus measure without.
        features: By name; a stage picks its own.
    """

    query: str
    type: str
    gain: float
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How a gate is fitted.

    Args:
        min_gain: Reasoning helps when it gains more than this.
        hard_share: Share of hard queries in the log that the probabilities are calibrated for; ``None``: as it comes.
        folds: Of the cross-validation.
        seed: Of the folds.
    """

    min_gain: float = 0.01
    hard_share: float | None = 0.2
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FittedStage:
    """A stage of a gate, and what it says of the queries that it was fitted on when they were held out.

    Args:
        row: The stage as JSON values.
        held_out: Calibrated score of each row by the folds without it, shape (N,).
        report: How good those are.
    """

    row: dict[str, Any]
    held_out: Floats
    report: dict[str, float] = field(default_factory=dict)


def fit_stage(rows: Sequence[Labelled], names: Sequence[str], options: GateOptions) -> FittedStage:
    """Return a fitted stage.

    Args:
        rows: At least ``MIN_ROWS``.
        names: Features to use; those that never differ are left out.
        options: How.

    Raises:
        DependencyMissing: scikit-learn is not installed.
        TrainingError: Too few queries, or all alike.
    """
    helped = np.array([row.gain > options.min_gain for row in rows])
    least = min(int(helped.sum()), int((~helped).sum())) if len(rows) else 0
    if len(rows) < MIN_ROWS or least < options.folds:
        raise TrainingError(
            f"{len(rows)} queries, of which reasoning helps {int(helped.sum())}: too few to learn from",
            hint=f"give at least {MIN_ROWS}, {options.folds} of them helped and {options.folds} not",
        )
    raw = np.array([[row.features[name] for name in names] for row in rows], np.float64)
    used = [at for at in range(len(names)) if raw[:, at].std() > 1e-9]
    raw, names = raw[:, used], [names[at] for at in used]
    in_log = log_weights([row.type for row in rows], options.hard_share)
    weights = in_log * balance_lengths([row.query for row in rows], helped, in_log)

    strength = _best_strength(raw, helped, weights, options)
    logits = _held_out_logits(raw, helped, weights, strength, options)
    slope, shift = _calibrate(logits, helped, in_log)
    model = _fit(raw, helped, weights, strength)
    gain_weights, gain_intercept = _fit_gain(_standardise(raw, model), rows, in_log)
    held_out = _sigmoid(slope * logits + shift)
    row = {
        "features": list(names),
        "means": _plain(model.means),
        "scales": _plain(model.scales),
        "weights": _plain(model.weights),
        "intercept": float(model.intercept),
        "slope": slope,
        "shift": shift,
        "covariance": [_plain(line) for line in model.covariance],
        "gain_weights": _plain(gain_weights),
        "gain_intercept": gain_intercept,
        "reference": _plain(_weighted_quantiles(held_out, in_log, np.linspace(0, 1, _NUM_REFERENCE))),
    }
    return FittedStage(row, held_out, report(held_out, rows, options) | {"strength": strength})


def balance_lengths(queries: Sequence[str], helped: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return factors with which being helped does not depend on the number of words, shape (N,).

    In a class of length where all queries are alike nothing can be balanced; they keep their weight.

    Args:
        queries: As typed.
        helped: Whether reasoning helps each.
        weights: How much each counts so far.

    >>> helped = np.array([True, False, False, True, False])
    >>> balance_lengths(["a", "b", "c", "d e f", "g h i"], helped, np.ones(5)).round(2).tolist()
    [1.2, 0.9, 0.9, 0.8, 1.2]
    """
    lengths = np.digitize([len(query.split()) for query in queries], _LENGTHS, right=True)
    factors = np.ones(len(queries))
    for length in np.unique(lengths):
        inside = lengths == length
        for label in (True, False):
            chosen = inside & (helped == label)
            if 0 < chosen.sum() < inside.sum():
                here = weights[chosen].sum() / weights[inside].sum()
                factors[chosen] = weights[helped == label].sum() / weights.sum() / here
    return np.clip(factors, 1 / _MAX_FACTOR, _MAX_FACTOR)


def log_weights(types: Sequence[str], hard_share: float | None) -> Floats:
    """Return weights with which hard queries are such a share of all, shape (N,), mean 1; equal without types."""
    hard = np.array([kind not in ("", EASY) for kind in types])
    easy = np.array([kind == EASY for kind in types])
    if hard_share is None or not hard.any() or not easy.any() or not (hard | easy).all():
        return np.ones(len(types))
    weights: Floats = np.where(hard, hard_share / hard.mean(), (1 - hard_share) / easy.mean())
    return weights


def landmark_vectors(vectors: NDArray[np.float32], num: int, *, seed: int = 0) -> list[list[float]]:
    """Return unit vectors that stand for the training queries: the centres of ``num`` clusters, four digits each.

    Args:
        vectors: Unit vectors of the queries, shape (N, D).
        num: Clusters; 0: none. Never more than a quarter of the queries, or they would be the queries themselves.
        seed: Of the clustering.
    """
    num = min(num, len(vectors) // 4)
    if num < 1:
        return []
    cluster = require("sklearn.cluster", extra="train")
    centres = cluster.KMeans(num, n_init=1, random_state=seed).fit(vectors).cluster_centers_
    units = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return [[round(float(value), 4) for value in unit] for unit in units]


def report(scores: Floats, rows: Sequence[Labelled], options: GateOptions) -> dict[str, float]:
    """Return how well scores of held-out queries separate: AUC of being helped, of the gain's sign, Brier, log loss."""
    metrics = require("sklearn.metrics", extra="train")
    gains = np.array([row.gain for row in rows])
    helped = gains > options.min_gain
    in_log = log_weights([row.type for row in rows], options.hard_share)
    told = {
        "queries": float(len(rows)),
        "helped": float(helped.sum()),
        "harmed": float((gains < -options.min_gain).sum()),
        "auc_helped": float(metrics.roc_auc_score(helped, scores)),
        "brier": float(metrics.brier_score_loss(helped, scores, sample_weight=in_log)),
        "log_loss": float(metrics.log_loss(helped, scores, sample_weight=in_log)),
    }
    decided = np.abs(gains) > options.min_gain
    if len(np.unique(helped[decided])) == 2:
        told["auc_sign_of_gain"] = float(metrics.roc_auc_score(helped[decided], scores[decided]))
    return told


@dataclass(frozen=True, slots=True)
class _Model:
    means: Floats
    scales: Floats
    weights: Floats
    intercept: float
    covariance: Floats


def _fit(raw: Floats, helped: NDArray[np.bool_], weights: Floats, strength: float) -> _Model:
    """Return the regression on standardised features; its covariance is that of Laplace's approximation."""
    linear = require("sklearn.linear_model", extra="train")
    means, scales = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-9)
    z = np.clip((raw - means) / scales, -4, 4)
    found = linear.LogisticRegression(C=strength, max_iter=2000).fit(z, helped, sample_weight=weights)
    chances = _sigmoid(found.decision_function(z))
    with_one = np.hstack([np.ones((len(z), 1)), z])
    hessian = with_one.T @ (with_one * (weights * chances * (1 - chances))[:, None])
    hessian += np.diag([1e-6] + [1 / strength] * z.shape[1])
    covariance: Floats = np.linalg.inv(hessian).astype(np.float64)
    return _Model(means, scales, found.coef_[0], float(found.intercept_[0]), covariance)


def _standardise(raw: Floats, model: _Model) -> Floats:
    return np.clip((raw - model.means) / model.scales, -4, 4)


def _folds(helped: NDArray[np.bool_], options: GateOptions) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    selection = require("sklearn.model_selection", extra="train")
    folds = selection.StratifiedKFold(options.folds, shuffle=True, random_state=options.seed)
    return list(folds.split(np.zeros(len(helped)), helped))


def _held_out_logits(
    raw: Floats, helped: NDArray[np.bool_], weights: Floats, strength: float, options: GateOptions
) -> Floats:
    logits = np.zeros(len(raw))
    for train, test in _folds(helped, options):
        model = _fit(raw[train], helped[train], weights[train], strength)
        logits[test] = _standardise(raw[test], model) @ model.weights + model.intercept
    return logits


def _best_strength(raw: Floats, helped: NDArray[np.bool_], weights: Floats, options: GateOptions) -> float:
    def loss(strength: float) -> float:
        chances = _sigmoid(_held_out_logits(raw, helped, weights, strength, options)).clip(1e-9, 1 - 1e-9)
        return float(-(weights * np.where(helped, np.log(chances), np.log(1 - chances))).mean())

    return min(_STRENGTHS, key=loss)


def _calibrate(logits: Floats, helped: NDArray[np.bool_], weights: Floats) -> tuple[float, float]:
    """Return slope and shift of Platt's calibration; a slope below 0 would turn the order around, and is 0 then."""
    linear = require("sklearn.linear_model", extra="train")
    found = linear.LogisticRegression(C=1e3, max_iter=2000).fit(logits[:, None], helped, sample_weight=weights)
    slope = float(found.coef_[0, 0])
    if slope > 0:
        return slope, float(found.intercept_[0])
    share = float(np.average(helped, weights=weights))
    return 0.0, float(np.log(share / (1 - share)))


def _fit_gain(z: Floats, rows: Sequence[Labelled], weights: Floats) -> tuple[Floats, float]:
    linear = require("sklearn.linear_model", extra="train")
    found = linear.Ridge(alpha=0.1 * len(rows)).fit(z, [row.gain for row in rows], sample_weight=weights)
    return found.coef_, float(found.intercept_)


def _weighted_quantiles(values: Floats, weights: Floats, at: Floats) -> Floats:
    order = np.argsort(values)
    reached = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    quantiles: Floats = np.interp(at, reached, values[order])
    return quantiles


def _sigmoid(logits: Floats) -> Floats:
    chances: Floats = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return chances


def _plain(values: Floats) -> list[float]:
    """Return numbers that a person can read: seven digits."""
    return [float(f"{value:.7g}") for value in values]
