"""What an ingest leaves in the index, on the fake and on a real node."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lrem_os.config import CatalogSettings, IndexSettings, IngestSettings, SearchSettings
from lrem_os.errors import (
    DatasetError,
    IndexMismatch,
    IndexMissing,
    InputError,
    LremError,
    RequestRejected,
    SearchUnavailable,
)
from lrem_os.ingest.report import IngestReport
from lrem_os.search import index as indices
from lrem_os.search.bulk import delete_ids, find_hashes, list_ids
from lrem_os.search.client import connect, server_info
from lrem_os.search.mappings import build_index_body
from lrem_os.text import content_hash, embedded_text
from lrem_os.types import Vectors
from tests.fakes.embedder import HashEmbedder, hash_vector
from tests.fakes.shop import Shop


def row(doc_id: object, title: object = "Bag", **fields: Any) -> dict[str, Any]:
    return {"id": doc_id, "title": title, **fields}


def many(count: int, title: str = "title") -> list[dict[str, Any]]:
    return [row(f"p{number}", f"{title} {number}", price=number + 0.5) for number in range(count)]


def by_id(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(entry["id"]): entry for entry in rows}


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.indexed, report.unchanged, report.superseded, report.failed


class Interrupted(Exception):
    """Stands for anything that ends a run in the middle."""


class Interrupting(HashEmbedder):
    """Raises after so many texts."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        if len(self.texts) >= self.after:
            raise Interrupted
        return super().embed_items(texts)


def test_the_server_says_what_it_is(server_url: str) -> None:
    client = connect(SearchSettings(hosts=(server_url,)))
    info = server_info(client)
    assert info.version == (3, 6, 0)
    assert "opensearch-knn" in (info.plugins or ())
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
    shop.ingest(many(40))
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
    shop.ingest(before)
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
    assert counts(shop.ingest(rows)) == (0, len(rows), 0, 0)


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
    shop.ingest(many(30))
    kept = [*many(30)[:10], row("p20", ""), row("new")]
    report = shop.ingest(kept, sync=True)
    assert (counts(report), report.deleted) == ((1, 10, 0, 1), 19)
    expected = {f"p{number}" for number in range(10)} | {"p20", "new"}
    assert shop.rows().keys() == expected  # p20 is bad now, but it is there: its old version stays
    assert shop.ingest(kept, sync=True).deleted == 0


def test_sync_is_refused_where_ids_cannot_be_read(shop: Shop) -> None:
    shop.ingest(many(5))
    with pytest.raises(InputError, match="1 rows have no usable id"):
        shop.ingest(b'{"id": "p0", "title": "new"}\n{"id": \n', sync=True)
    assert shop.rows() == by_id(many(5))


def test_no_rows_touch_nothing(shop: Shop) -> None:
    shop.ingest(many(5))
    with pytest.raises(DatasetError, match="holds no rows"):
        shop.ingest(b"\n\n", sync=True)
    assert len(shop.rows()) == 5


def test_ids_are_listed_and_deleted_in_pages(shop: Shop) -> None:
    shop.ingest(many(23))
    pages = list(list_ids(shop.client, shop.alias, page=10))
    assert [len(page) for page in pages] == [10, 10, 3]
    assert {doc_id for page in pages for doc_id in page} == {f"p{number}" for number in range(23)}
    assert delete_ids(shop.client, shop.alias, ["p0", "p1", "never"]) == 2
    indices.refresh(shop.client, shop.alias)
    assert find_hashes(shop.client, shop.state().name, ["p0", "p2", "never"]).keys() == {"p2"}


def test_recreate_swaps_the_alias_and_keeps_the_old(shop: Shop) -> None:
    shop.ingest(many(10))
    report = shop.ingest(many(8, "new"), recreate=True)
    assert (report.index, report.previous, report.published) == (f"{shop.alias}-v2", f"{shop.alias}-v1", True)
    assert shop.rows() == by_id(many(8, "new"))
    assert shop.rows(f"{shop.alias}-v1") == by_id(many(10))
    versions = indices.list_versions(shop.client, shop.alias)
    assert [(state.name, state.aliases) for state in versions] == [
        (f"{shop.alias}-v1", frozenset()),
        (f"{shop.alias}-v2", {shop.alias}),
    ]
    assert not any(state.is_building or state.is_loading for state in versions)
    assert shop.ingest(many(8), recreate=True).index == f"{shop.alias}-v3"


