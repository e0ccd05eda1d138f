"""An index goes from one model to another while it is searched: no query meets vectors of another model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lrem_os import api
from lrem_os.cli import cli
from lrem_os.config import Settings
from lrem_os.errors import GateFailed, LremError, RequestRejected
from lrem_os.ingest.run import IngestOptions
from lrem_os.model.fake import FakeEmbedder
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.engine.several import Engines
from lrem_os.search import index as indices
from lrem_os.types import Embedder, Vectors
from tests.fakes.served import running
from tests.fakes.serving import Service

pytestmark = pytest.mark.opensearch

TITLES = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("bag", "shoe", "lamp", "mug")]
SAME = 2.0  # OpenSearch's score of a vector that is the query's own: 1 + cosine


class Turned(FakeEmbedder):
    """Another model of the same dimension: its vectors are meaningless to the first one's, and nothing tells."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {**super().identity, "model": f"turned:{self.dimension}"}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        return np.roll(super().embed_items(texts), 7, axis=1)


A, SAME_SIZE, OTHER_SIZE = FakeEmbedder(32), Turned(32), FakeEmbedder(48)


def fingerprint(embedder: Embedder) -> str:
    return indices.model_fingerprint(embedder.identity)


class Shops:
    """Catalogs of the same rows on the real node.

    Args:
        url: Of the node.
        name: What every index begins with.
        folder: For the catalog.
    """

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self.url, self.name = url, name
        self.catalog = folder / "catalog.jsonl"
        rows = [{"id": title.replace(" ", "-"), "title": title} for title in TITLES]
        self.catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.client = api.connect(self.settings())

    def settings(self, name: str = "", **serve: Any) -> Settings:
        return Settings.model_validate(
            {
                "search": {"hosts": [self.url], "mode": "vector"},
                "index": {"name": name or self.name},
                "catalog": {"embed": ["title"], "text": {"title": 1.0}},
                "serve": {"embed_deadline_ms": 60_000, **serve},
            }
        )

    def ingest(self, embedder: Embedder, name: str = "", **options: bool) -> str:
        report = api.ingest_catalog(
            self.settings(name), [str(self.catalog)], IngestOptions(**options), embedder=embedder
        )
        return report.index


@pytest.fixture
def shops(opensearch_url: str, index_name: str, tmp_path: Path) -> Iterator[Shops]:
    found = Shops(opensearch_url, index_name, tmp_path)
    yield found
    found.client.close()


def engines(settings: Settings, *embedders: Embedder) -> Engines[QueryEngine]:
    each = {fingerprint(embedder): QueryEngine(embedder, settings.serve) for embedder in embedders}
    return Engines(each, fingerprint(embedders[0]))


def neural(text: str, k: int = 3) -> dict[str, Any]:
    return {"query": {"neural": {"lrem_vector": {"query_text": text, "k": k}}}, "size": k}


def best(answer: Mapping[str, Any]) -> tuple[str, str, float]:
    hit = answer["hits"]["hits"][0]
    return hit["_index"], hit["_id"], hit["_score"]


def ask(client: httpx.Client, index: str, title: str, way: int) -> dict[str, Any]:
    """Ask for a title in one of the ways that there are."""
    if way == 0:
        answer = client.post(f"/{index}/_search", json=neural(title))
    elif way == 1:
        answer = client.get(f"/{index}/_search", params={"q": title, "size": 3})
    else:
        lines = [json.dumps({"index": index}), json.dumps(neural(title))]
        answer = client.post(
            "/_msearch", content="\n".join(lines) + "\n", headers={"content-type": "application/x-ndjson"}
        )
    found: dict[str, Any] = answer.raise_for_status().json()
    return found["responses"][0] if way == 2 else found


