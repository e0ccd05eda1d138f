"""What Elasticsearch answers beyond the shared suites: copies, pages, analysis, evaluation, publishing, refusals."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from lrem_os import api
from lrem_os.config import ModelSettings, SearchSettings, Settings
from lrem_os.errors import IndexMissing, RequestRejected, Unsupported
from lrem_os.query_plugin.routing.probe import ask_probe
from lrem_os.search import copies
from lrem_os.search.client import connect, server_info
from lrem_os.search.dialect import spoken
from lrem_os.search.pages import read_pages
from lrem_os.search.requests import SearchSetup
from tests.fakes.embedder import hash_vector
from tests.fakes.rows import many
from tests.fakes.shop import Shop

pytestmark = pytest.mark.elasticsearch

TEXTS = [
    "The running dogs' cafés and O'Brien’s boxes",
    "Men’s 27\" gaming-monitors, 144Hz; it isn't a lie",
    "wireless headphones without cable",
    "日本語の鞄 and a 👜",
    "",
]


@pytest.fixture
def search(elasticsearch_url: str) -> SearchSettings:
    return SearchSettings(engine="elasticsearch", hosts=(elasticsearch_url,))


@pytest.fixture
def shop(search: SearchSettings, tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(connect(search), f"es-{uuid.uuid4().hex[:12]}", tmp_path)
    try:
        yield opened
    finally:
        opened.drop_all()
        opened.client.close()


def test_a_copy_is_alike_and_gone_afterwards(shop: Shop) -> None:
    shop.ingest(many(40))
    with copies.temporary_copy(shop.client, shop.alias) as name:
        assert shop.documents(name) == shop.documents()  # vectors and hashes too
        assert shop.state(name).meta == shop.state().meta
        assert shop.again(alias=name).ingest([{"id": "new", "title": "planted"}]).indexed == 1
        assert "new" not in shop.documents()
    with pytest.raises(IndexMissing):
        shop.state(name)
    with pytest.raises(IndexMissing), copies.temporary_copy(shop.client, f"{shop.alias}-none"):
        raise AssertionError("never made")


def test_pages_come_from_one_view(shop: Shop) -> None:
    shop.ingest([row | {"price": float(number)} for number, row in enumerate(many(23))])
    reading = read_pages(shop.client, shop.alias, {"match_all": {}}, fields=["id"], time_field="price", page=10)
    first = next(reading)
    shop.ingest([{"id": "late", "title": "late", "price": 99.0}])
    rest = list(reading)
    assert [len(page) for page in (first, *rest)] == [10, 10, 3]
    assert [row["id"] for page in (first, *rest) for row in page] == [f"p{number}" for number in range(23)]


@pytest.mark.opensearch
def test_english_is_analysed_alike(shop: Shop, opensearch_url: str) -> None:
    other = connect(SearchSettings(hosts=(opensearch_url,)))
    for text in TEXTS:
        asked = {"analyzer": "english", "text": text}
        assert shop.client.indices.analyze(body=asked) == other.indices.analyze(body=asked)
    other.close()


@pytest.mark.opensearch
def test_a_probe_reads_alike(shop: Shop, opensearch_url: str, tmp_path: Path) -> None:
    """The gate was trained on OpenSearch's scores."""
    titles = ["red leather bag", "blue shoe", "a bag for a laptop", "shoe polish", "red shoe laces"]
    rows = [{"id": f"p{number}", "title": title} for number, title in enumerate(titles)]
    other = Shop(connect(SearchSettings(hosts=(opensearch_url,))), shop.alias, tmp_path)
    vector = hash_vector("red bag", 8)[None, :]
    found = []
    try:
        for one in (shop, other):
            one.ingest(rows)
            setup = SearchSetup(one.catalog, one.index, one.settings.search, (9, 0, 0))
            found += ask_probe(one.client, one.alias, setup, ["red bag"], vector)
    finally:
        other.drop_all()
        other.client.close()
    ours, theirs = found
    assert ours.bm25.ids == theirs.bm25.ids
    assert ours.bm25.scores == pytest.approx(theirs.bm25.scores, rel=1e-4)
    assert ours.vector.scores == pytest.approx(theirs.vector.scores, rel=1e-4)


def test_an_analyzer_that_is_not_there_is_told(shop: Shop) -> None:
    shop.index = shop.index.model_copy(update={"analyzer": "klingon"})
    with pytest.raises(RequestRejected, match=r"Elasticsearch refused.*analyzer \[klingon\]"):
        shop.ingest(many(3))


def test_an_evaluation_runs_as_on_opensearch(shop: Shop, search: SearchSettings, tmp_path: Path) -> None:
    settings = Settings(
        search=search,
        model=ModelSettings(name="fake:16"),
        index=shop.settings.index,
    )
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, many(30, "red bag"))))
    api.ingest_catalog(settings, [str(tmp_path / "c.jsonl")])
    (tmp_path / "q.jsonl").write_bytes(b"\n".join(orjson.dumps({"qid": f"q{n}", "query": "red bag"}) for n in range(3)))
    (tmp_path / "qrels.txt").write_text("".join(f"q{n} 0 p{n} 1\n" for n in range(3)))
    result = api.evaluate(
        settings,
        runs=["bm25", "vector", "hybrid"],
        queries=tmp_path / "q.jsonl",
        qrels=tmp_path / "qrels.txt",
        measures=["recall@100"],
    )
    assert {run: found.overall["recall@100"].mean for run, found in result.runs.items()} == {
        "bm25": 1.0,
        "vector": 1.0,
        "hybrid": 1.0,
    }


def test_templates_are_taken(shop: Shop) -> None:
    from lrem_os.eval.publish import build_templates

    for name, body in build_templates(shop.alias).items():
        try:
            shop.client.indices.put_index_template(name=name, body=spoken("elasticsearch", body))
        finally:
            shop.client.indices.delete_index_template(name=name, ignore=404)


def test_the_wrong_kind_of_server_is_told_apart(elasticsearch_url: str) -> None:
    client = connect(SearchSettings(hosts=(elasticsearch_url,)))
    with pytest.raises(Unsupported, match=r"the server is Elasticsearch 9\.5\.3, and search\.engine is op") as caught:
        server_info(client)
    assert "search.engine=elasticsearch" in (caught.value.hint or "")
    client.close()
