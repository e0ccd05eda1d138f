from __future__ import annotations

import numpy as np
import pytest

from lrem_os.errors import TrainingError
from lrem_os.train.router import (
    GateOptions,
    Labelled,
    balance_lengths,
    fit_stage,
    landmark_vectors,
    log_weights,
)


def queries(num: int = 200, *, misled: bool = False, seed: int = 0) -> list[Labelled]:
    """Return queries that a low cosine marks as helped; length says the same, or the contrary."""
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(num):
        helped = at % 2 == 0
        long = helped != misled if rng.random() < 0.9 else not helped
        cosine = (0.3 if helped else 0.7) + 0.1 * rng.standard_normal()
        features = {
            "top_cosine": cosine,
            "noise": rng.standard_normal(),
            "constant": 1.0,
            "words": 8.0 if long else 2.0,
        }
        text = " ".join(["word"] * (8 if long else 2))
        rows.append(Labelled(text, "qa" if helped else "easy", 0.3 if helped else -0.05, features))
    return rows


NAMES = ("top_cosine", "noise", "constant")


def scores(row: dict[str, object], rows: list[Labelled]) -> np.ndarray:
    names = row["features"]
    raw = np.array([[one.features[name] for name in names] for one in rows])  # type: ignore[attr-defined]
    z = (raw - np.array(row["means"])) / np.array(row["scales"])
    return z @ np.array(row["weights"]) + row["intercept"]


def test_what_separates_is_found_and_the_rest_left_out() -> None:
    stage = fit_stage(queries(), NAMES, GateOptions())
    assert stage.row["features"] == ["top_cosine", "noise"]
    weights = dict(zip(stage.row["features"], stage.row["weights"], strict=True))
    assert weights["top_cosine"] < -1
    assert abs(weights["noise"]) < abs(weights["top_cosine"]) / 5
    assert stage.report["auc_helped"] > 0.97
    assert stage.report["auc_sign_of_gain"] > 0.97
    assert (stage.report["queries"], stage.report["helped"], stage.report["harmed"]) == (200, 100, 100)
    assert stage.row["slope"] > 0


def test_probabilities_are_for_a_log_with_the_given_share_of_hard_queries() -> None:
    for share in (0.1, 0.5):
        stage = fit_stage(queries(), NAMES, GateOptions(hard_share=share))
        weights = log_weights([row.type for row in queries()], share)
        assert np.average(stage.held_out, weights=weights) == pytest.approx(share, abs=0.02)


def test_reference_scores_are_those_of_the_log() -> None:
    reference = np.array(fit_stage(queries(), NAMES, GateOptions(hard_share=0.2)).row["reference"])
    assert (np.diff(reference) >= 0).all()
    assert len(reference) == 101
    assert reference[70] < 0.5 < reference[90]  # four of five are easy


def test_length_is_not_learnt_where_the_data_leave_a_choice() -> None:
    rows = queries(400)
    stage = fit_stage(rows, ("words", "noise"), GateOptions(hard_share=None))
    plain = np.array([row.features["words"] > 4 for row in rows])
    helped = np.array([row.gain > 0 for row in rows])
    weights = balance_lengths([row.query for row in rows], helped, np.ones(len(rows)))
    assert np.corrcoef(plain, helped)[0, 1] > 0.7
    assert abs(np.average(helped[plain], weights=weights[plain]) - np.average(helped, weights=weights)) < 0.15
    assert stage.report["auc_helped"] < 0.9
    assert abs(stage.row["weights"][0]) < 1


def test_a_gate_holds_where_length_misleads() -> None:
    stage = fit_stage(queries(400), ("top_cosine", "words"), GateOptions())
    others = queries(400, misled=True, seed=1)
    found = scores(stage.row, others)
    helped = np.array([row.gain > 0 for row in others])
    assert (found[helped][:, None] > found[~helped][None, :]).mean() > 0.95


def test_the_same_data_give_the_same_gate() -> None:
    assert fit_stage(queries(), NAMES, GateOptions()).row == fit_stage(queries(), NAMES, GateOptions()).row


def test_scores_of_queries_that_were_held_out_are_not_better_than_chance_on_noise() -> None:
    rng = np.random.default_rng(0)
    rows = [Labelled("a b", "", float(rng.choice([-0.1, 0.1])), {"noise": rng.standard_normal()}) for _ in range(300)]
    stage = fit_stage(rows, ("noise",), GateOptions())
    assert abs(stage.report["auc_helped"] - 0.5) < 0.12
    assert stage.row["slope"] >= 0
    assert np.ptp(stage.held_out) < 0.3


@pytest.mark.parametrize("rows", [[], queries(20), [row for row in queries() if row.gain > 0]])
def test_too_little_to_learn_from_is_said(rows: list[Labelled]) -> None:
    with pytest.raises(TrainingError, match="too few to learn from"):
        fit_stage(rows, NAMES, GateOptions())


def test_log_weights_need_known_types() -> None:
    assert log_weights(["easy", "easy", "easy", "qa"], 0.5).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    assert log_weights(["", "qa", "easy"], 0.5).tolist() == [1.0, 1.0, 1.0]
    assert log_weights(["qa", "qa"], 0.5).tolist() == [1.0, 1.0]
    assert log_weights(["qa", "easy"], None).tolist() == [1.0, 1.0]


def test_landmarks_are_unit_vectors_and_never_the_queries_themselves() -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.array(landmark_vectors(vectors, 100))
    assert found.shape == (10, 6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(10), abs=1e-3)
    assert landmark_vectors(vectors[:3], 5) == []