@pytest.mark.parametrize("other", [SAME_SIZE, OTHER_SIZE], ids=["same size", "other size"])
def test_the_alias_moves_under_load(shops: Shops, other: Embedder) -> None:
    first, second = shops.ingest(A), shops.ingest(other, recreate=True, no_publish=True)
    settings, over = shops.settings(), threading.Event()
    met: list[str] = []

    def shopper(number: int, client: httpx.Client) -> int:
        count = 0
        while not over.is_set():
            title = TITLES[(number + count) % len(TITLES)]
            index, doc_id, score = best(ask(client, shops.name, title, (number + count) % 3))
            # by another model's vector, or by the words, it would be another score
            assert (doc_id, score) == (title.replace(" ", "-"), pytest.approx(SAME, abs=1e-4)), (index, number, count)
            met.append(index)
            count += 1
        return count

    with (
        running(settings, engines(settings, A, other), shops.url) as url,
        httpx.Client(base_url=url, timeout=120) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        shoppers = [pool.submit(shopper, number, client) for number in range(4)]
        try:
            for target in (second, first, second):
                wait_for_more(met, shoppers)
                indices.publish(shops.client, shops.name, target)
                wait_for_more(met, shoppers)
        finally:
            over.set()
        assert sum(each.result() for each in shoppers) == len(met)
        again = client.get("/metrics").text
    changes = [index for index, before in zip(met[1:], met, strict=False) if index != before]
    assert set(met) == {first, second}
    assert len(changes) >= 3
    assert "lrem_asked_again_total" in again


@pytest.mark.parametrize("other", [SAME_SIZE, OTHER_SIZE], ids=["same size", "other size"])
def test_where_nobody_can_see_that_the_alias_moved_the_words_stand_in(shops: Shops, other: Embedder) -> None:
    """An answer without ``_index`` cannot be asked for again: what was sent must be right for whatever it meets."""
    shops.ingest(A)
    second = shops.ingest(other, recreate=True, no_publish=True)
    settings = shops.settings()
    with (
        running(settings, engines(settings, A, other), shops.url) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        best(ask(client, shops.name, TITLES[0], 0))  # the alias is known
        indices.publish(shops.client, shops.name, second)
        params = {"filter_path": "hits.hits._id,hits.hits._score,_shards.failed"}
        for title in TITLES:
            answer = client.post(f"/{shops.name}/_search", json=neural(title), params=params)
            found = answer.raise_for_status().json()
            assert found["_shards"]["failed"] == 0
            assert found["hits"]["hits"][0]["_id"] == title.replace(" ", "-"), (title, found)
        assert client.get("/metrics").text.count("lrem_asked_again_total 0.0") == 1


def wait_for_more(met: list[str], shoppers: Sequence[Any]) -> None:
    """Wait until a dozen more searches were answered; a shopper that failed ends it."""
    enough, pause = len(met) + 12, threading.Event()
    for _ in range(12_000):
        failed = [each for each in shoppers if each.done()]
        if failed:
            failed[0].result()
        if len(met) >= enough:
            return
        pause.wait(0.01)
    raise AssertionError("the searches stand still")


def test_two_indices_of_two_models_in_one_request(shops: Shops) -> None:
    one, two = f"{shops.name}-one", f"{shops.name}-two"
    shops.ingest(A, one)
    shops.ingest(OTHER_SIZE, two)
    settings = shops.settings(indices=[f"{shops.name}-*"])
    with (
        running(settings, engines(settings, A, OTHER_SIZE), shops.url) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        for expression in (f"{one},{two}", f"{shops.name}-*"):
            found = client.post(f"/{expression}/_search", json=neural("red bag", 1) | {"size": 2}).json()
            hits = found["hits"]["hits"]
            assert found["_shards"]["failed"] == 0
            assert {hit["_index"] for hit in hits} == {f"{one}-v1", f"{two}-v1"}
            assert [hit["_score"] for hit in hits] == [pytest.approx(SAME, abs=1e-4)] * 2
        lines = [line for name in (two, one) for line in (json.dumps({"index": name}), json.dumps(neural("blue mug")))]
        answer = client.post(
            "/_msearch", content="\n".join(lines) + "\n", headers={"content-type": "application/x-ndjson"}
        )
        assert [best(each) for each in answer.json()["responses"]] == [
            (f"{two}-v1", "blue-mug", pytest.approx(SAME, abs=1e-4)),
            (f"{one}-v1", "blue-mug", pytest.approx(SAME, abs=1e-4)),
        ]


def test_vectors_of_a_model_that_is_not_known_are_never_searched(shops: Shops) -> None:
    shops.ingest(A)
    settings = shops.settings()
    with (
        running(settings, engines(settings, A), shops.url) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        assert best(ask(client, shops.name, "red bag", 0))[2] == pytest.approx(SAME, abs=1e-4)
        stranger = shops.ingest(SAME_SIZE, recreate=True)
        found = ask(client, shops.name, "red bag", 0)
        index, doc_id, score = best(found)
        assert (index, doc_id) == (stranger, "red-bag")  # by its words
        assert score != pytest.approx(SAME, abs=1e-4)
        assert found["ext"]["lrem"]["degraded"] == ["model_unknown"]
        assert found["ext"]["lrem"]["route"] == "bm25"
        refused = client.post("/v1/embeddings", json={"input": "red bag", "input_type": "passage"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unknown_exception")


def test_embeddings_are_those_of_the_version_that_is_live(shops: Shops) -> None:
    shops.ingest(A)
    second = shops.ingest(OTHER_SIZE, recreate=True, no_publish=True)
    settings = shops.settings()
    with (
        running(settings, engines(settings, OTHER_SIZE, A), shops.url) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):

        def sizes() -> set[int]:
            kinds = ("query", "passage")
            answers = [client.post("/v1/embeddings", json={"input": "red bag", "input_type": kind}) for kind in kinds]
            return {len(answer.raise_for_status().json()["data"][0]["embedding"]) for answer in answers}

        assert sizes() == {A.dimension}
        indices.publish(shops.client, shops.name, second)
        best(ask(client, shops.name, "red bag", 0))  # hits of the other version: it is looked up again
        assert sizes() == {OTHER_SIZE.dimension}


# ---- lrem-os index switch


class Shell:
    """The command line with a configuration that knows two models, ``fake:48`` beside ``fake:32``."""

    def __init__(self, shops: Shops, folder: Path) -> None:
        self.shops, self.config = shops, folder / "shop.yaml"
        values = shops.settings().model_dump(mode="json", include={"search": {"hosts", "mode"}, "catalog": ...})
        values |= {
            "index": {"name": shops.name},
            "model": {"name": "fake:32"},
            "serve": {"models": {"next": {"model": {"name": "fake:48"}}}},
        }
        self.values = values
        self.config.write_text(json.dumps(values))
        self.queries, self.qrels = folder / "queries.jsonl", folder / "qrels.tsv"
        rows = [{"query_id": f"q{number}", "query": title} for number, title in enumerate(TITLES)]
        self.queries.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.qrels.write_text("".join(f"{row['query_id']}\t0\t{row['query'].replace(' ', '-')}\t1\n" for row in rows))

    def run(self, *args: str) -> Result:
        return CliRunner().invoke(cli, [*args, "-c", str(self.config)])

    def ingest(self, *args: str) -> dict[str, Any]:
        result = self.run("ingest", str(self.shops.catalog), "--json", *args)
        assert result.exit_code == 0, (result.output, result.exception)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def switch(self, *args: str) -> dict[str, Any]:
        result = self.run("index", "switch", "--json", *args)
        assert result.exit_code == 0, (result.output, result.exception)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def error(self, *args: str) -> LremError:
        result = self.run("index", "switch", *args)
        assert isinstance(result.exception, LremError), (result.output, result.exception)
        return result.exception

    @property
    def live(self) -> str:
        return indices.require_index(self.shops.client, self.shops.name).name


@pytest.fixture
def shell(shops: Shops, tmp_path: Path) -> Shell:
    return Shell(shops, tmp_path)


def test_to_the_next_model_and_back(shell: Shell) -> None:
    first = shell.ingest()["index"]
    assert "is live already" in str(shell.error())
    built = shell.ingest("--recreate", "--no-publish", "--set", "model.name=fake:48")
    second = built["index"]
    assert (built["published"], shell.live) == (False, first)

    looked = shell.switch("--dry-run", "--queries", str(shell.queries), "--qrels", str(shell.qrels))
    assert (looked["is_fit"], looked["switched"], shell.live) == (True, False, first)
    assert [finding["what"] for finding in looked["findings"]] == [
        *("complete", "model", "documents", "health"),
        "ndcg@10",
    ]
    assert "1.0000 before, 1.0000 after" in looked["findings"][-1]["message"]  # each asked with its own model

    assert shell.switch()["switched"]
    assert shell.live == second
    assert shell.switch("--back")["after"] == first
    assert shell.live == first
    assert shell.switch("--back")["after"] == second  # and on again
    assert shell.run("index", "drop", first).exit_code == 0
    assert "there is no version" in str(shell.error("--back"))


def test_what_is_not_fit_is_not_switched_to(shell: Shell) -> None:
    first = shell.ingest()["index"]
    whole = shell.shops.catalog.read_text()
    shell.shops.catalog.write_text("".join(whole.splitlines(keepends=True)[:6]))
    second = shell.ingest("--recreate", "--no-publish", "--set", "model.name=fake:48")["index"]
    error = shell.error()
    assert isinstance(error, GateFailed)
    assert f"6, and {len(TITLES)} in {first}" in str(error)

    # half the products are gone: the measures say so as well
    judged = ("--queries", str(shell.queries), "--qrels", str(shell.qrels), "--max-missing", "0.9")
    error = shell.error(*judged)
    assert "ndcg@10: 1.0000 before, 0.5000 after" in str(error)
    assert shell.live == first

    shell.shops.catalog.write_text(whole)
    indices.begin_load(shell.shops.client, second)  # as a load that was killed leaves it
    assert "is being loaded" in str(shell.error())
    indices.end_load(shell.shops.client, second)
    assert "has not ended" in str(shell.error("--max-missing", "0.9"))
    assert (
        shell.ingest("--recreate", "--no-publish", "--set", "model.name=fake:48")["index"] == second
    )  # taken up again
    assert shell.switch(*judged)["switched"]

    stranger = shell.ingest("--recreate", "--no-publish", "--set", "model.name=fake:16")["index"]
    assert "fake:16 is not configured; there are" in str(shell.error())
    assert shell.switch("--force")["after"] == stranger
    with pytest.raises(RequestRejected, match="no version"):
        raise shell.error("other-v1")


def test_options_that_need_each_other(shell: Shell) -> None:
    assert shell.run("index", "switch", "--queries", str(shell.queries)).exit_code == 2
    assert shell.run("ingest", str(shell.shops.catalog), "--no-publish").exit_code == 2


def test_a_service_that_knows_both_models_serves_both_versions(shell: Shell, tmp_path: Path) -> None:
    first = shell.ingest()["index"]
    second = shell.ingest("--recreate", "--no-publish", "--set", "model.name=fake:48")["index"]
    values = shell.values | {"serve": shell.values["serve"] | {"port": 0, "embed_deadline_ms": 60_000}}
    with Service(tmp_path, "both", values) as service:

        def found() -> tuple[str, str, float]:
            return best(ask(service.client, shell.shops.name, "red bag", 0))

        assert found() == (first, "red-bag", pytest.approx(SAME, abs=1e-4))
        shell.switch()
        assert found() == (second, "red-bag", pytest.approx(SAME, abs=1e-4))
        shell.switch("--back")
        assert found() == (first, "red-bag", pytest.approx(SAME, abs=1e-4))
        assert not [name for name in service.metrics() if name.startswith("degraded_total")]
    # and one that is started when the alias leads to the model beside the configured one
    shell.switch()
    with Service(tmp_path, "after", values) as service:
        assert best(ask(service.client, shell.shops.name, "red bag", 1)) == (
            second,
            "red-bag",
            pytest.approx(SAME, abs=1e-4),
        )
