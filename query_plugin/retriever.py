"""Answers queries with OpenSearch, or Elasticsearch, alone: reason where asked to, embed, ask, order.

What is served is what is evaluated.

A reasoned query has the reasoned vector, the keywords in its text leg, and ``reasoning.weights`` in fusion; one about
which the reasoner says nothing is asked exactly as without it. Models read a query as ``normalise_query`` has it, as in
the service; OpenSearch gets it as it was typed.

``build_retriever`` checks what can be checked before the first query; ``DirectRetriever`` does the rest. Who reads the
queries can be handed in: ``routed.py`` has readers that ask a router.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opensearchpy import OpenSearch

from lrem_os.config import CatalogSettings, IndexSettings, ReasoningSettings, SearchSettings
from lrem_os.errors import QueryError, Unsupported
from lrem_os.model.reasoning import combine_keywords
from lrem_os.search.bulk import find_rows
from lrem_os.search.client import ServerInfo, search_many, translate_errors
from lrem_os.search.dialect import dialect_of
from lrem_os.search.filters import build_filter
from lrem_os.search.fusion import fused_answer
from lrem_os.search.hits import may_tie_beyond, page_of, parse_response, with_legs
from lrem_os.search.requests import (
    SearchSetup,
    as_sent,
    build_body,
    build_fused_bodies,
    build_leg_bodies,
    fused_here,
    fusion_pipeline,
    hidden_fields,
    is_blank,
    widen,
)
from lrem_os.text import normalise_query
from lrem_os.types import Embedder, Mode, Query, Ranking, Reasoner, Reasoning, ReasoningEmbedder, Trace

_BATCH = 32  # queries in one _msearch: well under a second of work, so a time-out means trouble


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
    reasoner: Reasoner | None = None,
    reasoning: ReasoningSettings | None = None,
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
        reasoner: Reasons about every query; none: no reasoning. Where the mode needs vectors it embeds them too, so
            that it is a ``ReasoningEmbedder`` then.
        reasoning: How keywords enter the text leg and the fusion.

    Raises:
        QueryError: A filter cannot be read, the mode needs an embedder and there is none, or one that can reason.
        Unsupported: The server lacks a plugin, or is too old for the fusion that is configured.
    """
    mode = mode or search.mode
    reasoning = reasoning or ReasoningSettings()
    setup = SearchSetup(catalog, index, search, info.version, build_filter(filters, catalog), with_source)
    if mode != "bm25" and reasoner is not None and not isinstance(reasoner, ReasoningEmbedder):
        raise QueryError(f"mode {mode!r} needs vectors, and this reasoner cannot embed", hint="use mode bm25")
    if mode != "bm25" and embedder is None:
        raise QueryError(f"mode {mode!r} needs an embedding model, and none was given", hint="use mode bm25")
    dialect = dialect_of(search.engine)
    missing = [name for name in dialect.plugins[mode] if info.plugins is not None and name not in info.plugins]
    if missing:
        raise Unsupported(
            f"mode {mode!r} needs the plugin {' and '.join(missing)}, which the cluster lacks",
            hint="install it, use mode bm25, or start a local node with `lrem-os node up`",
        )
    fused = search.model_copy(update={"weights": reasoning.weights})
    if mode == "hybrid" and dialect.fuses:  # a server that cannot do it is told apart before the first query
        fusion_pipeline(search, info.version)
        if reasoner is not None:
            fusion_pipeline(fused, info.version, key="reasoning.weights")
    reasoned = replace(setup, search=fused, text_boost=reasoning.text_boost)
    return DirectRetriever(client, index.name, setup, mode, embedder, reasoner, reasoned)


@dataclass(frozen=True, slots=True)
class Read:
    """What was made of one query: its vector, its reasoning, and how it came by them.

    Args:
        text: As typed.
        vector: As sent to OpenSearch; none: by text alone.
        reasoning: The samples.
        reason_ms: Time of the reasoning, of the whole batch.
        embed_ms: Time of the reasoned embedding, of the whole batch.
        route: ``direct``, ``reasoned``, ``bm25``.
        own_reason_ms: Time of the reasoner on this query: a batch's, divided by its queries.
        own_ms: Time of models, probe and router on this query, likewise.
        num_tokens: Generated for it.
        score: Of the router.
    """

    text: str
    vector: Sequence[float] | None = None
    reasoning: tuple[Reasoning, ...] = ()
    reason_ms: float = 0.0
    embed_ms: float = 0.0
    route: str = "direct"
    own_reason_ms: float = 0.0
    own_ms: float = 0.0
    num_tokens: int = 0
    score: float = math.nan

    @property
    def keywords(self) -> tuple[str, ...]:
        """Of all samples, the most agreed first."""
        return tuple(combine_keywords(self.reasoning))


