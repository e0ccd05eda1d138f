"""When a JVM counts as warm, and what is said where the service that is to be measured does not start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lrem_os.errors import ServiceError
from lrem_os.planning.service import running_service
from lrem_os.planning.trial import when_settled


@pytest.mark.parametrize(
    ("costs", "taken"),
    [
        ([9.0, 5.0, 3.0, 2.9, 2.95, 1.0], 2.95),
        ([2.0, 2.0, 2.0, 1.0], 2.0),
        ([9.0, 10.0, 5.0, 5.1, 4.9, 1.0], 4.9),  # one dear round is no end
        ([2.0**-at for at in range(40)], 2.0**-14),  # never: some time it is enough
    ],
)
def test_it_is_measured_once_two_rounds_in_a_row_have_not_become_cheaper(costs: Sequence[float], taken: float) -> None:
    rounds = iter(costs)

    def measure() -> tuple[list[float], float]:
        cost = next(rounds)
        return [cost / 10], cost

    assert when_settled(measure) == ([taken / 10], taken)


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceError, match=r"does not start: .*serve\.max_requests is -3"),
        running_service({"serve": {"max_requests": -3}}, tmp_path),
    ):
        pass
