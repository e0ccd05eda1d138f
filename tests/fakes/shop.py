"""A catalog, an index, and the ingest between them, for tests that look at what the index holds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from opensearchpy import NotFoundError, OpenSearch

from lrem_os.config import CatalogSettings, IndexSettings, IngestSettings, SearchSettings, Settings
from lrem_os.config_ray import RaySettings
from lrem_os.ingest import throttle
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.run import IngestOptions, ingest
from lrem_os.search import index as indices
from lrem_os.search.client import connect, engine_of
from tests.fakes.embedder import HashEmbedder, LoggingEmbedder
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
    engine: Literal["local", "ray"] = "local"
    ray: RaySettings = field(default_factory=RaySettings)

    @property
    def settings(self) -> Settings:
        index = self.index.model_copy(update={"name": self.alias})
        hosts = tuple(connection.host for connection in self.client.transport.connection_pool.connections)
        search = SearchSettings(engine=engine_of(self.client), hosts=hosts)
        how = self.ingest_settings.model_copy(update={"engine": self.engine})
        return Settings(catalog=self.catalog, index=index, ingest=how, search=search, ray=self.ray)

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
        log = LoggingEmbedder(self.embedder, self.folder / f"{self.runs}.embedded.jsonl")
        letters = {"dead_letters": self.folder / f"{self.runs}.dead.jsonl"} | options
        report = ingest(
            self.client,
            self.settings,
            self.embedder if self.engine == "local" else log,
            [str(path)],
            IngestOptions(**letters),
            on_progress=self.on_progress,
        )
        self.embedder.texts.extend(text for call in log.calls() for text in call["texts"])
        assert report.adds_up
        assert report.dead_letters is None or report.failed + report.superseded == len(self.letters(report))
        return report

    def prepare(self, rows: Rows | str | bytes, **options: Any) -> IngestReport:
        """Ingest in this process, whatever the engine is: that is quick."""
        engine, self.engine = self.engine, "local"
        try:
            return self.ingest(rows, **options)
        finally:
            self.engine = engine

    def letters(self, report: IngestReport) -> list[dict[str, Any]]:
        if report.dead_letters is None:
            return []
        return [orjson.loads(line) for line in Path(report.dead_letters).read_bytes().splitlines()]

    def documents(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """Return everything that a search can find, by id."""
        body: dict[str, Any] = {"size": 1000}
        if engine_of(self.client) == "elasticsearch":
            body["_source"] = {"exclude_vectors": False}  # it leaves them out unless they are asked for
        answer = self.client.search(index=name or self.alias, body=body, params={"scroll": "1m"})
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
