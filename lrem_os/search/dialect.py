"""What OpenSearch and Elasticsearch say differently: all of it stands here.

The client library, bulk, aliases, ``_meta``, filters and text queries are the same. Different are the vector field and
its query, objects, the fusion of two legs (OpenSearch does it itself; for Elasticsearch ``search/fusion.py`` does),
points in time, copies of an index, and how a server says what it is.

Sources: Elasticsearch 9.5 documentation, "Dense vector", "Knn query", "Flattened", "Open a point in time"; what is not
documented there was tried on 9.5.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from opensearchpy import OpenSearch

from lrem_os.config import IndexSettings
from lrem_os.errors import ConfigError, Unsupported
from lrem_os.types import Engine, Mode

Version = tuple[int, int, int]

MAX_KEYWORD_CHARS = 8191  # Lucene's term limit of 32,766 bytes, at up to 4 bytes a character
_MAX_CANDIDATES = 10_000  # Elasticsearch's limit
_SHARD_DOC_SINCE = (3, 3, 0)  # OpenSearch: sorting a point in time by _shard_doc; before, _id breaks ties


class Dialect(Protocol):
    """How one of the two is spoken to."""

    name: str
    """For messages."""
    oldest: Version
    """The first version that can do what is needed."""
    fuses: bool
    """Whether the server fuses the legs of a hybrid query."""
    object_field: Mapping[str, Any]
    """Mapping of a field that holds an object, filtered by path."""
    index_settings: Mapping[str, Any]
    """Of an index with vectors."""
    plugins: Mapping[Mode, tuple[str, ...]]
    """That a mode needs."""
    bm25_scale: float
    """What makes a BM25 score one of OpenSearch 3: the gate of the router was trained on those."""

    def vector_field(self, index: IndexSettings, dimension: int) -> dict[str, Any]:
        """Return the mapping of the vector field: unit vectors, scored ``1 + ip`` (below 0: ``1 / (1 - ip)``)."""
        ...

    def knn(self, field: str, vector: Sequence[float], *, k: int, filters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the query for the ``k`` nearest that pass the filter."""
        ...

    def token_header(self, token: str) -> str:
        """Return the ``Authorization`` of a token."""
        ...

    def tie_breaker(self, version: Version, /) -> str:
        """Return what a point in time is sorted by after all else."""
        ...

    def open_view(self, client: OpenSearch, index: str, keep_alive: str) -> str:
        """Open a point in time; return its id. Raises opensearch-py's errors."""
        ...

    def close_view(self, client: OpenSearch, view: str) -> None:
        """Close a point in time. Raises opensearch-py's errors."""
        ...


class _OpenSearch:
    """OpenSearch 3.x, and 2.19."""

    name = "OpenSearch"
    oldest: Version = (2, 19, 0)  # first with RRF (score-ranker-processor) and pagination_depth
    fuses = True
    object_field: Mapping[str, Any] = {"type": "flat_object"}
    index_settings: Mapping[str, Any] = {"knn": True}
    plugins: Mapping[Mode, tuple[str, ...]] = {
        "bm25": (),
        "vector": ("opensearch-knn",),
        "hybrid": ("opensearch-knn", "opensearch-neural-search"),
    }
    bm25_scale = 1.0

    def vector_field(self, index: IndexSettings, dimension: int) -> dict[str, Any]:
        # innerproduct on unit vectors is the cosine without dividing by norms; OpenSearch scores it 1 + ip for ip > 0
        field: dict[str, Any] = {"type": "knn_vector", "dimension": dimension, "space_type": "innerproduct"}
        if index.on_disk:
            return field | {"mode": "on_disk"}  # picks faiss, 32x compression and rescoring by itself
        # the engine is always named: the server's default (faiss) kills a node without native libraries
        parameters = {"m": index.m, "ef_construction": index.ef_construction}
        return field | {"method": {"name": "hnsw", "engine": index.engine, "parameters": parameters}}

    def knn(self, field: str, vector: Sequence[float], *, k: int, filters: Mapping[str, Any] | None) -> dict[str, Any]:
        clause: dict[str, Any] = {"vector": list(vector), "k": k}
        return {"knn": {field: clause if filters is None else {**clause, "filter": filters}}}

    def token_header(self, token: str) -> str:
        return f"Bearer {token}"

    def tie_breaker(self, version: Version, /) -> str:
        return "_shard_doc" if version >= _SHARD_DOC_SINCE else "_id"

    def open_view(self, client: OpenSearch, index: str, keep_alive: str) -> str:
        return str(client.create_pit(index=index, params={"keep_alive": keep_alive})["pit_id"])

    def close_view(self, client: OpenSearch, view: str) -> None:
        client.delete_pit(body={"pit_id": [view]})


