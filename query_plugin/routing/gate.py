"""The classifier as data: a JSON file of names and numbers that anybody can read, and the sums that it stands for.

A gate has a stage for queries with signals of direct retrieval (``after``) and one for those without (``before``).
Each is a logistic regression on standardised features, its calibration, and a linear estimate of the gain::

    z        = (feature - mean) / scale, held within ±4
    logit    = slope · (weights · z + intercept) + shift         (slope, shift: Platt's calibration)
    score    = 1 / (1 + exp(-logit))                             probability that reasoning helps
    interval = logit ± 1.96 · slope · sqrt(z' covariance z)      as far as the training data tell
    gain     = gain_weights · z + gain_intercept                 in the measure of the labels

No pickle, no code: what cannot be read is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from lrem_os.errors import CheckpointError
from lrem_os.query_plugin.routing.features import AFTER, BEFORE, FEATURES_VERSION, Landmarks, Lexicon

FORMAT = 1
DEFAULT = "default"
"""Name of the gate that ships."""

StageName = Literal["before", "after"]
Floats = NDArray[np.float64]

_FARTHEST = 4.0  # standard deviations: beyond them a feature says nothing that training has seen
_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a stage says of one query.

    Args:
        score: Calibrated probability that reasoning helps.
        interval: Where the score lies, at 95 %.
        gain: Expected gain.
    """

    score: float
    interval: tuple[float, float]
    gain: float


@dataclass(frozen=True)
class Stage:
    """A logistic regression with its calibration.

    Args:
        features: P names.
        means: Of each in training, shape (P,).
        scales: Standard deviations, shape (P,); above 0.
        weights: Shape (P,).
        intercept: Of the logit.
        slope: Of the calibration.
        shift: Of the calibration.
        covariance: Of intercept and weights, shape (P + 1, P + 1), the intercept first.
        gain_weights: Shape (P,).
        gain_intercept: Mean gain in training.
        reference: Scores of a typical query log, ascending: what a budget begins with.
    """

    features: tuple[str, ...]
    means: Floats
    scales: Floats
    weights: Floats
    intercept: float
    slope: float
    shift: float
    covariance: Floats
    gain_weights: Floats
    gain_intercept: float
    reference: tuple[float, ...]

    def predict(self, values: Mapping[str, float]) -> Prediction:
        """Return what the stage says; a feature that is not there, or not finite, counts as average."""
        z = self._standardised(values)
        logit = self.slope * (float(self.weights @ z) + self.intercept) + self.shift
        row = np.concatenate(([1.0], z))
        margin = _NORMAL_95 * abs(self.slope) * math.sqrt(max(0.0, float(row @ self.covariance @ row)))
        return Prediction(
            score=_sigmoid(logit),
            interval=(_sigmoid(logit - margin), _sigmoid(logit + margin)),
            gain=float(self.gain_weights @ z) + self.gain_intercept,
        )

    def contributions(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return what each feature adds to the logit, the greatest first, against an average query."""
        added = self.slope * self.weights * self._standardised(values)
        pairs = zip(self.features, added.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -abs(pair[1])))

    def _standardised(self, values: Mapping[str, float]) -> Floats:
        raw = np.array([values.get(name, math.nan) for name in self.features], np.float64)
        z = np.clip((raw - self.means) / self.scales, -_FARTHEST, _FARTHEST)
        return np.where(np.isfinite(raw), z, 0.0)


@dataclass(frozen=True)
class Gate:
    """What decides whether reasoning helps.

    Args:
        stages: ``before`` and, unless it was trained without signals, ``after``.
        landmarks: What its features compare with.
        card: What it was trained on and how well it did; for people.
    """

    stages: Mapping[StageName, Stage]
    landmarks: Landmarks
    card: Mapping[str, Any]

    @cached_property
    def needs_signals(self) -> bool:
        """Whether it was trained on signals of direct retrieval."""
        return "after" in self.stages

    def stage(self, *, with_signals: bool) -> Stage:
        """Return the stage for what is known of a query."""
        return self.stages["after" if with_signals and self.needs_signals else "before"]


def load_gate(name: str) -> Gate:
    """Return the gate in a file, or the one that ships for ``default``.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or is of another version.
    """
    return parse_gate(read_gate(name), "the gate that ships" if name == DEFAULT else name)


def read_gate(name: str) -> bytes:
    """Return the bytes of a gate, see ``load_gate``. Raises ``CheckpointError`` where they cannot be read."""
    if name == DEFAULT:
        return (resources.files("lrem_os.query_plugin.routing") / "default_gate.json").read_bytes()
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as exc:
        raise CheckpointError(
            f"the gate {name} cannot be read: {exc.strerror}", hint="set route.gate to 'default', or train one"
        ) from exc


def parse_gate(data: bytes, source: str) -> Gate:
    """Return the gate in a JSON document.

    Raises:
        CheckpointError: It is damaged, or of another version.
    """
    try:
        row = orjson.loads(data)
        if (row["format"], row["features_version"]) != (FORMAT, FEATURES_VERSION):
            raise CheckpointError(
                f"{source} is of format {row['format']!r} with features {row['features_version']!r};"
                f" this lrem-os reads {FORMAT} with {FEATURES_VERSION}",
                hint="train it again with `lrem-os train router`",
            )
        allowed: Mapping[StageName, frozenset[str]] = {
            "before": frozenset(BEFORE),
            "after": frozenset(BEFORE + AFTER),
        }
        stages = {name: _stage(row["stages"][name], allowed[name]) for name in allowed if name in row["stages"]}
        if "before" not in stages:
            raise ValueError("there is no stage 'before'")
        return Gate(stages, _landmarks(row.get("landmarks") or {}), dict(row.get("card") or {}))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise CheckpointError(
            f"{source} is damaged: {exc!r}", hint="train it again with `lrem-os train router`"
        ) from exc


def _stage(row: Mapping[str, Any], allowed: frozenset[str]) -> Stage:
    names = tuple(map(str, row["features"]))
    if unknown := sorted(set(names) - allowed):
        raise ValueError(f"there is no feature {unknown[0]!r} here")
    num = len(names)
    reference = tuple(sorted(float(score) for score in row["reference"]))
    stage = Stage(
        features=names,
        means=_array(row["means"], (num,)),
        scales=_array(row["scales"], (num,)),
        weights=_array(row["weights"], (num,)),
        intercept=_number(row["intercept"]),
        slope=_number(row["slope"]),
        shift=_number(row["shift"]),
        covariance=_array(row["covariance"], (num + 1, num + 1)),
        gain_weights=_array(row["gain_weights"], (num,)),
        gain_intercept=_number(row["gain_intercept"]),
        reference=reference,
    )
    if not (stage.scales > 0).all() or not all(0 <= score <= 1 for score in reference):
        raise ValueError("a scale is not above 0, or a reference score is no probability")
    return stage


def _landmarks(row: Mapping[str, Any]) -> Landmarks:
    words = row.get("lexicon") or {}
    lexicon = Lexicon(
        int(words.get("num_documents", 0)),
        {str(word): int(count) for word, count in (words.get("counts") or {}).items()},
        frozenset(map(str, words.get("brands") or ())),
    )
    vectors = np.array(row.get("vectors") or np.zeros((0, 0)), np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError("the landmarks are no vectors of one length")
    return Landmarks(lexicon, vectors)


def _array(values: Any, shape: tuple[int, ...]) -> Floats:
    found = np.array(values, np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"numbers of shape {found.shape}, not finite ones of shape {shape}")
    return found


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
