"""One suite, three servers: the fake that the other tests use, a real OpenSearch, and a real Elasticsearch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrem_os.config import SearchSettings
from lrem_os.search.client import connect
from tests.fakes.opensearch import FakeOpenSearch
from tests.fakes.shop import Shop

REAL = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("opensearch", "elasticsearch")]
RAY = pytest.param("opensearch+ray", marks=[pytest.mark.opensearch, pytest.mark.ray])


@pytest.fixture(params=["fake", *REAL])
def server(request: pytest.FixtureRequest) -> Iterator[SearchSettings]:
    """How to reach a server; ``+ray`` behind its name: what is ingested into it goes through a Ray cluster."""
    kind, _, engine = request.param.partition("+")
    if engine:
        request.getfixturevalue("ray_cluster")
    if kind == "fake":
        with FakeOpenSearch() as fake:
            yield SearchSettings(hosts=(fake.url,))
    else:
        url = request.getfixturevalue(f"{kind}_url")
        yield SearchSettings(hosts=(url,), engine=kind)


@pytest.fixture
def shop(server: SearchSettings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    client = connect(server)
    engine = request.node.callspec.params["server"].partition("+")[2] or "local"
    opened = Shop(client, f"t-{uuid.uuid4().hex[:12]}", tmp_path, engine=engine)
    try:
        yield opened
    finally:
        opened.drop_all()
        client.close()