def test_recreate_without_an_index_is_a_first_ingest(shop: Shop) -> None:
    report = shop.ingest(many(3), recreate=True)
    assert (report.index, report.published, report.previous) == (f"{shop.alias}-v1", True, None)
    assert not shop.state().is_building


def test_the_old_index_answers_until_the_new_one_is_whole(shop: Shop) -> None:
    shop.ingest(many(10))
    during: list[set[str]] = []
    shop.on_progress = lambda _tally: during.append(set(shop.rows()))
    shop.ingest(many(4, "new"), recreate=True)
    assert during
    assert all(seen == set(by_id(many(10))) for seen in during)


def test_an_interrupted_rebuild_is_taken_up_again(shop: Shop) -> None:
    shop.ingest(many(10))
    with pytest.raises(Interrupted):
        shop.again(embedder=Interrupting(32)).ingest(many(60, "new"), recreate=True)
    assert shop.rows() == by_id(many(10))
    (old, new) = indices.list_versions(shop.client, shop.alias)
    assert (old.is_building, new.is_building, new.is_loading) == (False, True, False)

    report = shop.ingest(many(60, "new"), recreate=True)
    assert report.index == new.name
    assert report.previous == old.name
    assert report.unchanged > 0
    assert report.unchanged + report.indexed == 60
    assert shop.rows() == by_id(many(60, "new"))


def test_a_rebuild_taken_up_again_loses_what_the_catalog_lost_meanwhile(shop: Shop) -> None:
    shop.ingest(many(10))
    with pytest.raises(Interrupted):
        shop.again(embedder=Interrupting(32)).ingest(many(60, "new"), recreate=True)
    shop.ingest(many(60, "new")[5:], recreate=True)
    assert shop.rows() == by_id(many(60, "new")[5:])


def test_an_interrupted_rebuild_for_another_model_is_left_alone(shop: Shop) -> None:
    shop.ingest(many(4))
    with pytest.raises(Interrupted):
        shop.again(embedder=Interrupting(16)).ingest(many(40), recreate=True)
    report = shop.again(embedder=HashEmbedder(name="other")).ingest(many(4), recreate=True)
    assert (report.index, report.unchanged) == (f"{shop.alias}-v3", 0)


def test_an_ingest_beside_an_interrupted_rebuild_goes_to_the_live_index(shop: Shop) -> None:
    shop.ingest(many(4))
    with pytest.raises(Interrupted):
        shop.again(embedder=Interrupting(16)).ingest(many(40), recreate=True)
    report = shop.ingest(many(6))
    assert (report.index, report.published, report.previous) == (f"{shop.alias}-v1", True, None)
    assert shop.rows() == by_id(many(6))


def test_a_rebuild_with_too_many_failures_is_not_published(shop: Shop) -> None:
    shop.ingest(many(10))
    rows = [*many(8), row("bad", ""), row("worse", None)]
    report = shop.ingest(rows, recreate=True)
    assert (report.published, report.previous, report.index) == (False, None, f"{shop.alias}-v2")
    assert shop.rows() == by_id(many(10))
    mended = shop.ingest(many(8), recreate=True)
    assert (mended.published, mended.index, mended.unchanged) == (True, f"{shop.alias}-v2", 8)
    assert shop.rows() == by_id(many(8))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"embedder": HashEmbedder(name="other")}, "model: hash in the index, other now"),
        ({"embedder": HashEmbedder(16)}, "dimension: 8 in the index, 16 now"),
        ({"catalog": CatalogSettings(embed=("title",))}, "embedded_fields: "),
    ],
)
def test_vectors_of_two_kinds_are_never_mixed(shop: Shop, change: dict[str, Any], told: str) -> None:
    shop.ingest(many(3))
    with pytest.raises(IndexMismatch, match=told) as caught:
        shop.again(**change).ingest(many(4, "changed"))
    assert "--recreate" in (caught.value.hint or "")
    assert shop.rows() == by_id(many(3))
    assert shop.again(**change).ingest(many(4, "changed"), recreate=True).published
    assert shop.rows() == by_id(many(4, "changed"))


@pytest.mark.parametrize(
    "change",
    [
        {"catalog": CatalogSettings(number=("price", "weight"))},
        {"catalog": CatalogSettings(keyword=("brand",))},
        {"index": IndexSettings(analyzer="standard")},
        {"index": IndexSettings(m=8)},
        {"index": IndexSettings(vector_field="embedding")},
    ],
    ids=str,
)
def test_another_mapping_is_refused(shop: Shop, change: dict[str, Any]) -> None:
    shop.ingest(many(3))
    with pytest.raises(IndexMismatch, match="the mapping of index") as caught:
        shop.again(**change).ingest(many(4))
    assert "--recreate" in (caught.value.hint or "")
    assert shop.rows() == by_id(many(3))


