"""What an ingest leaves in the index: on the fake and on real nodes, through one process and through a Ray cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrem_os.config import IngestSettings, SearchSettings
from lrem_os.errors import (
    DatasetError,
    InputError,
    SearchUnavailable,
)
from lrem_os.search import index as indices
from lrem_os.search.bulk import delete_ids, find_hashes, list_ids
from lrem_os.search.client import connect, server_info
from lrem_os.text import content_hash, embedded_text
from tests.contract.conftest import RAY, REAL
from tests.fakes.embedder import HashEmbedder, hash_vector
from tests.fakes.rows import by_id, counts, many, row
from tests.fakes.shop import Shop

# What stands in the index before a test begins is prepared by the engine of one process: that is quick.
pytestmark = pytest.mark.parametrize("server", ["fake", *REAL, RAY], indirect=True)


def test_the_server_says_what_it_is(server: SearchSettings) -> None:
    client = connect(server)
    info = server_info(client)
    assert info.engine == server.engine
    if server.engine == "opensearch":
        assert info.version == (3, 6, 0)
        assert "opensearch-knn" in (info.plugins or ())
    else:
        assert info.version == (9, 5, 3)
    client.close()


def test_a_first_ingest(shop: Shop) -> None:
    rows = [row("a", "Red bag", brand="Acme", attributes={"color": "red"}), row("b", "Hat", extra=[1, {"x": None}])]
    report = shop.ingest(rows)
    assert counts(report) == (2, 0, 0, 0)
    assert (report.alias, report.index, report.published, report.previous) == (
        shop.alias,
        f"{shop.alias}-v1",
        True,
        None,
    )
    assert shop.rows() == by_id(rows)
    documents = shop.documents()
    assert documents["a"]["attributes_text"] == "color red"
    for document in documents.values():
        source = {key: value for key, value in document.items() if key not in ("lrem_vector", "lrem_hash")}
        text = embedded_text(source, shop.catalog.embed)
        assert np.array_equal(np.array(document["lrem_vector"], dtype=np.float32), hash_vector(text, 8))
        assert document["lrem_hash"] == content_hash(text, source)
    assert indices.count_documents(shop.client, shop.alias) == 2


def test_the_index_says_what_it_was_built_with(shop: Shop) -> None:
    shop.ingest([row("a")])
    state = shop.state()
    assert state.aliases == {shop.alias}
    assert state.meta["identity"] == {
        "model": "hash",
        "dimension": 8,
        "embedded_fields": list(shop.catalog.embed),
        "text_template": "fields-1",
    }
    assert state.meta["fingerprint"] == indices.fingerprint(state.meta["identity"])
    assert not state.is_building
    assert not state.is_loading
    assert shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}


def test_the_same_catalog_again(shop: Shop) -> None:
    shop.prepare(many(40))
    shop.embedder.texts.clear()
    assert counts(shop.ingest(many(40))) == (0, 40, 0, 0)
    assert shop.embedder.texts == []
    assert shop.rows() == by_id(many(40))


@pytest.mark.parametrize(
    ("before", "after", "embedded"),
    [
        pytest.param([row("a", "x")], [row("a", "y")], ["y"], id="same id, new text"),
        pytest.param([row("a", "x")], [row("a", "x"), row("b", "x")], ["x"], id="new id, same text"),
        pytest.param([row("a", "x")], [row("a", "x")], [], id="same id, same text"),
        pytest.param([row("a", "x"), row("b", "y")], [row("a", "y"), row("b", "x")], ["y", "x"], id="swapped"),
        pytest.param([row("a", "x", price=1)], [row("a", "x", price=2)], ["x"], id="same text, new price"),
        pytest.param([row("a", "x", note="n")], [row("a", "x")], ["x"], id="a field less"),
    ],
)
def test_ingesting_again(shop: Shop, before: list[Any], after: list[Any], embedded: list[str]) -> None:
    """Trap T5."""
    shop.prepare(before)
    shop.embedder.texts.clear()
    shop.ingest(after)
    assert shop.embedder.texts == embedded
    assert shop.rows() == by_id(after)
    for document in shop.documents().values():
        expected = hash_vector(document["title"], 8)
        assert np.array_equal(np.array(document["lrem_vector"], dtype=np.float32), expected)


def test_non_ascii_text_is_the_same_to_the_byte(shop: Shop) -> None:
    """Trap T4."""
    texts = [
        "Café",
        "cafe\u0301",
        "赤いバッグ",
        "حقيبة حمراء",
        "🎒👩🏽‍🚀",
        "a\u2028b\u2029c\x85d",
        "\ufeffx",
        "x\x00y",
        "\U0010ffff",
    ]
    rows = [row(f"{text} {number}", text) for number, text in enumerate(texts)]
    shop.ingest(rows)
    documents = shop.documents()
    assert {doc_id.encode() for doc_id in documents} == {entry["id"].encode() for entry in rows}
    assert [documents[entry["id"]]["title"].encode() for entry in rows] == [text.encode() for text in texts]
    assert counts(shop.prepare(rows)) == (0, len(rows), 0, 0)


def test_vectors_survive_to_the_bit(shop: Shop) -> None:
    shop.embedder = HashEmbedder(64)
    shop.ingest(many(20))
    for document in shop.documents().values():
        text = embedded_text(document, shop.catalog.embed)
        assert np.array_equal(np.array(document["lrem_vector"], dtype=np.float32), hash_vector(text, 64))


def test_a_document_the_node_refuses_does_not_hold_up_the_others(shop: Shop) -> None:
    rows = many(12)
    rows[3] = row("refused", "has a metadata field", _id="x")
    rows[7] = row("nameless", "has a field without a name", **{"": 1})
    report = shop.ingest(rows)
    assert counts(report) == (10, 0, 0, 2)
    assert report.failures == {"refused": 2}
    letters = {letter["id"]: letter for letter in shop.letters(report)}
    assert letters.keys() == {"refused", "nameless"}
    assert (letters["refused"]["line"], letters["refused"]["code"]) == (4, "refused")
    assert "[_id]" in letters["refused"]["reason"]
    assert letters["refused"]["row"] == rows[3]
    assert "empty string" in letters["nameless"]["reason"]
    assert shop.rows().keys() == {entry["id"] for entry in rows} - {"refused", "nameless"}


def test_every_kind_of_bad_row_is_in_the_dead_letters(shop: Shop) -> None:
    lines = [
        '{"id": "a", "title": "first"}',
        '{"id": "a", "title": ',
        '{"title": "no id"}',
        '{"id": "b"}',
        "",
        '{"id": "c", "title": "x", "price": NaN}',
        '{"id": "d", "title": "x", "price": "12 EUR"}',
        '{"id": "e", "title": "x", "attributes": "red"}',
        '["id", "title"]',
        '{"id": "a", "title": "second"}',
    ]
    report = shop.ingest("\n".join(lines).encode() + b'\n{"id": "f", "title": "caf\xe9"}\n')
    assert (report.read, counts(report)) == (10, (1, 0, 1, 8))
    assert [(letter["line"], letter["id"], letter["code"]) for letter in shop.letters(report)] == [
        (1, "a", "duplicate_id"),
        (2, None, "bad_row"),
        (3, None, "bad_row"),
        (4, "b", "bad_row"),
        (6, "c", "bad_row"),
        (7, "d", "bad_row"),
        (8, "e", "bad_row"),
        (9, None, "bad_row"),
        (11, None, "bad_row"),
    ]
    assert all(letter["reason"] for letter in shop.letters(report))
    assert shop.rows() == {"a": row("a", "second")}


def test_what_the_node_accepts_need_not_be_refused(shop: Shop) -> None:
    """Odd, but no trouble: long texts and keywords, dotted and empty keys, deep objects, lists, nulls."""
    deep: dict[str, Any] = {"end": 1}
    for _ in range(15):
        deep = {"k": deep}
    rows = [
        row("long", "x " * 2**19, brand="b" * 40_000),
        row("keys", attributes={"a.b": "v", "": "w", "ü": [1, "x"]}, **{"dotted.name": 1}),
        row("deep", attributes=deep, other=deep),
        row("lists", ["a"][0], brand=["A", "B"], category=[], description=None),
        row("_underscore", attributes={}),
        row(" blanks "),
    ]
    assert counts(shop.ingest(rows)) == (6, 0, 0, 0)
    assert shop.rows() == by_id(rows)


def test_sync_deletes_what_the_input_does_not_have(shop: Shop) -> None:
    shop.prepare(many(30))
    kept = [*many(30)[:10], row("p20", ""), row("new")]
    report = shop.ingest(kept, sync=True)
    assert (counts(report), report.deleted) == ((1, 10, 0, 1), 19)
    expected = {f"p{number}" for number in range(10)} | {"p20", "new"}
    assert shop.rows().keys() == expected  # p20 is bad now, but it is there: its old version stays
    assert shop.prepare(kept, sync=True).deleted == 0


def test_sync_is_refused_where_ids_cannot_be_read(shop: Shop) -> None:
    shop.prepare(many(5))
    with pytest.raises(InputError, match="1 rows have no usable id"):
        shop.ingest(b'{"id": "p0", "title": "new"}\n{"id": \n', sync=True)
    assert shop.rows() == by_id(many(5))


def test_no_rows_touch_nothing(shop: Shop) -> None:
    shop.prepare(many(5))
    with pytest.raises(DatasetError, match="holds no rows"):
        shop.ingest(b"\n\n", sync=True)
    assert len(shop.rows()) == 5


def test_ids_are_listed_and_deleted_in_pages(shop: Shop) -> None:
    shop.prepare(many(23))
    pages = list(list_ids(shop.client, shop.alias, page=10))
    assert [len(page) for page in pages] == [10, 10, 3]
    assert {doc_id for page in pages for doc_id in page} == {f"p{number}" for number in range(23)}
    assert delete_ids(shop.client, shop.alias, ["p0", "p1", "never"]) == 2
    indices.refresh(shop.client, shop.alias)
    assert find_hashes(shop.client, shop.state().name, ["p0", "p2", "never"]).keys() == {"p2"}


def test_compressed_bodies_are_understood(shop: Shop, server: SearchSettings) -> None:
    client = connect(server.model_copy(update={"compress": True}))
    assert counts(shop.again(client=client).prepare(many(30))) == (30, 0, 0, 0)
    client.close()
    assert shop.rows() == by_id(many(30))


def test_a_scroll_that_is_lost_can_be_begun_again(shop: Shop) -> None:
    shop.prepare(many(10))
    pages = list_ids(shop.client, shop.alias, page=4)
    assert len(next(pages)) == 4
    shop.client.clear_scroll(body={"scroll_id": [_scroll_id(pages)]})
    with pytest.raises(SearchUnavailable, match="lost the scroll"):
        next(pages)


def _scroll_id(pages: Any) -> str:
    return str(pages.gi_frame.f_locals["answer"]["_scroll_id"])


def test_small_settings_still_write_everything(shop: Shop) -> None:
    shop.ingest_settings = IngestSettings(window=3, bulk_docs=1, bulk_bytes=10_000, senders=1)
    assert counts(shop.ingest(many(10))) == (10, 0, 0, 0)
    assert shop.rows() == by_id(many(10))
