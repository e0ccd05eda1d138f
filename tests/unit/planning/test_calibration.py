from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrem_os.errors import DatasetError, InputError
from lrem_os.planning.calibration import Calls, read_calibration, reference, write_calibration


def test_calls_are_interpolated() -> None:
    calls = Calls(points=((2, 0.2), (4, 0.3), (8, 0.7)))
    assert [calls.seconds(size) for size in (1, 2, 3, 4, 6)] == pytest.approx([0.2, 0.2, 0.25, 0.3, 0.5])
    assert calls.seconds(16) == pytest.approx(1.5)  # as between the last two
    assert Calls(points=((4, 0.2),)).seconds(6) == pytest.approx(0.3)
    assert calls.scaled(2).seconds(6) == pytest.approx(1.0)


@given(st.lists(st.floats(1e-4, 10), min_size=2, max_size=6), st.integers(1, 500))
def test_no_call_is_free(times: list[float], size: int) -> None:
    calls = Calls(points=tuple((2**at, seconds) for at, seconds in enumerate(times)))
    assert calls.seconds(size) >= min(times) > 0


@pytest.mark.parametrize("points", [(), ((2, 0.1), (1, 0.2)), ((1, 0.1), (1, 0.2)), ((0, 0.1),), ((1, 0.0),)])
def test_calls_that_are_none(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValidationError):
        Calls(points=points)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_calibration(tmp_path / "one.json", reference())
    assert read_calibration(tmp_path / "one.json") == reference()
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]
    with pytest.raises(InputError, match="cannot be written"):
        write_calibration(tmp_path / "no" / "one.json", reference())


def test_the_calibration_that_ships_is_of_this_format_and_whole() -> None:
    found = reference()
    assert found.reason is not None
    assert found.cluster is not None
    assert found.service_cpu_ms is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cores": 0}, "cores"),
        ({"unknown": 1}, "unknown"),
        ({"format": 2}, "format"),
        ({"embed_queries": {"points": [[2, 1.0], [1, 1.0]]}}, "rising order"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_key(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(reference().model_dump(mode="json") | change), encoding="utf-8")
    with pytest.raises(DatasetError, match=told) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(DatasetError, match="JSON"):
        read_calibration(tmp_path / "bad.json")
