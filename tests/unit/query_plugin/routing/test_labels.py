from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lrem_os.errors import DatasetError
from lrem_os.query_plugin.routing.features import AFTER, BEFORE, Landmarks
from lrem_os.query_plugin.routing.labels import Label, label_features, read_labels
from lrem_os.query_plugin.routing.signals import Leg, Signals

LABEL = Label(
    "q1",
    "what helps?",
    "qa",
    0.25,
    np.array([0.6, 0.8], np.float32),
    Signals(Leg(("a",), (3.0,)), Leg(("b", "a"), (1.9, 1.5))),
    0.5,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(LABEL.line() + LABEL.line()[:-1])  # the second was cut
    [found] = read_labels(path)
    assert (found.query_id, found.query, found.type, found.gain, found.direct) == ("q1", "what helps?", "qa", 0.25, 0.5)
    assert found.vector.tolist() == pytest.approx([0.6, 0.8])
    assert found.signals == LABEL.signals


def test_a_measure_that_is_not_known_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(Label("q", "mug", "", -0.1, np.ones(1, np.float32), Signals()).line())
    assert math.isnan(read_labels(path)[0].direct)


def test_features_are_those_of_the_router() -> None:
    found = label_features(LABEL, Landmarks())
    assert tuple(found) == BEFORE + AFTER
    assert (found["question"], found["top_cosine"]) == (1.0, pytest.approx(0.9))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"gain":0.25', b'"gain":null'), (b'"signals"', b'"other"'), (b'["b","a"]', b'["b"]'), (b"0.6", b'"x"')],
)
def test_a_broken_line_is_named(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "labels.jsonl"
    assert old in LABEL.line()
    path.write_bytes(LABEL.line() + LABEL.line().replace(old, new))
    with pytest.raises(DatasetError, match="no label") as caught:
        read_labels(path)
    assert caught.value.line == 2