def test_bulk_load_settings_are_in_force_only_while_loading(shop: Shop) -> None:
    shop.index = IndexSettings(refresh_interval="7s", replicas=1)
    seen: list[dict[str, str | None]] = []
    shop.on_progress = lambda _tally: seen.append(shop.live_settings())
    shop.ingest(many(10))
    assert seen
    assert all(values == {"refresh_interval": "-1", "number_of_replicas": "0"} for values in seen)
    assert shop.live_settings() == {"refresh_interval": "7s", "number_of_replicas": "1"}


def test_settings_are_restored_after_an_error(shop: Shop) -> None:
    shop.index = IndexSettings(refresh_interval="7s")
    with pytest.raises(Interrupted):
        shop.again(embedder=Interrupting(16)).ingest(many(40))
    assert shop.live_settings()["refresh_interval"] == "7s"
    assert not shop.state().is_loading
    assert len(shop.rows()) > 0  # what was written is there to be found


def test_settings_are_restored_by_the_run_after_a_kill(shop: Shop) -> None:
    shop.index = IndexSettings(refresh_interval="7s")
    shop.ingest(many(3))
    indices.begin_load(shop.client, shop.state().name)  # and then the process is gone
    assert shop.state().is_loading
    assert shop.live_settings()["refresh_interval"] == "-1"
    shop.ingest(many(5))
    assert shop.live_settings() == {"refresh_interval": "7s", "number_of_replicas": "0"}
    assert not shop.state().is_loading


def test_settings_of_the_servers_own_choice_are_restored(shop: Shop) -> None:
    """An index without a refresh interval: what was not set must not be set afterwards."""
    shop.ingest(many(3))
    name = shop.state().name
    shop.client.indices.put_settings(index=name, body={"index": {"refresh_interval": None}})
    restore = indices.begin_load(shop.client, name)
    assert restore == {"refresh_interval": None, "number_of_replicas": 0}
    indices.end_load(shop.client, name)
    assert shop.live_settings() == {"refresh_interval": None, "number_of_replicas": "0"}


def test_two_loads_side_by_side_restore_the_settings(shop: Shop) -> None:
    """Whichever ends last; also where the first takes the note away that the second would read."""
    shop.index = IndexSettings(refresh_interval="7s")
    shop.ingest(many(3))
    name = shop.state().name
    first = indices.begin_load(shop.client, name)
    second = indices.begin_load(shop.client, name)
    assert first == second == {"refresh_interval": "7s", "number_of_replicas": 0}
    indices.end_load(shop.client, name, first)
    assert shop.live_settings()["refresh_interval"] == "7s"
    shop.client.indices.put_settings(index=name, body={"index": {"refresh_interval": "-1"}})  # the second's, late
    indices.end_load(shop.client, name, second)
    assert shop.live_settings()["refresh_interval"] == "7s"
    assert not shop.state().is_loading


def test_an_index_of_somebody_else_is_left_alone(shop: Shop) -> None:
    shop.client.indices.create(index=shop.alias, body={"settings": {"index": {"number_of_replicas": 0}}})
    with pytest.raises(IndexMismatch, match="was not made by lrem-os"):
        shop.ingest(many(3))
    with pytest.raises(RequestRejected, match="is an index, not an alias"):
        shop.ingest(many(3), recreate=True)
    assert shop.embedder.texts == []  # said before the work, not after it
    assert indices.list_versions(shop.client, shop.alias) == []
    assert shop.rows() == {}


def test_an_alias_of_two_indices_is_refused(shop: Shop) -> None:
    for number in (1, 2):
        body = build_index_body(shop.catalog, shop.index, 8, {})
        indices.create_index(shop.client, f"{shop.alias}-v{number}", body, alias=shop.alias)
    for recreate in (False, True):
        with pytest.raises(IndexMismatch, match="points to several indices"):
            shop.ingest(many(3), recreate=recreate)


def test_an_index_deleted_while_it_is_loaded_is_an_error(shop: Shop) -> None:
    """OpenSearch makes a bare one in its place: without k-NN mapping, without alias."""
    shop.ingest(many(3))
    name, embedder = shop.state().name, shop.embedder
    original = embedder.embed_items

    def embed(texts: Sequence[str]) -> Vectors:
        if shop.client.indices.get(index=name, params={"ignore_unavailable": "true"}):
            shop.client.indices.delete(index=name)
        return original(texts)

    embedder.embed_items = embed  # type: ignore[method-assign]
    with pytest.raises(IndexMissing, match="deleted while it was being loaded"):
        shop.ingest(many(12, "new"))


