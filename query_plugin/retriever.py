"""Answers queries with OpenSearch alone: embed, ask, order. What is served is what is evaluated.

``build_retriever`` checks what can be checked before the first query; ``DirectRetriever`` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from opensearchpy import OpenSearch

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.errors import QueryError, Unsupported
from lrem_os.search.client import ServerInfo, translate_errors
from lrem_os.search.filters import build_filter
from lrem_os.search.hits import may_tie_beyond, page_of, parse_response, with_legs
from lrem_os.search.requests import (
    SearchSetup,
    build_body,
    build_leg_bodies,
    clean_text,
    fusion_pipeline,
    is_blank,
    widen,
)
from lrem_os.types import Embedder, Mode, Query, Ranking

_BATCH = 32  # queries in one _msearch: well under a second of work, so a time-out means trouble

_PLUGINS: Mapping[Mode, tuple[str, ...]] = {
    "bm25": (),
    "vector": ("opensearch-knn",),
    "hybrid": ("opensearch-knn", "opensearch-neural-search"),
}


def build_retriever(
    client: OpenSearch,
    info: ServerInfo,
    embedder: Embedder | None,
    *,
    catalog: CatalogSettings,
    index: IndexSettings,
    search: SearchSettings,
    mode: Mode | None = None,
    filters: Sequence[str] = (),
    with_source: bool = True,
) -> DirectRetriever:
    """Return what answers queries on one index in one mode.

    Args:
        client: Connection to the cluster.
        info: Its version and plugins.
        embedder: Embeds the queries; not needed, and never called, in mode ``bm25``.
        catalog: Names and weights of the fields.
        index: Name of the index and of its vector field.
        search: Default mode, candidates, fusion.
        mode: In place of ``search.mode``.
        filters: Expressions that every hit must match, see ``lrem_os.search.filters``.
        with_source: Whether hits bring their stored fields; an evaluation does without.

    Raises:
        QueryError: A filter cannot be read, or the mode needs an embedder and there is none.
        Unsupported: The server lacks a plugin, or is too old for the fusion that is configured.
    """
    mode = mode or search.mode
    setup = SearchSetup(catalog, index, search, info.version, build_filter(filters, catalog), with_source)
    if mode != "bm25" and embedder is None:
        raise QueryError(f"mode {mode!r} needs an embedding model, and none was given", hint="use mode bm25")
    missing = [name for name in _PLUGINS[mode] if info.plugins is not None and name not in info.plugins]
    if missing:
        raise Unsupported(
            f"mode {mode!r} needs the plugin {' and '.join(missing)}, which the cluster lacks",
            hint="install it, use mode bm25, or start a local node with `lrem-os node up`",
        )
    if mode == "hybrid":
        fusion_pipeline(search, info.version)  # a server that cannot do it is told apart before the first query
    return DirectRetriever(client, index.name, setup, mode, embedder)


@dataclass(frozen=True, slots=True)
class DirectRetriever:
    """A ``Retriever`` that sends every query the same way.

    The order is total: by score descending, equal scores by id ascending, over all pages.

    Args:
        client: Connection to the cluster.
        index: Index or alias.
        setup: Fields, fusion, filter.
        mode: Which legs.
        embedder: ``None`` only in mode ``bm25``.
    """

    client: OpenSearch
    index: str
    setup: SearchSetup
    mode: Mode
    embedder: Embedder | None = None

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        """Return one ranking a query, in the order given, each at most ``top_k`` long.

        Raises:
            SearchError: OpenSearch failed on one of them.
            QueryError: ``top_k`` is deeper than the mode ranks.
        """
        rankings: list[Ranking] = []
        for first in range(0, len(queries), _BATCH):
            bodies = self._bodies([query.text for query in queries[first : first + _BATCH]], top_k, 0)
            answers = zip(bodies, self._msearch(bodies), strict=True)
            rankings += [self._page(body, answer, top_k, 0) for body, answer in answers]
        return rankings

    def search(self, text: str, *, top_k: int = 10, start: int = 0, explain: bool = False) -> Ranking:
        """Return one page for one query.

        Args:
            text: What the shopper typed.
            top_k: Hits on the page.
            start: Hits to skip.
            explain: Also ask each leg by itself, and put its rank and score on the hits. On several shards, ranks
                deeper than ``search.candidates`` may be a few places off: fusion sees so many of each shard.

        Raises:
            SearchError: OpenSearch failed.
            QueryError: The page lies beyond what the mode ranks.
        """
        [vector] = self._vectors([text])
        body = build_body(self.setup, self.mode, text, vector, top_k=top_k, start=start)
        answer = self._search(body)
        ranking = self._page(body, answer, top_k, start)
        if not explain or is_blank(text):
            return ranking
        if vector is None or self.mode != "hybrid":  # one leg: its ranks and scores are the final ones
            return with_legs(ranking, {self.mode: ranking}, first_rank=start + 1)
        leg_bodies = build_leg_bodies(self.setup, text, vector, num_shards=answer["_shards"]["total"])
        found = [parse_response(leg, keep_order=True) for leg in self._msearch(leg_bodies.values())]
        return with_legs(ranking, dict(zip(leg_bodies, found, strict=True)))

    def body(self, text: str, *, top_k: int = 10, start: int = 0) -> dict[str, Any]:
        """Return the body that ``search`` sends, as it is sent.

        Raises:
            QueryError: The page lies beyond what the mode ranks.
        """
        return self._bodies([text], top_k, start)[0]

    def _bodies(self, texts: Sequence[str], top_k: int, start: int) -> list[dict[str, Any]]:
        return [
            build_body(self.setup, self.mode, text, vector, top_k=top_k, start=start)
            for text, vector in zip(texts, self._vectors(texts), strict=True)
        ]

    def _vectors(self, texts: Sequence[str]) -> list[list[float] | None]:
        """Return the vector of each text; ``None`` where none is needed: mode ``bm25``, and blank texts."""
        wanted = [] if self.mode == "bm25" else [clean_text(text) for text in texts if not is_blank(text)]
        if not wanted or self.embedder is None:
            return [None] * len(texts)
        # through JSON: the shortest decimals that give the same float32, which is what a body should show and carry
        vectors = np.ascontiguousarray(self.embedder.embed_queries(wanted), dtype=np.float32)
        rows = iter(orjson.loads(orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)))
        return [None if is_blank(text) else next(rows) for text in texts]

    def _page(self, body: Mapping[str, Any], answer: Mapping[str, Any], top_k: int, start: int) -> Ranking:
        ranking = parse_response(answer)
        if "hybrid" not in body["query"]:
            return ranking
        if may_tie_beyond(ranking, requested=body["size"], end=start + top_k):
            ranking = parse_response(self._search(widen(body)))
        return page_of(ranking, top_k=top_k, start=start)

    def _search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with translate_errors():
            answer: dict[str, Any] = self.client.search(index=self.index, body=body)
        return answer

    def _msearch(self, bodies: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        payload = b"".join(b"{}\n" + orjson.dumps(body) + b"\n" for body in bodies)
        with translate_errors():
            answer = self.client.msearch(index=self.index, body=payload)
        responses: list[dict[str, Any]] = answer["responses"]
        return responses
