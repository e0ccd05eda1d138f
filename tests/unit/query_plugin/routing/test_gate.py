from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrem_os.errors import CheckpointError
from lrem_os.query_plugin.routing.features import AFTER, BEFORE, FEATURES_VERSION
from lrem_os.query_plugin.routing.gate import FORMAT, load_gate, parse_gate


def stage_row(*names: str, weight: float = 1.0) -> dict[str, Any]:
    num = len(names)
    return {
        "features": list(names),
        "means": [0.5] * num,
        "scales": [0.25] * num,
        "weights": [weight] * num,
        "intercept": -1.0,
        "slope": 2.0,
        "shift": 0.5,
        "covariance": (0.01 * np.eye(num + 1)).tolist(),
        "gain_weights": [0.1] * num,
        "gain_intercept": 0.02,
        "reference": [0.1, 0.5, 0.9],
    }


def gate_row() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "features_version": FEATURES_VERSION,
        "card": {"measure": "ndcg@10"},
        "stages": {"before": stage_row("question"), "after": stage_row("question", "top_cosine", weight=-1.0)},
        "landmarks": {
            "lexicon": {"num_documents": 3, "counts": {"mug": 2}, "brands": ["acme"]},
            "vectors": [[1.0, 0.0]],
        },
    }


def parse(row: dict[str, Any]) -> Any:
    return parse_gate(json.dumps(row).encode(), "gate.json")


def test_the_sums_are_those_that_the_docstring_names() -> None:
    found = parse(gate_row()).stages["before"].predict({"question": 1.0})
    logit = 2.0 * (1.0 * 2.0 - 1.0) + 0.5  # z is (1 - 0.5) / 0.25
    assert found.score == pytest.approx(1 / (1 + math.exp(-logit)))
    margin = 1.959964 * 2.0 * math.sqrt(0.01 * (1 + 2.0**2))
    assert found.interval == pytest.approx(tuple(1 / (1 + math.exp(-logit + side * margin)) for side in (1, -1)))
    assert found.gain == pytest.approx(0.02 + 0.1 * 2.0)


def test_what_lies_far_outside_of_training_counts_no_more_than_its_edge() -> None:
    stage = parse(gate_row()).stages["before"]
    assert stage.predict({"question": 1e9}) == stage.predict({"question": 1.5})


@pytest.mark.parametrize("values", [{}, {"question": math.nan}, {"question": math.inf}])
def test_a_feature_that_is_missing_counts_as_average(values: dict[str, float]) -> None:
    stage = parse(gate_row()).stages["before"]
    assert stage.predict(values) == stage.predict({"question": 0.5})


def test_contributions_add_up_to_the_logit() -> None:
    stage = parse(gate_row()).stages["after"]
    values = {"question": 0.75, "top_cosine": 0.0}
    added = stage.contributions(values)
    assert list(added) == ["top_cosine", "question"]  # the greatest first
    base, score = (stage.predict(one).score for one in ({}, values))
    assert sum(added.values()) == pytest.approx(math.log(score / (1 - score)) - math.log(base / (1 - base)))


def test_the_stage_fits_what_is_known() -> None:
    gate = parse(gate_row())
    assert gate.needs_signals
    assert gate.stage(with_signals=True).features == ("question", "top_cosine")
    assert gate.stage(with_signals=False).features == ("question",)
    row = gate_row()
    del row["stages"]["after"]
    only = parse(row)
    assert not only.needs_signals
    assert only.stage(with_signals=True).features == ("question",)


def test_landmarks_are_read() -> None:
    landmarks = parse(gate_row()).landmarks
    assert landmarks.lexicon.knows("mugs")
    assert landmarks.lexicon.brands == {"acme"}
    assert landmarks.vectors.tolist() == [[1.0, 0.0]]


def spoil(row: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split(".")
    at = row
    for name in parents:
        at = at[name]
    at[last] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 99, "is of format 99"),
        ("features_version", 0, "with features 0"),
        ("stages.before.weights", [1.0, 2.0], "shape"),
        ("stages.before.weights", ["x"], "damaged"),
        ("stages.before.scales", [0.0], "scale"),
        ("stages.before.intercept", "nan", "no finite number"),
        ("stages.before.reference", [1.5], "no probability"),
        ("stages.before.features", ["top_cosine"], "no feature 'top_cosine' here"),
        ("stages.after.features", ["length", "question"], "no feature 'length' here"),
        ("stages", {}, "no stage 'before'"),
        ("stages", None, "damaged"),
        ("landmarks.vectors", [[1.0], [1.0, 2.0]], "damaged"),
    ],
)
def test_what_cannot_be_right_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse(spoil(gate_row(), path, value))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\x80\x04\x95pickle", b'{"format": 1}'])
def test_no_gate_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"gate\.json is damaged"):
        parse_gate(data, "gate.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.json cannot be read"):
        load_gate(str(tmp_path / "none.json"))


def test_the_gate_that_ships_can_be_read_and_suits_any_catalog() -> None:
    gate = load_gate("default")
    assert set(gate.stages["after"].features) <= set(BEFORE + AFTER)
    assert set(gate.stages["before"].features) <= set(BEFORE)
    assert gate.landmarks.lexicon.num_documents == 0
    assert len(gate.stages["after"].reference) == 101
