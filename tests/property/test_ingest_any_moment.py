"""Every request of an ingest may be the one that fails, and every moment the last of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import IngestSettings
from lrem_os.errors import SearchUnavailable
from lrem_os.search import index as indices
from tests.fakes.opensearch import FakeOpenSearch, Fault, Request
from tests.fakes.shop import Shop, fake_shop

FAULTS = {
    "503": Fault(status=503),
    "429": Fault(status=429),
    "done, answer lost": Fault(drop=True, applied=True),
}


def many(first: int, last: int, title: str) -> list[dict[str, Any]]:
    return [{"id": f"p{number}", "title": f"{title} {number}"} for number in range(first, last)]


BEFORE, AFTER = many(2, 6, "old"), many(0, 4, "new")


@dataclass
class Scenario:
    """An ingest that can be played again and again from the same beginning."""

    shop: Shop
    fake: FakeOpenSearch
    is_index_there: bool
    options: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.fake.fault = lambda _request: None
        self.fake.indices.clear()
        if self.is_index_there:
            self.shop.ingest(BEFORE)

    def num_requests(self) -> int:
        """Return how many requests an undisturbed run takes."""
        self.reset()
        before = len(self.fake.requests)
        self.shop.ingest(AFTER, **self.options)
        return len(self.fake.requests) - before

    def assert_whole(self) -> None:
        """The alias leads to one index that holds the catalog and nothing else, as it is when nothing runs."""
        kept = [] if self.options or not self.is_index_there else BEFORE  # a plain ingest deletes nothing
        expected: Sequence[dict[str, Any]] = [*kept, *AFTER]
        assert self.shop.rows() == {row["id"]: row for row in expected}
        assert self.shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
        assert self.shop.state().aliases == {"shop"}
        versions = indices.list_versions(self.shop.client, "shop")
        assert not any(state.is_loading or state.is_building for state in versions)


@pytest.fixture(
    params=[(False, {}), (True, {}), (True, {"sync": True}), (False, {"recreate": True}), (True, {"recreate": True})],
    ids=["first", "again", "sync", "first recreate", "recreate"],
)
def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scenario]:
    with fake_shop(tmp_path) as (fake, shop):
        shop.ingest_settings = IngestSettings(window=2, bulk_docs=1, senders=1, max_wait_s=5)
        yield Scenario(shop, fake, *request.param)


def strike(fake: FakeOpenSearch, position: int, fault: Fault, count: int) -> Callable[[Request], Fault | None]:
    """Return what strikes ``count`` requests from a position on."""
    start = len(fake.requests) + position
    return lambda _request: fault if start < len(fake.requests) <= start + count else None


@pytest.mark.parametrize("name", FAULTS)
def test_any_request_may_fail_for_a_while(scenario: Scenario, name: str) -> None:
    """The same request three times, so that the client's own second try does not hide it."""
    for position in range(scenario.num_requests()):
        scenario.reset()
        scenario.fake.fault = strike(scenario.fake, position, FAULTS[name], 3)
        report = scenario.shop.ingest(AFTER, **scenario.options)
        scenario.fake.fault = lambda _request: None
        assert (report.indexed + report.unchanged, report.failed, report.published) == (4, 0, True)
        scenario.assert_whole()


@pytest.mark.parametrize("is_applied", [False, True], ids=["before", "after"])
def test_killed_at_any_request_and_run_again(scenario: Scenario, is_applied: bool) -> None:
    """From one request on nothing gets through, so nothing can be tidied up: as after ``kill -9``."""
    fake, shop = scenario.fake, scenario.shop
    patient = shop.ingest_settings
    for position in range(scenario.num_requests()):
        scenario.reset()
        start = len(fake.requests) + position

        def dead(_request: Request, start: int = start) -> Fault | None:
            if len(fake.requests) <= start:
                return None
            return Fault(drop=True, applied=is_applied and len(fake.requests) == start + 1)

        fake.fault = dead
        shop.ingest_settings = patient.model_copy(update={"max_wait_s": 0.001})
        with suppress(SearchUnavailable):  # a scroll that cannot be closed at the very end is no error
            shop.ingest(AFTER, **scenario.options)
        assert len(fake.requests) > start
        fake.fault = lambda _request: None
        shop.ingest_settings = patient
        assert shop.ingest(AFTER, **scenario.options).published
        scenario.assert_whole()
