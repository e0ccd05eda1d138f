from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import RequestRejected, SearchUnavailable
from lrem_os.search import index as indices
from tests.fakes.opensearch import FakeOpenSearch
from tests.fakes.shop import Shop, fake_shop

Invoke = Callable[..., Result]
ROWS = [{"id": str(number), "title": "Bag"} for number in range(3)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[FakeOpenSearch, Shop]]:
    with fake_shop(tmp_path) as both:
        yield both


@pytest.fixture
def invoke(
    server: tuple[FakeOpenSearch, Shop], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LREM_OS__SEARCH__HOSTS", f"[{server[0].url}]")
    monkeypatch.setenv("LREM_OS__INDEX__NAME", "shop")
    return lambda *args: CliRunner().invoke(cli, ["index", *args])


@pytest.fixture
def shop(server: tuple[FakeOpenSearch, Shop]) -> Shop:
    return server[1]


def listed(invoke: Invoke) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(invoke("list", "--json").stdout)
    return found


def test_no_index_says_how_to_get_one(invoke: Invoke) -> None:
    result = invoke("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "lrem-os ingest" in result.stderr
    assert listed(invoke) == []


def test_versions_are_listed_with_what_they_are(invoke: Invoke, shop: Shop) -> None:
    shop.ingest(ROWS)
    shop.ingest(ROWS[:2], recreate=True)
    indices.begin_load(shop.client, "shop-v2")
    rows = listed(invoke)
    assert [(row["index"], row["documents"], row["live"], row["loading"]) for row in rows] == [
        ("shop-v1", 3, False, False),
        ("shop-v2", 2, True, True),
    ]
    assert {row["model"] for row in rows} == {"hash"}
    assert rows[0]["fingerprint"] == shop.state("shop-v1").meta["fingerprint"]
    lines = invoke("list").stdout.splitlines()
    assert lines[0].startswith("shop-v1\t3 documents\thash\t")
    assert lines[1].endswith("\tlive, loading")


def test_an_old_version_is_dropped(invoke: Invoke, shop: Shop) -> None:
    shop.ingest(ROWS)
    shop.ingest(ROWS, recreate=True)
    assert invoke("drop", "shop-v1").stdout == "dropped shop-v1\n"
    assert [row["index"] for row in listed(invoke)] == ["shop-v2"]


@pytest.mark.parametrize(
    ("name", "told"),
    [("shop-v1", "is in use by alias shop"), ("shop", "is no version of 'shop'"), ("other", "is no version of 'shop'")],
)
def test_nothing_else_is_dropped(invoke: Invoke, shop: Shop, name: str, told: str) -> None:
    shop.ingest(ROWS)
    shop.client.indices.create(index="other")
    result = invoke("drop", name)
    assert isinstance(result.exception, RequestRejected)
    assert told in str(result.exception)
    assert shop.rows("other") == {}
    assert len(shop.rows()) == 3


def test_restore_ends_a_load_that_was_killed(invoke: Invoke, shop: Shop) -> None:
    shop.ingest(ROWS)
    indices.begin_load(shop.client, "shop-v1")
    assert invoke("restore").stdout == "restored shop-v1\n"
    assert shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
    assert invoke("restore").stdout == ""


def test_a_cluster_that_is_away_is_an_error_of_ours(invoke: Invoke) -> None:
    result = invoke("list", "--set", "search.hosts=[http://127.0.0.1:1]")
    assert isinstance(result.exception, SearchUnavailable)