def test_a_version_that_is_in_use_is_not_dropped(shop: Shop) -> None:
    shop.ingest(many(3))
    shop.ingest(many(3, "new"), recreate=True)
    with pytest.raises(RequestRejected, match="is in use by alias"):
        indices.drop_index(shop.client, f"{shop.alias}-v2")
    indices.drop_index(shop.client, f"{shop.alias}-v1")
    with pytest.raises(IndexMissing):
        indices.drop_index(shop.client, f"{shop.alias}-v1")
    assert shop.rows() == by_id(many(3, "new"))


def test_a_closed_version_keeps_its_number(shop: Shop) -> None:
    shop.ingest(many(3))
    shop.ingest(many(3, "new"), recreate=True)
    shop.client.indices.close(index=f"{shop.alias}-v1")
    shop.client.indices.delete(index=f"{shop.alias}-v2")
    assert shop.ingest(many(3)).index == f"{shop.alias}-v2"


def test_publishing_twice_is_harmless(shop: Shop) -> None:
    """The answer to the first may have been lost on the way."""
    shop.ingest(many(3))
    body = build_index_body(shop.catalog, shop.index, 8, indices.build_meta({}, {}, building=True))
    indices.create_index(shop.client, f"{shop.alias}-v2", body)
    assert indices.publish(shop.client, shop.alias, f"{shop.alias}-v2") == f"{shop.alias}-v1"
    assert indices.publish(shop.client, shop.alias, f"{shop.alias}-v2") is None
    assert shop.state().name == f"{shop.alias}-v2"


@pytest.mark.parametrize("recreate", [False, True])
def test_two_ingests_at_once_end_equal_to_the_catalog(shop: Shop, recreate: bool) -> None:
    """Also where both find no index and make one."""
    for _ in range(3):
        rows = many(60, f"{shop.runs}")
        shops = [shop.again(embedder=HashEmbedder(pause_s=0.01), runs=shop.runs + n) for n in range(2)]
        start, errors = threading.Barrier(2), []

        def work(one: Shop, rows: Any = rows, start: Any = start, errors: Any = errors) -> None:
            start.wait()
            try:
                one.ingest(rows, recreate=recreate)
            except LremError as exc:
                errors.append(exc)

        threads = [threading.Thread(target=work, args=(one,)) for one in shops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shop.runs += 2
        assert errors == []
        assert shop.rows() == by_id(rows)
        assert shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
        assert not shop.state().is_loading
        assert [state.name for state in indices.list_versions(shop.client, shop.alias) if state.aliases] == [
            shop.state().name
        ]


def test_compressed_bodies_are_understood(shop: Shop, server_url: str) -> None:
    client = connect(SearchSettings(hosts=(server_url,), compress=True))
    assert counts(shop.again(client=client).ingest(many(30))) == (30, 0, 0, 0)
    client.close()
    assert shop.rows() == by_id(many(30))


def test_a_scroll_that_is_lost_can_be_begun_again(shop: Shop) -> None:
    shop.ingest(many(10))
    pages = list_ids(shop.client, shop.alias, page=4)
    assert len(next(pages)) == 4
    shop.client.clear_scroll(body={"scroll_id": [_scroll_id(pages)]})
    with pytest.raises(SearchUnavailable, match="lost the scroll"):
        next(pages)


def _scroll_id(pages: Any) -> str:
    return str(pages.gi_frame.f_locals["answer"]["_scroll_id"])


def test_a_client_that_asks_for_nothing_gets_no_error(shop: Shop) -> None:
    assert indices.find_index(shop.client, shop.alias) is None
    assert indices.list_versions(shop.client, shop.alias) == []
    assert indices.survey(shop.client, shop.alias) == (None, [])
    with pytest.raises(IndexMissing, match="there is no index"):
        indices.require_index(shop.client, shop.alias)


def test_small_settings_still_write_everything(shop: Shop) -> None:
    shop.ingest_settings = IngestSettings(window=3, bulk_docs=1, bulk_bytes=10_000, senders=1)
    assert counts(shop.ingest(many(10))) == (10, 0, 0, 0)
    assert shop.rows() == by_id(many(10))
