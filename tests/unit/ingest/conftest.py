from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.ingest.sources import Row, Source, read_rows
from tests.fakes.opensearch import FakeOpenSearch
from tests.fakes.shop import Shop, fake_shop


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
def fake_and_shop(tmp_path: Path) -> Iterator[tuple[FakeOpenSearch, Shop]]:
    with fake_shop(tmp_path) as both:
        yield both


@pytest.fixture
def fake(fake_and_shop: tuple[FakeOpenSearch, Shop]) -> FakeOpenSearch:
    return fake_and_shop[0]


@pytest.fixture
def shop(fake_and_shop: tuple[FakeOpenSearch, Shop]) -> Shop:
    return fake_and_shop[1]
