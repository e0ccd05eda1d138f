"""The request bodies on real nodes: what they find, in which order, and that nothing odd makes them fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest
from opensearchpy import OpenSearch

from lrem_os.config import SearchSettings, Settings
from lrem_os.errors import IndexMissing, QueryError, RequestRejected, SearchError
from lrem_os.query_plugin.retriever import DirectRetriever, build_retriever
from lrem_os.search.client import ServerInfo, connect, server_info
from lrem_os.search.fusion import fused_answer
from lrem_os.search.hits import parse_response
from lrem_os.search.mappings import build_index_body
from lrem_os.search.requests import build_fused_bodies, build_leg_bodies
from lrem_os.types import MODES, Engine, Mode, Query, Ranking, Vectors

NUM_DOCUMENTS = 60
DIMENSION = 8
CANDIDATES = 40
DEFAULTS = Settings()
ODD_TEXTS = [
    "red bag " * 1_250,  # 10,000 characters
    "日本語の鞄" * 2_000,
    "👜" * 10_000,
    "x" * 10_000,
    "👜",
    "حقيبة جلد حمراء",
    "\u202ered bag",
    "bag*",
    '"red',
    "AND (",
    "red AND (title:bag OR",
    "\\",
    "red\x00bag",
    "caf\udce9 bag",
    "!!!",
]


class StubEmbedder:
    """Gives a text the vector that its characters seed: the same text, the same vector."""

    dimension = DIMENSION
    identity: Mapping[str, Any] = {"model": "stub"}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        rows = [np.random.default_rng(list(text.encode())).normal(size=DIMENSION) for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), DIMENSION)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    embed_queries = embed_items


def documents() -> list[dict[str, Any]]:
    """Return the catalog in an order unlike that of the ids; titles repeat, so text scores tie."""
    rows = []
    for number in sorted(range(NUM_DOCUMENTS), key=lambda number: (number * 37) % NUM_DOCUMENTS):
        is_bag = number % 3 != 0
        rows.append(
            {
                "id": f"p{number:02d}",
                "title": "red leather bag" if is_bag else "blue shoe",
                "brand": ("Sony", "Bose", "AC|DC")[number % 3],
                "price": number * 1.5,
                "attributes": {"colour": "red" if is_bag else "blue", "size": float(number % 5), "new": number < 6},
                "attributes_text": "colour red" if is_bag else "colour blue",
                "lrem_hash": "0",
            }
        )
    return rows


PLACES: list[tuple[Engine, int]] = [("opensearch", 1), ("opensearch", 3), ("elasticsearch", 3)]
REAL: list[Any] = [
    pytest.param((engine, shards), marks=getattr(pytest.mark, engine), id=f"{engine}-{shards}")
    for engine, shards in PLACES
]


@pytest.fixture(scope="module", params=REAL)
def place(request: pytest.FixtureRequest) -> tuple[Engine, int]:
    """A kind of server, and a number of shards."""
    found: tuple[Engine, int] = request.param
    return found


@pytest.fixture(scope="module")
def engine(place: tuple[Engine, int]) -> Engine:
    return place[0]


@pytest.fixture(scope="module")
def client(engine: Engine, request: pytest.FixtureRequest) -> OpenSearch:
    return connect(SearchSettings(hosts=(request.getfixturevalue(f"{engine}_url"),), engine=engine))


@pytest.fixture(scope="module")
def info(client: OpenSearch) -> ServerInfo:
    return server_info(client)


@pytest.fixture(scope="module")
def index(client: OpenSearch, place: tuple[Engine, int]) -> Iterator[str]:
    engine, shards = place
    name = f"test-search-bodies-{uuid4().hex[:8]}"  # the node may be shared with another run
    settings = DEFAULTS.index.model_copy(update={"shards": shards})
    body = build_index_body(DEFAULTS.catalog, settings, DIMENSION, {}, engine=engine)
    client.indices.create(index=name, body=body)
    rows = documents()
    vectors = StubEmbedder().embed_items([row["id"] for row in rows])
    lines = []
    for row, vector in zip(rows, vectors, strict=True):
        lines += [{"index": {"_id": row["id"]}}, row | {"lrem_vector": vector.tolist()}]
    answer = client.bulk(index=name, body=b"\n".join(map(orjson.dumps, lines)) + b"\n", refresh=True)
    assert not answer["errors"]
    yield name
    client.indices.delete(index=name)


@pytest.fixture
def ask(client: OpenSearch, index: str, info: ServerInfo, engine: Engine) -> Any:
    def make(mode: Mode = "hybrid", *filters: str, version: Any = None, **search: Any) -> DirectRetriever:
        return build_retriever(
            client,
            ServerInfo(version or info.version, info.plugins, engine),
            None if mode == "bm25" else StubEmbedder(),
            catalog=DEFAULTS.catalog,
            index=DEFAULTS.index.model_copy(update={"name": index}),
            search=SearchSettings(
                **({"engine": engine, "candidates": CANDIDATES, "fusion": "rrf", "weights": (0.5, 0.5)} | search)
            ),
            mode=mode,
            filters=filters,
        )

    return make


def ids(ranking: Ranking) -> list[str]:
    return [hit.doc_id for hit in ranking.hits]


def numbers(ranking: Ranking) -> set[int]:
    return {int(hit.doc_id[1:]) for hit in ranking.hits}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["", " \t\u3000", "\u200b"])
def test_a_blank_query_lists_all_by_id(ask: Any, mode: Mode, text: str) -> None:
    ranking = ask(mode).search(text, top_k=60)
    assert ids(ranking) == [f"p{number:02d}" for number in range(NUM_DOCUMENTS)]
    assert ids(ask(mode).search(text, top_k=3, start=10)) == ["p10", "p11", "p12"]


@pytest.mark.parametrize("mode", MODES)
def test_filters_alone_list_what_they_allow_by_id(ask: Any, mode: Mode) -> None:
    ranking = ask(mode, "brand=AC\\|DC", "price<20").search("")
    assert ids(ranking) == ["p02", "p05", "p08", "p11"]
    assert ranking.total == 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:12]))
def test_odd_texts_are_plain_text(ask: Any, mode: Mode, text: str) -> None:
    ranking = ask(mode).search(text, top_k=10, explain=True)
    assert len(ranking.hits) <= 10
    if mode != "bm25":
        assert len(ranking.hits) == 10  # the vector leg always finds its nearest
    [batched] = ask(mode).retrieve([Query("q", text)], top_k=10)
    assert ids(batched) == ids(ranking)


def test_a_wildcard_matches_nothing_and_a_quote_is_dropped(ask: Any) -> None:
    assert ids(ask("bm25").search("lea*")) == []
    assert ask("bm25").search('"red').total == 40
    assert ids(ask("bm25").search("!!!")) == []
    assert ask("bm25").search("red leather bag " * 600).total == 40


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("brand=Sony", lambda n: n % 3 == 0),
        ("brand!=Sony", lambda n: n % 3 != 0),
        ("brand=Sony|Bose", lambda n: n % 3 != 2),
        ("price<15", lambda n: n < 10),
        ("price<=15", lambda n: n <= 10),
        ("price=3|4.5", lambda n: n in (2, 3)),
        ("attributes.colour=blue", lambda n: n % 3 == 0),
        ("attributes.size=2", lambda n: n % 5 == 2),
        ("attributes.new=true", lambda n: n < 6),
        ("attributes.size!=2|3.0", lambda n: n % 5 not in (2, 3)),
        ("id=p07|p08", lambda n: n in (7, 8)),
        ("id!=p07", lambda n: n != 7),
    ],
)
@pytest.mark.parametrize("text", ["", "red bag"])
def test_filters_mean_what_they_say(ask: Any, expression: str, expected: Any, text: str) -> None:
    allowed = set(filter(expected, range(NUM_DOCUMENTS)))
    if text:  # the vector leg hands over everything allowed, up to its depth
        found = numbers(ask("hybrid", expression).search(text, top_k=40))
        assert found <= allowed
        assert len(found) == min(40, len(allowed))
    else:
        assert numbers(ask("bm25", expression).search(text, top_k=60)) == allowed


FUSIONS: list[dict[str, Any]] = [
    {"fusion": "rrf"},
    {"fusion": "minmax"},
    {"fusion": "minmax", "weights": (1.0, 0.0)},  # text scores alone: all bags tie, over many pages
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_pages_add_up_to_the_whole(ask: Any, mode: Mode, fusion: dict[str, Any]) -> None:
    for text in ("red leather bag", "blue shoe", "colour"):
        retriever = ask(mode, **fusion)
        whole = ids(retriever.search(text, top_k=40))
        assert ids(retriever.search(text, top_k=20)) == whole[:20]
        pages = [ids(retriever.search(text, top_k=5, start=start)) for start in range(0, 40, 5)]
        assert [doc_id for page in pages for doc_id in page] == whole


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_equal_scores_are_ordered_by_id(ask: Any, mode: Mode, fusion: dict[str, Any]) -> None:
    ranking = ask(mode, **fusion).search("red leather bag", top_k=40)
    keys = [(-hit.score, hit.doc_id) for hit in ranking.hits]
    assert keys == sorted(keys)
    if mode == "bm25" or ("weights" in fusion and mode == "hybrid"):
        assert len({hit.score for hit in ranking.hits}) < len(ranking.hits)  # else this showed nothing


def test_a_filtered_knn_still_finds_k(ask: Any) -> None:
    ranking = ask("vector", "brand=Sony").search("anything", top_k=20)
    assert len(ranking.hits) == 20  # all there are: a filter beside the clause would leave about 13 of k = 40


@pytest.mark.parametrize("fusion", ["rrf", "minmax"])
def test_both_ways_to_filter_a_hybrid_query_agree(ask: Any, fusion: str, engine: Engine) -> None:
    if engine == "elasticsearch":  # it has one: inside both legs
        legs = ask("hybrid", "brand=Bose", fusion=fusion).body("red bag")
        assert legs["bm25"]["query"]["bool"]["filter"] == [legs["vector"]["query"]["knn"]["filter"]]
        return
    now = ask("hybrid", "brand=Bose|AC\\|DC", "price<60", fusion=fusion).search("red bag", top_k=40)
    before_3_0 = ask("hybrid", "brand=Bose|AC\\|DC", "price<60", fusion=fusion, version=(2, 19, 0)).search(
        "red bag", top_k=40
    )
    assert [(hit.doc_id, hit.score) for hit in now.hits] == [(hit.doc_id, hit.score) for hit in before_3_0.hits]
    assert numbers(now) == {number for number in range(40) if number % 3 != 0}


def test_vectors_and_internal_fields_stay_in_the_index(ask: Any) -> None:
    for mode in MODES:
        source = ask(mode).search("red bag", top_k=1).hits[0].source
        assert set(source) == {"id", "title", "brand", "price", "attributes"}


def test_a_page_past_the_last_hit_is_empty(ask: Any) -> None:
    assert ask("bm25").search("blue shoe", top_k=10, start=100).hits == ()
    narrow = ask("hybrid", "id=p01|p02")
    assert ids(narrow.search("red bag", top_k=10, start=20)) == []
    with pytest.raises(QueryError, match=r"search\.candidates"):
        ask("hybrid").search("red bag", top_k=10, start=40)


def test_a_hybrid_answer_without_fusion_is_an_error(ask: Any, client: OpenSearch, index: str, engine: Engine) -> None:
    if engine == "elasticsearch":  # it is asked for no hybrid answer
        assert ask("hybrid").body("red bag").keys() == {"bm25", "vector"}
        return
    body = ask("hybrid").body("red bag")
    del body["search_pipeline"]
    with pytest.raises(SearchError, match="without fusion"):
        parse_response(client.search(index=index, body=body))


def test_the_printed_body_gives_the_printed_answer(ask: Any, client: OpenSearch, index: str) -> None:
    for mode in MODES:
        body = orjson.loads(orjson.dumps(ask(mode).body("red bag", top_k=5)))
        if "query" not in body:
            answers = {leg: client.search(index=index, body=one) for leg, one in body.items()}
            answer, _ = fused_answer(answers, ask(mode).setup.search)
        else:
            answer = parse_response(client.search(index=index, body=body))
        assert ids(answer)[:5] == ids(ask(mode).search("red bag", top_k=5))


def test_a_batch_answers_like_single_searches(ask: Any) -> None:
    texts = ["red bag", "", "blue shoe", "!!!"] * 20  # more than one _msearch holds
    for mode in MODES:
        rankings = ask(mode).retrieve([Query(str(idx), text) for idx, text in enumerate(texts)], top_k=7)
        assert [ids(ranking) for ranking in rankings] == [ids(ask(mode).search(text, top_k=7)) for text in texts]


def rrf_score(legs: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    return sum(weights[leg] / (60 + place.rank) for leg, place in legs.items())


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7)])
def test_explained_rrf_scores_follow_from_the_legs(ask: Any, weights: tuple[float, float]) -> None:
    by_leg = dict(zip(("bm25", "vector"), (1.0, 1.0) if weights == (0.5, 0.5) else weights, strict=True))
    ranking = ask("hybrid", weights=weights).search("red bag", top_k=40, explain=True)
    assert [hit.score for hit in ranking.hits] == pytest.approx([rrf_score(hit.legs, by_leg) for hit in ranking.hits])
    assert 2 in {len(hit.legs) for hit in ranking.hits}


def test_explained_minmax_scores_follow_from_the_legs(ask: Any, client: OpenSearch, index: str, engine: Engine) -> None:
    num_shards = 3 if engine == "opensearch" else 1  # OpenSearch fuses what each shard hands over
    weights = {"bm25": 0.3, "vector": 0.7}
    retriever = ask("hybrid", fusion="minmax", weights=(0.3, 0.7))
    ranking = retriever.search("red shoe", top_k=40, explain=True)
    [vector] = StubEmbedder().embed_queries(["red shoe"]).tolist()
    scores = {
        leg: [hit.score for hit in parse_response(client.search(index=index, body=body)).hits]
        for leg, body in build_leg_bodies(retriever.setup, "red shoe", vector, num_shards=num_shards).items()
    }

    def normalised(leg: str, score: float) -> float:
        low, high = min(scores[leg]), max(scores[leg])
        return 0.001 if score == low else (score - low) / (high - low)  # 0.001: the server's floor, so 0 is "not found"

    expected = [sum(weights[leg] * normalised(leg, at.score) for leg, at in hit.legs.items()) for hit in ranking.hits]
    assert [hit.score for hit in ranking.hits] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_fused_here_is_fused_there(
    ask: Any, client: OpenSearch, index: str, engine: Engine, fusion: dict[str, Any]
) -> None:
    """OpenSearch's own answer, against what is made here of its legs; all documents are candidates."""
    if engine == "elasticsearch":  # it has no answer of its own: here its parts must be those of the whole
        ranking = ask("hybrid", candidates=60, **fusion).search("red shoe", top_k=60, explain=True)
        assert {leg for hit in ranking.hits for leg in hit.legs} == {"bm25", "vector"}
        assert ranking.total == NUM_DOCUMENTS
        return
    retriever = ask("hybrid", candidates=60, **fusion)
    there = retriever.search("red shoe", top_k=60)
    [vector] = StubEmbedder().embed_queries(["red shoe"]).tolist()
    bodies = build_fused_bodies(retriever.setup, "red shoe", vector, top_k=60)
    here, _ = fused_answer(
        {leg: client.search(index=index, body=body) for leg, body in bodies.items()}, retriever.setup.search
    )
    if fusion["fusion"] == "minmax":  # RRF ranks equal text scores in an order of the server's own
        assert {hit.doc_id: hit.score for hit in here.hits} == pytest.approx(
            {hit.doc_id: hit.score for hit in there.hits}, abs=1e-6
        )
    assert sum(hit.score for hit in here.hits) == pytest.approx(sum(hit.score for hit in there.hits), rel=1e-5)
    assert here.total == there.total == NUM_DOCUMENTS


