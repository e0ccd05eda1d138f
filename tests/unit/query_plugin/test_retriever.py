from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from opensearchpy import exceptions

from lrem_os.config import CatalogSettings, IndexSettings, ReasoningSettings, SearchSettings
from lrem_os.errors import QueryError, SearchTimeout, SearchUnavailable, Unsupported
from lrem_os.query_plugin.retriever import DirectRetriever, build_retriever
from lrem_os.search.client import ServerInfo
from lrem_os.types import Query, Reasoned, Reasoning, Retriever, Vectors

PLUGINS = frozenset({"opensearch-knn", "opensearch-neural-search"})
INFO = ServerInfo((3, 6, 0), PLUGINS)


class Embedder:
    dimension = 2
    identity: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        raise AssertionError("a query is not an item")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.seen += texts
        rows = np.array([[len(text), 0.1] for text in texts], dtype=np.float32)
        return np.asfortranarray(rows)  # models may hand out any memory layout


class Cluster:
    """Stands in for the client: answers with as many hits as asked for, all with the same score, or with an error."""

    def __init__(self, *, num_hits: int = 60, fails: Exception | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.num_hits, self.fails = num_hits, fails

    def search(self, *, index: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert index == "products"
        if self.fails is not None:
            raise self.fails
        self.bodies.append(dict(body))
        # the server's own order within a tie: the highest id first
        names = [f"d{number:02d}" for number in reversed(range(self.num_hits))]
        found = names[body.get("from", 0) :][: body["size"]]
        rows = [{"_id": name, "_score": 1.0} for name in found]
        return {"took": 1, "timed_out": False, "_shards": {"total": 2, "failed": 0}, "hits": {"hits": rows}}

    def msearch(self, *, index: str, body: bytes) -> dict[str, Any]:
        lines = [orjson.loads(line) for line in body.splitlines()]
        assert lines[::2] == [{}] * (len(lines) // 2)
        return {"responses": [self.search(index=index, body=line) for line in lines[1::2]]}


KEYWORDS = ("trivet", "pot stand")


class Thinker(Embedder):
    """Has something to say about queries that begin with "what": their vector is (-1, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.reasoned: list[str] = []

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        self.reasoned += queries
        return [(Reasoning(KEYWORDS if text.startswith("what") else ()), Reasoning()) for text in queries]

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        vectors = self.embed_queries(queries)
        vectors[[text.startswith("what") for text in queries]] = (-1, 0)
        return Reasoned(vectors, tuple(self.reason(queries)), reason_ms=5.0, embed_ms=2.0)


def reasoning_retriever(cluster: Any, mode: Any, **reasoning: Any) -> Any:
    thinker = Thinker()
    return build_retriever(
        cluster,
        INFO,
        None if mode == "bm25" else thinker,
        catalog=CatalogSettings(),
        index=IndexSettings(),
        search=SearchSettings(),
        mode=mode,
        reasoner=thinker,
        reasoning=ReasoningSettings(**reasoning),
    )


def retriever(cluster: Any, mode: Any = "hybrid", *filters: str, info: ServerInfo = INFO, **search: Any) -> Any:
    return build_retriever(
        cluster,
        info,
        None if mode == "bm25" else Embedder(),
        catalog=CatalogSettings(),
        index=IndexSettings(),
        search=SearchSettings(**({"fusion": "rrf", "weights": (0.5, 0.5)} | search)),
        mode=mode,
        filters=filters,
    )


def test_it_is_a_retriever() -> None:
    made: Retriever = retriever(Cluster())
    assert isinstance(made, DirectRetriever)


def test_a_tie_that_reaches_past_the_answer_is_asked_for_again() -> None:
    cluster = Cluster(num_hits=60)
    page = retriever(cluster).search("bag", top_k=10)
    assert [body["size"] for body in cluster.bodies] == [20, 10_000]
    assert [hit.doc_id for hit in page.hits] == [f"d{number:02d}" for number in range(10)]


def test_one_request_is_enough_when_all_came() -> None:
    cluster = Cluster(num_hits=15)
    page = retriever(cluster).search("bag", top_k=10)
    assert len(cluster.bodies) == 1
    assert [hit.doc_id for hit in page.hits] == [f"d{number:02d}" for number in range(10)]


def test_a_batch_keeps_the_order_and_embeds_what_is_not_blank() -> None:
    cluster = Cluster(num_hits=3)
    made = retriever(cluster, "vector")
    texts = [("" if number % 7 == 0 else "x" * number) for number in range(70)]
    rankings = made.retrieve([Query(str(number), text) for number, text in enumerate(texts)], top_k=5)
    assert len(rankings) == 70
    assert made.embedder.seen == [text for text in texts if text]
    for text, body in zip(texts, cluster.bodies, strict=True):
        if text:
            assert body["query"]["knn"]["lrem_vector"]["vector"] == [len(text), 0.1]  # 0.1, not 0.10000000149011612
        else:
            assert body["query"] == {"match_all": {}}


def test_bm25_never_touches_a_model() -> None:
    cluster = Cluster(num_hits=3)
    made = retriever(cluster, "bm25", "brand=Sony")
    assert made.embedder is None
    made.search("bag", explain=True)
    made.retrieve([Query("q", "bag")], top_k=5)
    assert all("knn" not in str(body) and "Sony" in str(body) for body in cluster.bodies)


def test_the_printed_body_is_the_body_sent() -> None:
    cluster = Cluster(num_hits=3)
    made = retriever(cluster, "hybrid", "price<5")
    made.search("bag", top_k=4, start=8)
    assert made.body("bag", top_k=4, start=8) == cluster.bodies[0]


def test_explain_asks_the_legs_for_all_that_was_fused() -> None:
    cluster = Cluster(num_hits=3)
    page = retriever(cluster, candidates=50).search("bag", explain=True)
    assert [body["size"] for body in cluster.bodies] == [20, 100, 100]  # 50 of each shard
    assert {leg: at.rank for leg, at in page.hits[0].legs.items()} == {"bm25": 3, "vector": 3}  # d00 came last
    assert not retriever(cluster).search(" ", explain=True).hits[0].legs


def test_what_cannot_work_is_refused_before_the_first_query() -> None:
    with pytest.raises(Unsupported, match="opensearch-neural-search"):
        retriever(Cluster(), info=ServerInfo((3, 6, 0), frozenset({"opensearch-knn"})))
    with pytest.raises(Unsupported, match="opensearch-knn"):
        retriever(Cluster(), "vector", info=ServerInfo((3, 6, 0), frozenset()))
    with pytest.raises(Unsupported, match="cannot weight RRF"):
        retriever(Cluster(), info=ServerInfo((2, 19, 1), PLUGINS), weights=(0.9, 0.1))
    with pytest.raises(QueryError, match="brnd"):
        retriever(Cluster(), "bm25", "brnd=Sony")
    nothing: Any = Cluster()
    with pytest.raises(QueryError, match="needs an embedding model"):
        build_retriever(nothing, INFO, None, catalog=CatalogSettings(), index=IndexSettings(), search=SearchSettings())
    retriever(Cluster(), info=ServerInfo((3, 6, 0), None))  # a user who may not list plugins is not refused


def test_the_clients_errors_become_ours() -> None:
    with pytest.raises(SearchTimeout):
        retriever(Cluster(fails=exceptions.ConnectionTimeout("TIMEOUT", "slow", None))).search("bag")
    with pytest.raises(SearchUnavailable):
        retriever(Cluster(fails=exceptions.TransportError(503, "down", {}))).retrieve([Query("q", "bag")], top_k=1)


def test_a_reasoned_query_has_its_own_vector_keywords_and_weights() -> None:
    cluster = Cluster(num_hits=3)
    made = reasoning_retriever(cluster, "hybrid", weights=(0.4, 0.6), text_boost=0.5)
    page = made.search("what goes under a pot", explain=True)
    text, vector = cluster.bodies[0]["query"]["hybrid"]["queries"]
    assert text["bool"]["should"][0]["multi_match"]["query"] == "what goes under a pot"
    assert text["bool"]["should"][1]["multi_match"]["query"] == "trivet, pot stand"
    assert text["bool"]["should"][1]["multi_match"]["boost"] == 0.5
    assert vector["knn"]["lrem_vector"]["vector"] == [-1.0, 0.0]
    assert "[0.4,0.6]" in str(cluster.bodies[0]["search_pipeline"]).replace(" ", "")
    assert cluster.bodies[1]["query"] == text  # the explained leg is the leg that was fused
    assert [sample.keywords for sample in page.reasoning] == [KEYWORDS, ()]
    assert (page.reason_ms, page.embed_ms) == (5.0, 2.0)
    assert made.body("what goes under a pot") == cluster.bodies[0]


@pytest.mark.parametrize("mode", ["bm25", "vector", "hybrid"])
def test_nothing_to_add_is_asked_exactly_as_without_a_reasoner(mode: Any) -> None:
    direct, reasoned = Cluster(num_hits=3), Cluster(num_hits=3)
    retriever(direct, mode, fusion="minmax", weights=(0.7, 0.3)).search("skillet")
    page = reasoning_retriever(reasoned, mode).search("skillet")
    assert reasoned.bodies == direct.bodies
    assert [sample.keywords for sample in page.reasoning] == [(), ()]


def test_a_batch_mixes_reasoned_direct_and_blank_queries() -> None:
    cluster = Cluster(num_hits=3)
    made = reasoning_retriever(cluster, "vector")
    texts = ["skillet", "", "what now", "what else"]
    rankings = made.retrieve([Query(str(number), text) for number, text in enumerate(texts)], top_k=5)
    assert made.reasoner.reasoned == ["skillet", "what now", "what else"]
    assert [[sample.keywords for sample in one.reasoning] for one in rankings] == [
        [(), ()],
        [],
        [KEYWORDS, ()],
        [KEYWORDS, ()],
    ]
    vectors = [body["query"].get("knn", {}).get("lrem_vector", {}).get("vector") for body in cluster.bodies]
    assert vectors == [[7.0, 0.1], None, [-1.0, 0.0], [-1.0, 0.0]]


def test_keywords_alone_need_no_embedder() -> None:
    cluster = Cluster(num_hits=3)
    made = reasoning_retriever(cluster, "bm25")
    page = made.search("what goes under a pot", explain=True)
    assert made.reasoner.seen == []
    assert "trivet" in str(cluster.bodies[0])
    assert page.reason_ms > 0
    assert page.hits[0].legs["bm25"].rank == 1


def test_a_reasoner_that_cannot_embed_is_refused_where_vectors_are_needed() -> None:
    from lrem_os.model.fake import FakeReasoner

    nothing: Any = Cluster()
    with pytest.raises(QueryError, match="this reasoner cannot embed"):
        build_retriever(
            nothing,
            INFO,
            Embedder(),
            catalog=CatalogSettings(),
            index=IndexSettings(),
            search=SearchSettings(),
            reasoner=FakeReasoner(),
        )


def test_weights_of_reasoned_queries_are_checked_beforehand() -> None:
    nothing: Any = Cluster()
    thinker = Thinker()
    with pytest.raises(Unsupported, match=r"reasoning\.weights is \[0\.3, 0\.7\]"):
        build_retriever(
            nothing,
            ServerInfo((2, 19, 1), PLUGINS),
            thinker,
            catalog=CatalogSettings(),
            index=IndexSettings(),
            search=SearchSettings(fusion="rrf", weights=(0.5, 0.5)),
            reasoner=thinker,
        )
