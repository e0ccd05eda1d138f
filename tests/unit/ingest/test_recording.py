from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opensearchpy import OpenSearch

from lrem_os.config import SearchSettings
from lrem_os.dashboards.objects import fields_of
from lrem_os.ingest.recording import MAPPING, RECORDS, ingest_documents, record_ingest, record_template
from lrem_os.ingest.report import IngestReport
from lrem_os.search.client import connect
from tests.fakes.opensearch import FakeOpenSearch, Fault

META = {"lrem": {"fingerprint": "0123456789abcdef", "identity": {"model": "fake:8"}}}


@pytest.fixture
def fake() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as server:
        yield server


@pytest.fixture
def client(fake: FakeOpenSearch) -> OpenSearch:
    found = connect(SearchSettings(hosts=(fake.url,), timeout_s=20))
    found.indices.create(index="shop-v1", body={"mappings": {"_meta": META}, "aliases": {"shop": {}}})
    found.bulk(index="shop-v1", body='{"index":{"_id":"a"}}\n{"v":[1]}\n', params={"refresh": "true"})
    return found


def report() -> IngestReport:
    return IngestReport(
        alias="shop",
        index="shop-v1",
        read=10,
        indexed=6,
        unchanged=1,
        superseded=0,
        failed=3,
        deleted=0,
        failures={"no_title": 2, "bad_price": 1},
        dead_letters=None,
        notes=(),
        num_notes=0,
        seconds=2.0,
        embed_s=1.5,
        embed_wait_s=0.1,
        send_wait_s=0.1,
        published=True,
        previous=None,
        dry_run=False,
    )


def test_an_ingest_and_its_failures_are_documents() -> None:
    told, *failures = ingest_documents(report(), META["lrem"], documents=7, vectors=7)
    assert (told["kind"], told["read"], told["failed"], told["vectors"]) == ("ingest", 10, 3, 7)
    assert (told["model"], told["fingerprint"]) == ("fake:8", "0123456789abcdef")
    assert [(row["code"], row["count"]) for row in failures] == [("bad_price", 1), ("no_title", 2)]
    assert len({row["ingest"] for row in (told, *failures)}) == 1
    known = set(fields_of(MAPPING["properties"]))
    assert {name for row in (told, *failures) for name in row} <= known


def test_nothing_is_written_where_nobody_asked_for_it(fake: FakeOpenSearch, client: OpenSearch) -> None:
    assert not record_ingest(client, report(), "v")
    assert RECORDS not in fake.indices


def test_it_is_written_where_the_template_is(fake: FakeOpenSearch, client: OpenSearch) -> None:
    fake.templates[RECORDS] = {"index_patterns": [RECORDS], "template": record_template()}
    assert record_ingest(client, report(), "v")
    assert record_ingest(client, report(), "v")
    rows = list(fake.indices[RECORDS].written.values())
    assert sorted(row["kind"] for row in rows) == ["failure"] * 4 + ["ingest"] * 2


@pytest.mark.parametrize("action", [RECORDS, "_count", "_bulk"])
@pytest.mark.parametrize("status", [403, 500])
def test_a_fault_ends_no_ingest(
    fake: FakeOpenSearch, client: OpenSearch, caplog: pytest.LogCaptureFixture, action: str, status: int
) -> None:
    fake.templates[RECORDS] = {"index_patterns": [RECORDS], "template": record_template()}
    fake.fault = lambda request: Fault(status=status) if request.action == action else None
    with caplog.at_level(logging.WARNING, logger="lrem_os"):
        assert not record_ingest(client, report(), "v")
    warned = [entry for entry in caplog.records if entry.name.startswith("lrem_os")]
    assert len(warned) == (0 if action == RECORDS else 1), "whether anybody wants it may be nobody's to ask"


def test_what_is_refused_is_told(fake: FakeOpenSearch, client: OpenSearch, caplog: pytest.LogCaptureFixture) -> None:
    fake.templates[RECORDS] = {"index_patterns": [RECORDS], "template": record_template()}
    fake.item_status = lambda _doc_id: 400
    assert not record_ingest(client, replace(report(), failures={}), "v")
    assert "refused its account" in caplog.text
