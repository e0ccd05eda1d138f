"""A whole ingest against the fake: what goes wrong on the way, and what is there afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import IngestSettings, SearchSettings, Settings
from lrem_os.errors import (
    AccessDenied,
    DatasetError,
    IndexMissing,
    LremError,
    RequestRejected,
    SearchError,
    SearchUnavailable,
)
from lrem_os.ingest.run import IngestOptions, ingest
from lrem_os.search.client import connect
from lrem_os.types import Vectors
from tests.fakes.embedder import HashEmbedder
from tests.fakes.opensearch import FakeOpenSearch, Fault, Request, times
from tests.fakes.rows import by_id, many, row
from tests.fakes.shop import Shop


def assert_whole(shop: Shop, rows: Sequence[dict[str, Any]]) -> None:
    """The alias leads to one index that holds the rows and nothing else, as it is when nothing runs."""
    assert shop.rows() == by_id(rows)
    assert shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
    state = shop.state()
    assert (state.is_loading, state.is_building) == (False, False)
    assert state.aliases == {"shop"}


# ---- bad weather


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=503),
        Fault(status=502, body=b"<html>Bad Gateway</html>"),
        Fault(status=504, applied=True),
        Fault(status=500),
        Fault(drop=True),
        Fault(drop=True, applied=True),
    ],
    ids=str,
)
def test_bulk_requests_that_fail_are_sent_again(shop: Shop, fake: FakeOpenSearch, fault: Fault) -> None:
    """Trap T10."""
    fake.fault = times(9, fault)
    report = shop.ingest(many(40))
    assert (report.indexed, report.failed) == (40, 0)
    assert_whole(shop, many(40))


def test_time_outs_are_sent_again(shop: Shop, fake: FakeOpenSearch) -> None:
    client = connect(SearchSettings(hosts=(fake.url,), timeout_s=0.2))
    fake.fault = times(3, Fault(delay_s=0.5, applied=True))
    assert shop.again(client=client).ingest(many(20)).indexed == 20
    client.close()
    assert_whole(shop, many(20))


def test_retry_after_is_waited_for_and_told(shop: Shop, fake: FakeOpenSearch) -> None:
    fake.fault = times(1, Fault(status=429, headers={"Retry-After": "1"}))
    told = set()
    shop.on_progress = lambda tally: told.add(tally.waiting)
    start = time.monotonic()
    shop.ingest(many(3))
    assert time.monotonic() - start >= 1.0
    assert [text for text in told if text] == [
        "OpenSearch pushes back (429): scripted_exception: status 429 was asked for; trying again in 1.0 s"
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_documents_that_are_turned_away_are_sent_again(shop: Shop, fake: FakeOpenSearch, status: int) -> None:
    left = {f"p{number}": number % 4 for number in range(40)}

    def item_status(doc_id: str) -> int | None:
        left[doc_id] -= 1
        return status if left[doc_id] >= 0 else None

    fake.item_status = item_status
    report = shop.ingest(many(40))
    assert (report.indexed, report.failed) == (40, 0)
    assert_whole(shop, many(40))


def test_documents_that_are_refused_are_dead_letters(shop: Shop, fake: FakeOpenSearch) -> None:
    fake.item_status = lambda doc_id: 400 if doc_id in ("p3", "p17") else None
    report = shop.ingest(many(40))
    assert (report.indexed, report.failures) == (38, {"refused": 2})
    assert sorted((letter["id"], letter["line"]) for letter in shop.letters(report)) == [("p17", 18), ("p3", 4)]
    assert_whole(shop, [entry for entry in many(40) if entry["id"] not in ("p3", "p17")])


def test_answers_out_of_order_are_told_apart(shop: Shop, fake: FakeOpenSearch) -> None:
    """Trap T10: the first request is answered last, with a refusal inside."""
    shop.ingest_settings = IngestSettings(window=40, bulk_docs=5, senders=4)
    fake.fault = lambda request: Fault(delay_s=0.2) if request.action == "_bulk" and "p0" in request.ids else None
    fake.item_status = lambda doc_id: 400 if doc_id == "p1" else None
    report = shop.ingest(many(40))
    assert [letter["id"] for letter in shop.letters(report)] == ["p1"]
    assert_whole(shop, [entry for entry in many(40) if entry["id"] != "p1"])


@pytest.mark.parametrize("fault", [Fault(status=413), Fault(drop=True), Fault(status=429)], ids=str)
def test_a_request_too_large_is_split_until_it_fits(shop: Shop, fake: FakeOpenSearch, fault: Fault) -> None:
    """Some say 413, a proxy may cut the connection, and 429 is what OpenSearch says to more than it has memory for."""
    shop.ingest_settings = IngestSettings(bulk_docs=40)
    fake.fault = lambda request: fault if request.action == "_bulk" and len(request.body) > 1500 else None
    report = shop.ingest(many(40))
    assert (report.indexed, report.failed) == (40, 0)
    assert_whole(shop, many(40))


def test_a_document_too_large_for_the_node_is_the_only_one_lost(shop: Shop, fake: FakeOpenSearch) -> None:
    fake.fault = lambda request: Fault(status=413) if len(request.body) > 20_000 else None
    rows = [*many(10), row("huge", "x" * 30_000)]
    report = shop.ingest(rows)
    assert report.failures == {"refused": 1}
    assert "413" in shop.letters(report)[0]["reason"]
    assert_whole(shop, many(10))


def test_a_document_that_cuts_every_connection_is_the_only_one_lost(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest_settings = IngestSettings(bulk_docs=5, max_retries=2)
    fake.fault = lambda request: Fault(drop=True) if request.action == "_bulk" and "p7" in request.ids else None
    report = shop.ingest(many(20))
    assert report.failures == {"refused": 1}
    assert "cannot be reached" in shop.letters(report)[0]["reason"]
    assert_whole(shop, [entry for entry in many(20) if entry["id"] != "p7"])


def test_pressure_shrinks_the_concurrency_and_calm_restores_it(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest_settings = IngestSettings(window=200, bulk_docs=2, senders=4)
    most: dict[str, int] = {}
    bulks, lock = 0, threading.Lock()

    def fault(request: Request) -> Fault | None:
        nonlocal bulks
        if request.action != "_bulk":
            return None
        with lock:
            bulks += 1
            phase = "before" if bulks <= 20 else "pressure" if bulks <= 32 else "after" if bulks <= 35 else "calm"
        most[phase] = max(most.get(phase, 0), fake.num_bulk)
        return Fault(status=429) if phase == "pressure" else Fault(delay_s=0.05)

    fake.fault = fault
    assert shop.ingest(many(200)).indexed == 200
    assert most["before"] == 4
    assert most["after"] <= 2
    assert most["calm"] == 4


def test_no_more_requests_at_once_than_senders(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest_settings = IngestSettings(bulk_docs=2, senders=3)
    fake.fault = lambda request: Fault(delay_s=0.05)
    shop.ingest(many(60))
    assert fake.num_bulk_at_once == 3


def test_a_cluster_that_stays_away_ends_the_run_and_the_next_finishes(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest_settings = IngestSettings(bulk_docs=5, max_wait_s=0.1)
    bulks, lock = 0, threading.Lock()

    def fault(request: Request) -> Fault | None:
        nonlocal bulks
        with lock:
            bulks += request.action == "_bulk"
            return Fault(drop=True) if bulks > 3 else None

    fake.fault = fault
    with pytest.raises(SearchUnavailable, match="cannot be reached"):
        shop.ingest(many(100))
    fake.fault = lambda _request: None
    assert shop.state().is_loading
    report = shop.ingest(many(100))
    assert report.unchanged == 15
    assert report.indexed == 85
    assert_whole(shop, many(100))


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault(status=403), AccessDenied, "denies access"),
        (Fault(status=401), AccessDenied, "LREM_OS__SEARCH__PASSWORD"),
        (Fault(status=200, body=b"<html>Log in</html>"), SearchError, "not JSON"),
    ],
    ids=str,
)
def test_what_waiting_cannot_mend_ends_the_run(
    shop: Shop, fake: FakeOpenSearch, fault: Fault, kind: type[LremError], told: str
) -> None:
    fake.fault = lambda request: fault if request.action == "_bulk" else None
    with pytest.raises(kind) as caught:
        shop.ingest(many(30))
    assert told in f"{caught.value} {caught.value.hint}"
    assert shop.live_settings()["refresh_interval"] == "1s"


def test_an_answer_that_forgets_documents_is_no_success(
    shop: Shop, fake: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_bulk", lambda _request, _name: (200, {"took": 1, "errors": False, "items": []}))
    with pytest.raises(SearchError, match="answered for 0 documents of"):
        shop.ingest(many(3))


# ---- the input


def test_a_dry_run_needs_neither_model_nor_cluster(shop: Shop, tmp_path: Path) -> None:
    path = shop.write([row("a"), row("a"), row("b", "")])
    options = IngestOptions(dry_run=True, dead_letters=tmp_path / "dead.jsonl")
    report = ingest(None, shop.settings, None, [str(path)], options)
    assert (report.read, report.indexed, report.superseded, report.failed, report.dry_run) == (3, 1, 1, 1, True)
    assert report.adds_up
    assert len(shop.letters(report)) == 2


def test_an_input_that_changes_while_it_is_read_is_refused(shop: Shop, fake: FakeOpenSearch) -> None:
    """Of the rows that came later nobody knows whether they are duplicates, and a sync would delete them again."""
    shop.ingest(many(5))
    embedder = shop.embedder
    original = embedder.embed_items

    def embed(texts: Sequence[str]) -> Vectors:
        path = shop.folder / f"catalog-{shop.runs}.jsonl"
        with path.open("ab") as file:
            file.write(b'{"id": "late", "title": "late"}\n')
        return original(texts)

    embedder.embed_items = embed  # type: ignore[method-assign]
    with pytest.raises(DatasetError, match="changed while it was read"):
        shop.ingest(many(40, "new"), sync=True)
    assert not any(b'"delete"' in request.body for request in fake.bulks())
    assert shop.live_settings()["refresh_interval"] == "1s"
    del embedder.embed_items
    shop.ingest(many(40, "new"), sync=True)
    assert_whole(shop, many(40, "new"))


def test_a_file_replaced_by_one_of_the_same_length_is_noticed(shop: Shop) -> None:
    embedder = shop.embedder
    original = embedder.embed_items

    def embed(texts: Sequence[str]) -> Vectors:
        path = shop.folder / f"catalog-{shop.runs}.jsonl"
        other = shop.folder / "other"
        other.write_bytes(path.read_bytes())
        os.replace(other, path)
        return original(texts)

    embedder.embed_items = embed  # type: ignore[method-assign]
    with pytest.raises(DatasetError, match="changed while it was read"):
        shop.ingest(many(5))


def test_a_dead_letter_file_that_exists_is_refused_before_anything_is_sent(shop: Shop, fake: FakeOpenSearch) -> None:
    precious = shop.folder / "precious.jsonl"
    precious.write_text("x")
    with pytest.raises(DatasetError, match="exists already"):
        shop.ingest(many(3), dead_letters=precious)
    assert fake.requests == []
    assert precious.read_text() == "x"


def test_dead_letters_have_a_name_of_their_own(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    first = shop.ingest([row("a"), row("b", "")], dead_letters=None)
    second = shop.ingest([row("a"), row("b", "")], dead_letters=None)
    assert first.dead_letters != second.dead_letters
    assert Path(str(first.dead_letters)).name.startswith("shop-")
    assert shop.ingest([row("a")], dead_letters=None).dead_letters is None
    assert len(list(tmp_path.glob("*.dead.jsonl"))) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "holds no rows"), (b"\n \n", "holds no rows"), (b"\x1f\x8b\x08broken", "gzip data is damaged")],
)
def test_files_as_a_whole_that_cannot_be_used(shop: Shop, fake: FakeOpenSearch, content: bytes, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        shop.ingest(content)
    assert fake.requests == []


def test_an_empty_file_among_others_is_noted(shop: Shop, tmp_path: Path) -> None:
    paths = [str(shop.write([row("a")], "a.jsonl")), str(shop.write("", "b.jsonl"))]
    report = ingest(shop.client, shop.settings, shop.embedder, paths, IngestOptions(dead_letters=tmp_path / "dead"))
    assert [(Path(note.path).name, note.message) for note in report.notes] == [("b.jsonl", "holds no rows")]


def test_several_files_of_several_kinds(shop: Shop, tmp_path: Path) -> None:
    shop.write([row("a", "one"), row("b", "two")], "1.jsonl")
    shop.write("id,title,price\nc,three,4.5\na,newer,\n", "2.csv")
    report = ingest(
        shop.client,
        shop.settings,
        shop.embedder,
        [str(tmp_path / "1.jsonl"), str(tmp_path / "*.csv")],
        IngestOptions(dead_letters=tmp_path / "dead"),
    )
    assert (report.read, report.indexed, report.superseded) == (4, 3, 1)
    assert_whole(shop, [row("a", "newer"), row("b", "two"), row("c", "three", price=4.5)])


# ---- sync and rebuild


def test_a_scroll_lost_in_the_middle_of_a_sync_is_begun_again(
    shop: Shop, fake: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrem_os.ingest import run

    original = run.list_ids
    monkeypatch.setattr(run, "list_ids", lambda client, name: original(client, name, page=4))
    shop.ingest(many(20))
    lost: list[Request] = []

    def restart(request: Request) -> None:
        if request.action == "scroll" and not lost:
            lost.append(request)
            fake.forget_scrolls()

    fake.fault = restart
    report = shop.ingest(many(6), sync=True)
    assert lost
    assert report.deleted == 14
    assert_whole(shop, many(6))


def test_deletions_that_are_turned_away_are_sent_again(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest(many(10))
    busy = iter([429] * 3)
    fake.item_status = lambda doc_id: next(busy, None)
    shop.ingest(many(6), sync=True)
    assert next(busy, None) is None
    assert_whole(shop, many(6))


def test_a_deletion_that_is_refused_is_an_error(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest(many(10))
    fake.item_status = lambda doc_id: 403 if doc_id == "p9" else None
    with pytest.raises(RequestRejected, match="1 documents could not be deleted: scripted: status 403"):
        shop.ingest(many(6), sync=True)


def test_an_index_that_another_ingest_makes_at_the_same_moment_is_used(shop: Shop, fake: FakeOpenSearch) -> None:
    """Between looking and making: the one must not fail, and there must not be two behind the alias."""
    other = shop.again(embedder=HashEmbedder(), folder=shop.folder / "other")
    other.folder.mkdir()
    done: list[bool] = []

    def overtake(request: Request) -> None:
        if request.method == "PUT" and request.path == "/shop-v1" and not done:
            done.append(True)
            other.ingest(many(5))

    fake.fault = overtake
    report = shop.ingest(many(8))
    assert (report.index, report.published) == ("shop-v1", True)
    assert list(fake.indices) == ["shop-v1"]
    assert_whole(shop, many(8))


def test_the_alias_is_never_without_an_index(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest(many(4))
    seen: list[list[str]] = []

    def look(_request: Request) -> None:
        seen.append(fake.behind("shop"))

    fake.fault = look
    shop.ingest(many(8, "new"), recreate=True)
    assert set(map(tuple, seen)) == {("shop-v1",)}
    assert fake.behind("shop") == ["shop-v2"]


def test_an_interrupt_restores_the_settings(shop: Shop) -> None:
    embedder = shop.embedder

    def interrupt(_texts: Sequence[str]) -> Vectors:
        raise KeyboardInterrupt

    embedder.embed_items = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        shop.ingest(many(40))
    assert shop.live_settings()["refresh_interval"] == "1s"
    assert not shop.state().is_loading


def test_an_index_that_vanishes_and_does_not_come_back(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest(many(4))

    def vanish(request: Request) -> Fault | None:
        if request.action == "_bulk":
            fake.indices.clear()
            return Fault(status=404)
        return None

    fake.fault = vanish
    with pytest.raises(IndexMissing):
        shop.ingest(many(4, "new"))


def test_settings_of_the_whole_reach_the_parts(shop: Shop, fake: FakeOpenSearch) -> None:
    shop.ingest_settings = IngestSettings(window=7, bulk_docs=3)
    shop.ingest(many(20))
    assert shop.embedder.batches == [7, 7, 6]
    assert max(len(request.ids) for request in fake.bulks()) == 3
    assert Settings(ingest=shop.ingest_settings).ingest.window == 7