class Reader(Protocol):
    """Reads queries for a retriever."""

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Return what is made of each text, in the order given; texts are not blank. Raises ``ModelError``."""
        ...


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
        reasoner: ``None``: no query is reasoned about.
        reasoned: Like ``setup``, for queries that have keywords; ``None``: ``setup``, keywords or not.
        reader: Reads the queries in place of embedder and reasoner.
        concurrency: Searches at once, one request a query; 0: many queries in one ``_msearch``.
    """

    client: OpenSearch
    index: str
    setup: SearchSetup
    mode: Mode
    embedder: Embedder | None = None
    reasoner: Reasoner | None = None
    reasoned: SearchSetup | None = None
    reader: Reader | None = None
    concurrency: int = 0

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        """Return one ranking a query, in the order given, each at most ``top_k`` long.

        Raises:
            SearchError: OpenSearch failed on one of them.
            QueryError: ``top_k`` is deeper than the mode ranks.
        """
        rankings: list[Ranking] = []
        for first in range(0, len(queries), _BATCH):
            read = self._read([query.text for query in queries[first : first + _BATCH]])
            rankings += self._each(read, top_k) if self.concurrency else self._together(read, top_k)
        return rankings

    def _together(self, read: Sequence[Read], top_k: int) -> list[Ranking]:
        """Return what is found in one ``_msearch``; a query's time there is what OpenSearch says that it took."""
        asked = [self._bodies(one, top_k, 0) for one in read]
        every = search_many(self.client, self.index, [body for bodies in asked for body in bodies.values()])
        answers = iter(every)
        told = []
        for one, bodies in zip(read, asked, strict=True):
            ranking = self._page(one, bodies, {leg: next(answers) for leg in bodies}, top_k, 0)
            told.append(_told(ranking, one, ranking.took_ms))
        return told

    def _each(self, read: Sequence[Read], top_k: int) -> list[Ranking]:
        """Return what is found query by query, some at once; a query's time is that from request to answer."""

        def ask(one: Read) -> Ranking:
            bodies = self._bodies(one, top_k, 0)
            started = time.perf_counter()
            ranking = self._page(one, bodies, self._answers(bodies), top_k, 0)
            return _told(ranking, one, (time.perf_counter() - started) * 1000)

        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(ask, read))

    def search(self, text: str, *, top_k: int = 10, start: int = 0, explain: bool = False) -> Ranking:
        """Return one page for one query.

        Args:
            text: What the shopper typed.
            top_k: Hits on the page.
            start: Hits to skip.
            explain: Also ask each leg by itself, and put its rank and score on the hits. On several shards, ranks
                deeper than ``search.candidates`` may be a few places off: fusion sees so many of each shard.

        Raises:
            GenerationError: The reasoner failed.
            SearchError: OpenSearch failed.
            QueryError: The page lies beyond what the mode ranks.
        """
        [read] = self._read([text])
        bodies = self._bodies(read, top_k, start)
        started = time.perf_counter()
        answers = self._answers(bodies)
        page = self._page(read, bodies, answers, top_k, start)
        ranking = _told(page, read, (time.perf_counter() - started) * 1000)
        if not explain or is_blank(text):
            return ranking
        if len(bodies) > 1:  # the legs are at hand
            return with_legs(ranking, fused_answer(answers, self._setup_for(read).search)[1])
        [answer] = answers.values()
        if read.vector is None or self.mode != "hybrid":  # one leg: its ranks and scores are the final ones
            return with_legs(ranking, {self.mode: ranking}, first_rank=start + 1)
        num_shards = answer["_shards"]["total"]
        leg_bodies = build_leg_bodies(
            self._setup_for(read), text, read.vector, num_shards=num_shards, keywords=read.keywords
        )
        found = [
            parse_response(leg, keep_order=True) for leg in search_many(self.client, self.index, leg_bodies.values())
        ]
        return with_legs(ranking, dict(zip(leg_bodies, found, strict=True)))

    def body(self, text: str, *, top_k: int = 10, start: int = 0) -> dict[str, Any]:
        """Return the body that ``search`` sends, as it is sent; where two are sent, both: under ``bm25``, ``vector``.

        Raises:
            QueryError: The page lies beyond what the mode ranks.
        """
        bodies = self._bodies(self._read([text])[0], top_k, start)
        return bodies if len(bodies) > 1 else next(iter(bodies.values()))

    def _bodies(self, read: Read, top_k: int, start: int) -> dict[str, dict[str, Any]]:
        """Return the searches of a query: one, or one a leg where they are fused here."""
        setup, page = self._setup_for(read), {"top_k": top_k, "start": start}
        if read.vector is not None and fused_here(setup, self.mode, read.text):
            return build_fused_bodies(setup, read.text, read.vector, keywords=read.keywords, **page)
        return {self.mode: build_body(setup, self.mode, read.text, read.vector, keywords=read.keywords, **page)}

    def _setup_for(self, read: Read) -> SearchSetup:
        return self.reasoned if self.reasoned is not None and read.keywords else self.setup

    def _read(self, texts: Sequence[str]) -> list[Read]:
        """Return what the models make of the texts; nothing of blank ones."""
        wanted = [text for text in texts if not is_blank(text)]
        if self.reader is not None:
            read = iter(self.reader.read(wanted) if wanted else ())
        else:
            sound = [normalise_query(text) for text in wanted]
            read = iter(self._reasoned(sound) if self.reasoner is not None else self._direct(sound))
        return [Read(text, route="bm25") if is_blank(text) else replace(next(read), text=text) for text in texts]

    def _direct(self, texts: Sequence[str]) -> list[Read]:
        if self.mode == "bm25" or self.embedder is None or not texts:
            return [Read(text, route="bm25") for text in texts]
        started = time.perf_counter()
        vectors = as_sent(self.embedder.embed_queries(texts))
        own_ms = (time.perf_counter() - started) * 1000 / len(texts)
        return [Read(text, vector, own_ms=own_ms) for text, vector in zip(texts, vectors, strict=True)]

    def _reasoned(self, texts: Sequence[str]) -> list[Read]:
        if self.reasoner is None or not texts:
            return []
        started = time.perf_counter()
        if self.mode == "bm25" or not isinstance(self.reasoner, ReasoningEmbedder):
            samples = self.reasoner.reason(texts)
            took_ms = (time.perf_counter() - started) * 1000
            read = [Read(text, None, of, took_ms) for text, of in zip(texts, samples, strict=True)]
        else:
            found = self.reasoner.embed_reasoned(texts)
            rows = zip(texts, as_sent(found.vectors), found.reasonings, strict=True)
            read = [Read(text, vector, of, found.reason_ms, found.embed_ms) for text, vector, of in rows]
        own_ms = (time.perf_counter() - started) * 1000 / len(texts)
        return [
            replace(
                one,
                route="reasoned",
                own_reason_ms=one.reason_ms / len(texts),
                own_ms=own_ms,
                num_tokens=sum(sample.num_tokens for sample in one.reasoning),
            )
            for one in read
        ]

    def _page(
        self, read: Read, bodies: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]], top_k: int, start: int
    ) -> Ranking:
        if len(bodies) > 1:
            ranking, _ = fused_answer(answers, self._setup_for(read).search)
            return self._with_rows(page_of(ranking, top_k=top_k, start=start))
        [body], [answer] = bodies.values(), answers.values()
        ranking = parse_response(answer)
        if "hybrid" not in body["query"]:
            return ranking
        if may_tie_beyond(ranking, requested=body["size"], end=start + top_k):
            ranking = parse_response(self._search(widen(body)))
        return page_of(ranking, top_k=top_k, start=start)

    def _with_rows(self, page: Ranking) -> Ranking:
        """Return a page that was fused here with the stored fields of its hits."""
        if not self.setup.with_source or not page.hits:
            return page
        ids = [hit.doc_id for hit in page.hits]
        rows = find_rows(self.client, self.index, ids, without=hidden_fields(self.setup))
        return replace(page, hits=tuple(replace(hit, source=rows.get(hit.doc_id, {})) for hit in page.hits))

    def _answers(self, bodies: Mapping[str, Any]) -> dict[str, Any]:
        if len(bodies) == 1:
            return {name: self._search(body) for name, body in bodies.items()}
        return dict(zip(bodies, search_many(self.client, self.index, bodies.values()), strict=True))

    def _search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with translate_errors():
            answer: dict[str, Any] = self.client.search(index=self.index, body=body)
        return answer


def _told(ranking: Ranking, read: Read, search_ms: float) -> Ranking:
    """Return the ranking with what led to it."""
    trace = Trace(
        route=read.route,
        keywords=read.keywords,
        reasoning_tokens=read.num_tokens,
        latency_ms=read.own_ms + search_ms,
        reason_ms=read.own_reason_ms,
        score=read.score,
    )
    return replace(ranking, reasoning=read.reasoning, reason_ms=read.reason_ms, embed_ms=read.embed_ms, trace=trace)
