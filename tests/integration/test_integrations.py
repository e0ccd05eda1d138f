"""The components of other frameworks find what ``lrem_os.search_products`` finds, on a real node."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when haystack is imported

import pytest
from haystack import Pipeline
from haystack.core.errors import ComponentError

import lrem_os
from lrem_os.errors import ConfigError, IndexMissing, QueryError
from lrem_os.integrations.haystack import LremRetriever as HaystackRetriever
from lrem_os.integrations.langchain import LremRetriever as LangChainRetriever
from lrem_os.integrations.shop import Shop
from tests.fakes.opensearch import FakeOpenSearch

pytestmark = pytest.mark.opensearch
ROWS = """\
{"id": "p1", "title": "Cork trivet", "brand": "Hearth", "price": 9.5}
{"id": "p2", "title": "Steel trivet", "brand": "Forge", "price": 14}
{"id": "p3", "title": "Red kettle", "brand": "Hearth", "price": 40}
"""


@pytest.fixture
def config(opensearch_url: str, index_name: str, tmp_path: Path) -> Path:
    """A shop with three products, as its configuration file says."""
    (tmp_path / "catalog.jsonl").write_text(ROWS)
    file = tmp_path / "shop.yaml"
    file.write_text(
        f"search:\n  hosts: ['{opensearch_url}']\nindex:\n  name: {index_name}\nmodel:\n  name: 'fake:16'\n"
        "reasoning:\n  name: 'fake:'\n"
    )
    settings = lrem_os.load_settings(file).settings
    lrem_os.ingest_catalog(settings, [str(tmp_path / "catalog.jsonl")])
    return file


def expected(config: Path, text: str, **options: object) -> dict[str, float]:
    settings = lrem_os.load_settings(config).settings
    ranking = lrem_os.search_products(settings, text, **options)  # type: ignore[arg-type]
    return {hit.doc_id: hit.score for hit in ranking.hits}


@pytest.mark.parametrize("mode", ["bm25", "vector", "hybrid"])
def test_haystack_finds_what_search_finds(config: Path, mode: str) -> None:
    documents = HaystackRetriever(str(config), mode=mode).run("steel trivet")["documents"]
    wanted = expected(config, "steel trivet", mode=mode)
    assert [one.id for one in documents] == list(wanted)
    assert {one.id: one.score for one in documents} == pytest.approx(wanted)
    assert documents[0].content == "Steel trivet\nForge"
    assert documents[0].meta["price"] == 14
    assert documents[0].meta["lrem"]["route"] == ("bm25" if mode == "bm25" else "direct")


@pytest.mark.parametrize("mode", ["bm25", "vector", "hybrid"])
def test_langchain_finds_what_search_finds(config: Path, mode: str) -> None:
    documents = LangChainRetriever(config=str(config), mode=mode).invoke("steel trivet")  # type: ignore[arg-type]
    wanted = expected(config, "steel trivet", mode=mode)
    assert [one.id for one in documents] == list(wanted)
    assert {one.id: one.metadata["lrem"]["score"] for one in documents} == pytest.approx(wanted)
    assert documents[0].page_content == "Steel trivet\nForge"
    assert documents[0].metadata["brand"] == "Forge"


def test_filters_and_depth_given_before_and_with_a_query(config: Path) -> None:
    haystack = HaystackRetriever(str(config), filters=["brand=Hearth"], top_k=1)
    langchain = LangChainRetriever(config=str(config), filters=("brand=Hearth",), top_k=1)
    assert [one.id for one in haystack.run("trivet")["documents"]] == ["p1"]
    assert [one.id for one in langchain.invoke("trivet")] == ["p1"]
    assert {one.id for one in haystack.run("trivet", filters=["price<20"], top_k=5)["documents"]} == {"p1", "p2"}
    assert {one.id for one in langchain.invoke("trivet", filters=["price<20"], top_k=5)} == {"p1", "p2"}
    assert [one.id for one in haystack.run("trivet")["documents"]] == ["p1"]


def test_reasoning_shows_in_what_is_found(config: Path) -> None:
    query = "what do i put under a hot pot"
    (first, *_) = HaystackRetriever(str(config), reason=True).run(query)["documents"]
    (second, *_) = LangChainRetriever(config=str(config), reason=True).invoke(query)
    assert first.meta["lrem"]["route"] == second.metadata["lrem"]["route"] == "reasoned"
    assert first.meta["lrem"]["keywords"] == second.metadata["lrem"]["keywords"] != []


def test_a_saved_haystack_pipeline_answers_alike(config: Path) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", HaystackRetriever(str(config), mode="bm25", filters=["price<20"], top_k=2))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["lrem_os.integrations.haystack"])
    asked = {"retriever": {"query": "trivet"}}
    assert again.run(asked) == pipeline.run(asked)
    assert len(again.run(asked)["retriever"]["documents"]) == 2


def test_langchain_in_batches_and_asynchronously(config: Path) -> None:
    retriever = LangChainRetriever(config=str(config))
    one_by_one = [retriever.invoke(text) for text in ("trivet", "kettle")]
    assert retriever.batch(["trivet", "kettle"]) == one_by_one
    assert asyncio.run(retriever.ainvoke("kettle")) == one_by_one[1]


def test_models_are_loaded_once_whatever_the_filters(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(config, [], "vector", reason=False)
    first = shop.open(["price<20"])
    assert shop.open(["price<20"]) is first
    assert shop.open(["price<30"]).embedder is first.embedder
    monkeypatch.setattr("lrem_os.integrations.shop._MAX_OPEN", 2)
    shop.open(["price<40"])
    assert shop.open(["price<20"]) is not first


def test_faults_are_our_errors() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        HaystackRetriever("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        LangChainRetriever(config="nowhere.yaml")
    with FakeOpenSearch() as fake:
        retriever = HaystackRetriever(overrides=[f"search.hosts=['{fake.url}']", "model.name='fake:8'"])
        with pytest.raises(IndexMissing, match="products"):
            retriever.warm_up()
        with pytest.raises((IndexMissing, ComponentError), match="products"):
            retriever.run("trivet")


def test_a_filter_that_cannot_be_read(config: Path) -> None:
    with pytest.raises(QueryError, match="colour"):
        LangChainRetriever(config=str(config)).invoke("trivet", filters=["colour=red"])