@pytest.mark.parametrize("mode", ["bm25", "vector"])
def test_one_leg_explains_itself(ask: Any, mode: Mode) -> None:
    ranking = ask(mode).search("red bag", top_k=3, start=4, explain=True)
    assert [hit.legs[mode].rank for hit in ranking.hits] == [5, 6, 7]
    assert [hit.legs[mode].score for hit in ranking.hits] == [hit.score for hit in ranking.hits]


def test_errors_are_ours(client: OpenSearch, info: ServerInfo, index: str) -> None:
    def retriever(name: str, embedder: Any) -> DirectRetriever:
        settings = DEFAULTS.index.model_copy(update={"name": name})
        return build_retriever(
            client, info, embedder, catalog=DEFAULTS.catalog, index=settings, search=SearchSettings(engine=info.engine)
        )

    class Wide(StubEmbedder):
        def embed_queries(self, texts: Sequence[str]) -> Vectors:
            return np.ones((len(texts), DIMENSION + 1), dtype=np.float32)

    with pytest.raises(IndexMissing):
        retriever("test-no-such-index", StubEmbedder()).search("red bag")
    with pytest.raises(IndexMissing):
        retriever("test-no-such-index", StubEmbedder()).retrieve([Query("q", "red bag")], top_k=5)
    with pytest.raises(RequestRejected, match="dimension"):
        retriever(index, Wide()).search("red bag")
