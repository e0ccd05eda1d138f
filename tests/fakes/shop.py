"""A catalog, an index, and the ingest between them, for tests that look at what the index holds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from opensearchpy import NotFoundError, OpenSearch

from lrem_os.config import CatalogSettings, IndexSettings, IngestSettings, SearchSettings, Settings
from lrem_os.ingest import throttle
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.run import IngestOptions, ingest
from lrem_os.search import index as indices
from lrem_os.search.client import connect
from tests.fakes.embedder import HashEmbedder
from tests.fakes.opensearch import FakeOpenSearch

Rows = Sequence[dict[str, Any]]


@dataclass
class Shop:
    """A catalog file, an index name of its own, and the ingest between them."""

    client: OpenSearch
    alias: str
    folder: Path
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    index: IndexSettings = field(default_factory=IndexSettings)
    ingest_settings: IngestSettings = field(
        default_factory=lambda: IngestSettings(window=16, bulk_docs=5, max_wait_s=30)
    )
    on_progress: Callable[[Tally], None] = lambda _tally: None
    runs: int = 0

    @property
    def settings(self) -> Settings:
        index = self.index.model_copy(update={"name": self.alias})
        return Settings(catalog=self.catalog, index=index, ingest=self.ingest_settings)

    def write(self, rows: Rows | str | bytes, name: str = "catalog.jsonl") -> Path:
        path = self.folder / name
        if not isinstance(rows, str | bytes):
            rows = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
        return path

    def ingest(self, rows: Rows | str | bytes, **options: Any) -> IngestReport:
        """Write the rows to a file and ingest it; the report adds up, or this fails."""
        self.runs += 1
        path = self.write(rows, f"catalog-{self.runs}.jsonl")
        letters = {"dead_letters": self.folder / f"{self.runs}.dead.jsonl"} | options
        report = ingest(
            self.client,
            self.settings,
            self.embedder,
            [str(path)],
            IngestOptions(**letters),
            on_progress=self.on_progress,
        )
        assert report.adds_up
        assert report.dead_letters is None or report.failed + report.superseded == len(self.letters(report))
        return report

    def letters(self, report: IngestReport) -> list[dict[str, Any]]:
        if report.dead_letters is None:
            return []
        return [orjson.loads(line) for line in Path(report.dead_letters).read_bytes().splitlines()]

    def documents(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """Return everything that a search can find, by id."""
        answer = self.client.search(index=name or self.alias, body={"size": 1000}, params={"scroll": "1m"})
        found = {}
        while answer["hits"]["hits"]:
            found |= {hit["_id"]: hit["_source"] for hit in answer["hits"]["hits"]}
            answer = self.client.scroll(body={"scroll_id": answer["_scroll_id"], "scroll": "1m"})
        self.client.clear_scroll(body={"scroll_id": [answer["_scroll_id"]]})
        return found

    def rows(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the documents without what the ingest adds."""
        added = ("lrem_vector", "lrem_hash", "attributes_text")
        return {
            doc_id: {key: value for key, value in source.items() if key not in added}
            for doc_id, source in self.documents(name).items()
        }

    def state(self, name: str | None = None) -> indices.IndexState:
        return indices.require_index(self.client, name or self.alias)

    def live_settings(self, name: str | None = None) -> dict[str, str | None]:
        """Return the settings that a load changes, as they are now."""
        (body,) = self.client.indices.get(index=name or self.alias).values()
        values = body["settings"]["index"]
        return {key: values.get(key) for key in ("refresh_interval", "number_of_replicas")}

    def again(self, **changes: Any) -> Shop:
        """Return the same shop, changed."""
        return replace(self, **changes)

    def drop_all(self) -> None:
        for state in indices._get(self.client, f"{self.alias},{self.alias}-*"):
            with suppress(NotFoundError):
                self.client.indices.delete(index=state.name)


@contextmanager
def fake_shop(folder: Path) -> Iterator[tuple[FakeOpenSearch, Shop]]:
    """Yield a fake and a shop on it that loses no time waiting."""
    with FakeOpenSearch() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "_FIRST_WAIT_S", 0.001)
        patch.setattr(throttle, "_LONGEST_WAIT_S", 0.004)
        client = connect(SearchSettings(hosts=(fake.url,), timeout_s=5))
        yield fake, Shop(client, "shop", folder)
        client.close()
