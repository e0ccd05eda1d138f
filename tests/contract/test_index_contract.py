"""The index around an ingest: rebuilt, refused, restored, shared; on the fake and on a real node."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opensearchpy import OpenSearch

from lrem_os.config import CatalogSettings, IndexSettings
from lrem_os.errors import (
    IndexMismatch,
    IndexMissing,
    LremError,
    RequestRejected,
)
from lrem_os.search import index as indices
from lrem_os.search.mappings import build_index_body
from lrem_os.types import Vectors
from tests.fakes.embedder import HashEmbedder, Interrupted, InterruptingEmbedder
from tests.fakes.rows import by_id, many, row
from tests.fakes.shop import Shop


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
        shop.again(embedder=InterruptingEmbedder(32)).ingest(many(60, "new"), recreate=True)
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
        shop.again(embedder=InterruptingEmbedder(32)).ingest(many(60, "new"), recreate=True)
    shop.ingest(many(60, "new")[5:], recreate=True)
    assert shop.rows() == by_id(many(60, "new")[5:])


def test_an_interrupted_rebuild_for_another_model_is_left_alone(shop: Shop) -> None:
    shop.ingest(many(4))
    with pytest.raises(Interrupted):
        shop.again(embedder=InterruptingEmbedder(16)).ingest(many(40), recreate=True)
    report = shop.again(embedder=HashEmbedder(name="other")).ingest(many(4), recreate=True)
    assert (report.index, report.unchanged) == (f"{shop.alias}-v3", 0)


def test_an_ingest_beside_an_interrupted_rebuild_goes_to_the_live_index(shop: Shop) -> None:
    shop.ingest(many(4))
    with pytest.raises(Interrupted):
        shop.again(embedder=InterruptingEmbedder(16)).ingest(many(40), recreate=True)
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
    assert settings_while(shop, many(10)) == [{"refresh_interval": "-1", "number_of_replicas": "1"}]
    assert shop.live_settings() == {"refresh_interval": "7s", "number_of_replicas": "1"}


def test_replicas_are_dropped_only_where_asked_for_and_no_search_is_answered(shop: Shop) -> None:
    shop.index = IndexSettings(refresh_interval="7s", replicas=1)
    shop.ingest_settings = shop.ingest_settings.model_copy(update={"drop_replicas": True})
    without, with_them = ({"refresh_interval": "-1", "number_of_replicas": number} for number in "01")
    assert settings_while(shop, many(10)) == [without]
    assert shop.live_settings() == {"refresh_interval": "7s", "number_of_replicas": "1"}
    assert settings_while(shop, many(20)) == [with_them]  # it answers searches: a lost node must not break it
    live = shop.state().name
    seen = settings_while(shop, many(20), name=f"{shop.alias}-v2", recreate=True)
    assert seen == [without]
    assert shop.state().name != live
    assert shop.live_settings() == {"refresh_interval": "7s", "number_of_replicas": "1"}


def settings_while(shop: Shop, rows: list[dict[str, Any]], *, name: str | None = None, **options: Any) -> list[Any]:
    """Ingest; return what the settings of the index, or of the named one, were meanwhile: each value once."""
    seen: list[dict[str, str | None]] = []
    watching = shop.again(on_progress=lambda _tally: seen.append(shop.live_settings(name)))
    watching.runs = shop.runs + 1
    shop.runs += 1
    watching.ingest(rows, **options)
    return [values for place, values in enumerate(seen) if values not in seen[:place]]


def test_settings_are_restored_after_an_error(shop: Shop) -> None:
    shop.index = IndexSettings(refresh_interval="7s")
    with pytest.raises(Interrupted):
        shop.again(embedder=InterruptingEmbedder(16)).ingest(many(40))
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
        body = build_index_body(shop.catalog, shop.index, 8, {}, engine=shop.settings.search.engine)
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
    meta = indices.build_meta({}, {}, building=True)
    body = build_index_body(shop.catalog, shop.index, 8, meta, engine=shop.settings.search.engine)
    indices.create_index(shop.client, f"{shop.alias}-v2", body)
    assert indices.publish(shop.client, shop.alias, f"{shop.alias}-v2") == f"{shop.alias}-v1"
    assert indices.publish(shop.client, shop.alias, f"{shop.alias}-v2") is None
    assert shop.state().name == f"{shop.alias}-v2"


@pytest.mark.parametrize("rival", ["the same version", "another version"])
def test_of_two_that_publish_at_once_the_alias_leads_to_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, rival: str
) -> None:
    meta = {"identity": {}, "fingerprint": "x", "mapping_hash": "y", "state": "building"}
    body = build_index_body(shop.catalog, shop.index, 8, meta, engine=shop.settings.search.engine)
    first, second, third = (f"{shop.alias}-v{number}" for number in (1, 2, 3))
    indices.create_index(shop.client, first, body, alias=shop.alias)
    indices.create_index(shop.client, second, body)
    indices.create_index(shop.client, third, body)
    look, winner = indices.find_index, second if rival == "the same version" else third

    def look_and_be_overtaken(client: OpenSearch, name: str) -> indices.IndexState | None:
        found = look(client, name)
        monkeypatch.setattr(indices, "find_index", look)
        assert indices.publish(client, name, winner) == first
        return found

    monkeypatch.setattr(indices, "find_index", look_and_be_overtaken)
    # require_index looks through find_index too: what is overtaken is the look at the alias
    monkeypatch.setattr(indices, "require_index", lambda client, name: look(client, name))
    if rival == "the same version":
        assert indices.publish(shop.client, shop.alias, second) == first
    else:
        with pytest.raises(RequestRejected, match="aliases_not_found"):
            indices.publish(shop.client, shop.alias, second)
    state = look(shop.client, shop.alias)
    assert state is not None
    assert (state.name, state.is_building, state.meta["replaced"]) == (winner, False, first)


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


def test_a_client_that_asks_for_nothing_gets_no_error(shop: Shop) -> None:
    assert indices.find_index(shop.client, shop.alias) is None
    assert indices.list_versions(shop.client, shop.alias) == []
    assert indices.survey(shop.client, shop.alias) == (None, [])
    with pytest.raises(IndexMissing, match="there is no index"):
        indices.require_index(shop.client, shop.alias)
