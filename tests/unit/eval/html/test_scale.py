from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.html.scale import Scale, linear, logarithmic, symmetric

values = st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 6)), max_size=20)


def check(scale: Scale, held: list[float]) -> None:
    assert all(scale.low - 1e-9 <= value <= scale.high + 1e-9 for value in held)
    places = [tick.place for tick in scale.ticks]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 100
    assert len({tick.label for tick in scale.ticks}) == len(scale.ticks)


@given(values)
def test_a_scale_holds_its_values_between_round_ends(held: list[float]) -> None:
    scale = linear(held)
    check(scale, [*held, 0.0])
    assert (scale.ticks[0].place, scale.ticks[-1].place) == (0, 100)
    assert 2 <= len(scale.ticks) <= 8


@given(values)
def test_a_symmetric_scale_has_zero_in_its_middle(held: list[float]) -> None:
    scale = symmetric(held)
    check(scale, held)
    assert scale.place(0.0) == 50.0
    assert "0" in [tick.label for tick in scale.ticks]


@given(st.lists(st.floats(1e-3, 1e6), max_size=20))
def test_a_logarithmic_scale_holds_its_values(held: list[float]) -> None:
    scale = logarithmic(held)
    assert all(scale.low * (1 - 1e-9) <= value <= scale.high * (1 + 1e-9) for value in held)
    assert 1 <= len(scale.ticks) <= 11


def test_equal_ratios_are_equally_wide() -> None:
    scale = logarithmic([1, 100])
    assert [scale.place(value) for value in (1, 10, 100)] == [0, 50, 100]


@pytest.mark.parametrize(
    ("held", "labels"),
    [
        ([0.0, 0.42], ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        ([-0.5, 0.5], ["−0.6", "−0.4", "−0.2", "0", "0.2", "0.4", "0.6"]),
        ([], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.0], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([12.0], ["0", "2.5", "5.0", "7.5", "10.0", "12.5"]),
    ],
)
def test_labels_are_round(held: list[float], labels: list[str]) -> None:
    assert [tick.label for tick in linear(held).ticks] == labels
