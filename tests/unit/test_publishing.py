from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.config import IngestSettings, SearchSettings, Settings
from lrem_os.errors import DatasetError, IndexMismatch, InputError, PublishIncomplete
from lrem_os.eval.datasets import read_file
from lrem_os.ingest import throttle
from lrem_os.publishing import check_complete, publish_report
from tests.fakes.eval_report import eval_report
from tests.fakes.opensearch import FakeOpenSearch, Fault, times


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenSearch]:
    monkeypatch.setattr(throttle, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(throttle, "_LONGEST_WAIT_S", 0.004)
    with FakeOpenSearch() as server:
        yield server


@pytest.fixture
def settings(fake: FakeOpenSearch) -> Settings:
    ingest = IngestSettings(bulk_docs=50, max_retries=2, max_wait_s=30)
    return Settings(search=SearchSettings(hosts=(fake.url,), timeout_s=5), ingest=ingest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "report.json"
    place.write_bytes(orjson.dumps(eval_report(num_queries=40)))
    return place


def counts(found: Any) -> dict[str, tuple[int, int, int, int]]:
    return {
        name: (account.documents, account.written, account.unchanged, account.failed)
        for name, account in found.indices.items()
    }


def test_publishing_twice_changes_nothing(fake: FakeOpenSearch, settings: Settings, path: Path) -> None:
    first = publish_report(settings, path)
    assert set(fake.templates) == {"lrem-os-eval-results", "lrem-os-eval-queries", "lrem-os-eval-judgments"}
    assert counts(first)["lrem-os-eval-queries"] == (160, 160, 0, 0)
    stored = {name: dict(index.visible) for name, index in fake.indices.items()}
    bulks = len(fake.bulks())
    second = publish_report(settings, path.parent)  # the folder will do
    assert {name: (all_, 0, all_, 0) for name, (all_, *_) in counts(first).items()} == counts(second)
    assert {name: dict(index.visible) for name, index in fake.indices.items()} == stored
    assert len(fake.bulks()) == bulks
    check_complete(second)


def test_what_is_refused_is_counted_and_named_and_mended_by_a_second_run(
    fake: FakeOpenSearch, settings: Settings, path: Path
) -> None:
    fake.item_status = lambda doc_id: 400 if doc_id < "2" else None
    found = publish_report(settings, path)
    for account in found.indices.values():
        assert account.documents == account.written + account.unchanged + account.failed
        assert account.failed > 0
        assert 0 < len(account.reasons) <= 5
    with pytest.raises(PublishIncomplete, match=r"refused documents: .* the first: .*status 400 was asked for"):
        check_complete(found)
    fake.item_status = lambda _doc_id: None
    again = publish_report(settings, path)
    assert {name: account.written for name, account in again.indices.items()} == {
        name: account.failed for name, account in found.indices.items()
    }


def test_a_busy_cluster_is_asked_again(fake: FakeOpenSearch, settings: Settings, path: Path) -> None:
    fake.fault = times(2, Fault(status=429))
    found = publish_report(settings, path)
    assert counts(found)["lrem-os-eval-queries"] == (160, 160, 0, 0)


def test_a_dry_run_sends_nothing(fake: FakeOpenSearch, settings: Settings, path: Path) -> None:
    found = publish_report(settings, path, dry_run=True)
    assert counts(found)["lrem-os-eval-queries"] == (160, 0, 0, 0)
    assert found.dry_run
    assert fake.requests == []


def test_an_index_of_something_else_is_left_alone(fake: FakeOpenSearch, settings: Settings, path: Path) -> None:
    from lrem_os import api
    from lrem_os.search.index import create_index

    create_index(api.connect(settings), "shop-results", {"mappings": {"properties": {"mean": {"type": "text"}}}})
    with pytest.raises(IndexMismatch, match="made by another version of lrem-os, or by something else"):
        publish_report(settings, path, prefix="shop")
    assert fake.indices["shop-results"].written == {}


@pytest.mark.parametrize("prefix", ["", "Shop", "-shop", "a b", "shop/x", "*", "x" * 201])
def test_a_prefix_that_cannot_be_used(settings: Settings, path: Path, prefix: str) -> None:
    with pytest.raises(InputError, match="cannot begin the name of an index"):
        publish_report(settings, path, prefix=prefix)


def test_other_files_are_no_reports(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"runs": {}}')
    with pytest.raises(DatasetError, match="no report"):
        publish_report(settings, tmp_path / "other.json")


def test_judgments_may_name_queries_by_their_text(settings: Settings, path: Path, tmp_path: Path) -> None:
    report = eval_report(num_queries=40)
    text = report["queries"]["q000"]["text"]
    qrels = tmp_path / "quepid.csv"
    qrels.write_text(f"query,docid,rating\n{text.upper()},a,2\n{text},b,0\n")
    report["card"]["checksums"] = {"qrels": f"sha256:{read_file(qrels).sha256}"}
    path.write_bytes(orjson.dumps(report))
    found = publish_report(settings, path, qrels=qrels, dry_run=True)
    assert counts(found)["lrem-os-eval-judgments"] == (2, 0, 0, 0)
    report["queries"] = {qid: query | {"text": None} for qid, query in report["queries"].items()}  # as redacted
    path.write_bytes(orjson.dumps(report))
    with pytest.raises(InputError, match="other judgments"):
        publish_report(settings, path, qrels=qrels, dry_run=True)
