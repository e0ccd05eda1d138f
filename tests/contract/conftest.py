"""One suite, two servers: the fake that the other tests use, and a real node."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrem_os.config import SearchSettings
from lrem_os.search.client import connect
from tests.fakes.opensearch import FakeOpenSearch
from tests.fakes.shop import Shop


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.opensearch)])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "fake":
        with FakeOpenSearch() as fake:
            yield fake.url
    else:
        yield request.getfixturevalue("opensearch_url")


@pytest.fixture
def shop(server_url: str, tmp_path: Path) -> Iterator[Shop]:
    client = connect(SearchSettings(hosts=(server_url,)))
    opened = Shop(client, f"t-{uuid.uuid4().hex[:12]}", tmp_path)
    try:
        yield opened
    finally:
        opened.drop_all()
        client.close()