class _Elasticsearch:
    """Elasticsearch 9.x."""

    name = "Elasticsearch"
    oldest: Version = (9, 0, 0)
    fuses = False  # its own retrievers rrf and linear are not in every licence and distribution
    object_field: Mapping[str, Any] = {"type": "flattened", "ignore_above": MAX_KEYWORD_CHARS}
    index_settings: Mapping[str, Any] = {}
    plugins: Mapping[Mode, tuple[str, ...]] = {"bm25": (), "vector": (), "hybrid": ()}
    bm25_scale = 1 / 2.2  # it still multiplies by k1 + 1, with k1 = 1.2

    def vector_field(self, index: IndexSettings, dimension: int) -> dict[str, Any]:
        if index.engine != "lucene":
            raise ConfigError(
                f"index.engine is {index.engine!r}, which is OpenSearch's; Elasticsearch has Lucene alone",
                hint="set index.engine to lucene and index.on_disk to false",
            )
        # max_inner_product scores as OpenSearch's innerproduct does; the type is named, because the default quantises
        options = {"type": "hnsw", "m": index.m, "ef_construction": index.ef_construction}
        return {
            "type": "dense_vector",
            "dims": dimension,
            "element_type": "float",
            "similarity": "max_inner_product",
            "index_options": options,
        }

    def knn(self, field: str, vector: Sequence[float], *, k: int, filters: Mapping[str, Any] | None) -> dict[str, Any]:
        # num_candidates is what a shard looks at. OpenSearch looks at k in each of its segments; here the search of
        # the graph ends early, and k alone found 93 of 100 (retail; 2k: all of them; docs/elasticsearch.md)
        seen = min(_MAX_CANDIDATES, 2 * k)
        clause: dict[str, Any] = {"field": field, "query_vector": list(vector), "k": k, "num_candidates": seen}
        return {"knn": clause if filters is None else {**clause, "filter": filters}}

    def token_header(self, token: str) -> str:
        return token if " " in token else f"ApiKey {token}"

    def tie_breaker(self, _version: Version, /) -> str:
        return "_shard_doc"

    def open_view(self, client: OpenSearch, index: str, keep_alive: str) -> str:
        path = f"/{quote(index, safe=',*')}/_pit"
        return str(client.transport.perform_request("POST", path, params={"keep_alive": keep_alive})["id"])

    def close_view(self, client: OpenSearch, view: str) -> None:
        client.transport.perform_request("DELETE", "/_pit", body={"id": view})


_DIALECTS: Mapping[Engine, Dialect] = {"opensearch": _OpenSearch(), "elasticsearch": _Elasticsearch()}


def dialect_of(engine: Engine) -> Dialect:
    """Return how this kind of server is spoken to."""
    return _DIALECTS[engine]


def only_opensearch(engine: Engine, what: str, *, why: str, hint: str) -> None:
    """Raise ``Unsupported`` where something is asked of Elasticsearch that it does not have.

    Args:
        engine: ``search.engine``.
        what: Subject of the sentence: a command or an option.
        why: What it rests on.
        hint: What to do instead.
    """
    if engine != "opensearch":
        raise Unsupported(f"{what} needs OpenSearch: {why}; search.engine is {engine}", hint=hint)


def spoken(engine: Engine, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping, or a template that holds one, written for OpenSearch, as this kind of server takes it."""
    if engine == "opensearch":
        return dict(mapping)
    return {key: _translated(value) for key, value in mapping.items()}


def _translated(value: Any) -> Any:
    if isinstance(value, list):
        return [_translated(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get("type") == "flat_object":
        return dict(_Elasticsearch.object_field)
    return {key: _translated(item) for key, item in value.items()}


def kind_of_server(answer: Mapping[str, Any]) -> Engine | None:
    """Return which of the two answered ``GET /``; ``None``: neither."""
    version = answer.get("version", {})
    if not isinstance(version, Mapping):
        return None
    if version.get("distribution") == "opensearch":
        return "opensearch"
    return "elasticsearch" if "build_flavor" in version and "distribution" not in version else None
