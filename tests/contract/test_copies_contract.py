"""A temporary copy of an index on a real node: alike, separate, and gone whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lrem_os.config import SearchSettings
from lrem_os.errors import IndexMissing
from lrem_os.search import copies
from lrem_os.search import index as indices
from lrem_os.search.client import connect
from tests.fakes.rows import many
from tests.fakes.shop import Shop

pytestmark = pytest.mark.opensearch


@pytest.fixture
def shop(opensearch_url: str, index_name: str, tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(connect(SearchSettings(hosts=(opensearch_url,))), index_name, tmp_path)
    yield opened
    opened.client.close()


def copies_of(shop: Shop, before: set[str]) -> set[str]:
    """Return the copies that there are beside those that other tests may have made."""
    return set(shop.client.indices.get(index=f"{copies.PREFIX}*")) - before


@pytest.fixture
def others(shop: Shop) -> set[str]:
    return set(shop.client.indices.get(index=f"{copies.PREFIX}*"))


def test_a_copy_is_alike_and_what_is_written_there_stays_there(shop: Shop, others: set[str]) -> None:
    shop.ingest(many(40))
    with copies.temporary_copy(shop.client, shop.alias) as name:
        assert copies_of(shop, others) == {name}
        assert shop.documents(name) == shop.documents()  # vectors and hashes too
        state, copy = shop.state(), shop.state(name)
        assert (copy.meta, copy.num_shards) == (state.meta, state.num_shards)
        assert shop.alias not in copy.aliases
        at = shop.again(alias=name)
        assert at.ingest([{"id": "new", "title": "planted"}]).indexed == 1  # the product's own ingest takes it
        assert "new" in shop.documents(name)
        assert "new" not in shop.documents()
    assert copies_of(shop, others) == set()
    assert len(shop.documents()) == 40


class Interrupted(BaseException):
    """What Ctrl-C and SIGTERM raise."""


def test_an_interrupt_leaves_nothing(shop: Shop, others: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ingest(many(40))

    def interrupt(*_args: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_task", interrupt)  # while it is being copied
        with pytest.raises(Interrupted), copies.temporary_copy(shop.client, shop.alias):
            raise AssertionError("never made")
    assert copies_of(shop, others) == set()
    with pytest.raises(Interrupted), copies.temporary_copy(shop.client, shop.alias):
        raise Interrupted
    assert copies_of(shop, others) == set()
    tasks = shop.client.tasks.list(params={"actions": "*reindex"})["nodes"]
    assert tasks == {}


def test_what_is_not_there_cannot_be_copied(shop: Shop, others: set[str]) -> None:
    with pytest.raises(IndexMissing), copies.temporary_copy(shop.client, f"{shop.alias}-none"):
        raise AssertionError("never made")
    assert copies_of(shop, others) == set()


def test_a_copy_that_was_deleted_meanwhile_is_no_trouble(shop: Shop) -> None:
    shop.ingest(many(3))
    with copies.temporary_copy(shop.client, shop.alias) as name:
        shop.client.indices.delete(index=name)
    assert indices.find_index(shop.client, name) is None
