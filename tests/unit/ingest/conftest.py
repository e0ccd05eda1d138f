from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.config import SearchSettings
from lrem_os.ingest import throttle
from lrem_os.ingest.sources import Row, Source, read_rows
from lrem_os.search.client import connect
from tests.fakes.opensearch import FakeOpenSearch
from tests.fakes.shop import Shop


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """Write bytes, text or rows to a file and return it as a source."""

    def write(content: bytes | str | list[dict[str, Any]], *, name: str = "catalog.jsonl") -> Source:
        if isinstance(content, list):
            content = b"".join(orjson.dumps(row) + b"\n" for row in content)
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Source(path, name, name.removesuffix(".gz").rsplit(".", 1)[-1])

    return write


@pytest.fixture
def rows(source: Callable[..., Source]) -> Callable[..., list[Row]]:
    """Write content to a file and read its rows."""
    return lambda content, **options: list(read_rows(source(content, **options)))


@pytest.fixture
def fake() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as server:
        yield server


@pytest.fixture
def shop(fake: FakeOpenSearch, tmp_path: Path) -> Iterator[Shop]:
    """A shop on the fake that loses no time waiting."""
    client = connect(SearchSettings(hosts=(fake.url,), timeout_s=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "_FIRST_WAIT_S", 0.001)
        patch.setattr(throttle, "_LONGEST_WAIT_S", 0.004)
        yield Shop(client, "shop", tmp_path)
    client.close()
