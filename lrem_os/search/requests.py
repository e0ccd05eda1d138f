"""Bodies of ``POST /{index}/_search``: plain values in, plain values out. Nothing is sent from here.

Three modes: the text leg alone (``bm25``), the vector leg alone (``vector``), both fused by the server (``hybrid``,
with the fusion as an inline ``search_pipeline``, so that nothing has to be installed on the cluster and every request
carries its own weights). A blank query browses: everything the filter allows, by id, whatever the mode.

Keywords of a reasoning go into the text leg beside the query, never in its place, with a bounded weight: see
``keyword_boost``.

Equal scores are ordered by id. The server does it where it can sort by score and id; a hybrid query it cannot
(``_score sort criteria cannot be applied with any other criteria``), so there a body asks for ``TIE_MARGIN`` hits more
than the page holds, from the first hit on, and ``search/hits.py`` orders and cuts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.errors import QueryError, Unsupported
from lrem_os.search.dialect import dialect_of
from lrem_os.search.fields import HASH_FIELD, text_field, weighted_text_fields
from lrem_os.types import Mode, Vectors

IN_BOTH = "in_both"
"""Aggregation of the vector leg where the client fuses: how many of its hits the text leg finds too."""

TIE_MARGIN = 10
"""Hits that a hybrid body asks for beyond the page; RRF ties are pairs, rarely more."""

MAX_WINDOW = 10_000
"""``index.max_result_window`` as OpenSearch sets it: the deepest hit that can be asked for."""

_MAX_CLAUSES = 1000  # indices.query.bool.max_clause_count is 1024 and counts words x fields; the rest is for filters

_TIE_BREAKER = (
    0.3  # share of the fields that match less well; 0.1 to 0.5, cross_fields and most_fields measured no better
)

_IDEOGRAPHS = "\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # one word each to OpenSearch, kana too
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|(?:(?![{_IDEOGRAPHS}])\w){{1,255}}|[^\x00-\x7f\s]")  # 255: its longest word


@dataclass(frozen=True, slots=True)
class SearchSetup:
    """What stays the same over the queries of one retriever.

    Args:
        catalog: Names and weights of the fields.
        index: Name of the vector field.
        search: Candidates, fusion, weights.
        version: The server's, for example ``(3, 6, 0)``: older ones are asked differently.
        filter: A query that every hit must match, as ``search/filters.py`` makes it.
        with_source: Whether hits bring their stored fields.
        text_boost: Weight of keywords in the text leg, against 1 for the query; 0: they stay out.
    """

    catalog: CatalogSettings
    index: IndexSettings
    search: SearchSettings
    version: tuple[int, int, int]
    filter: Mapping[str, Any] | None = None
    with_source: bool = True
    text_boost: float = 0.0


def build_body(
    setup: SearchSetup,
    mode: Mode,
    text: str,
    vector: Sequence[float] | None,
    *,
    top_k: int,
    start: int = 0,
    keywords: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body that answers one query.

    Args:
        setup: Fields, fusion, filter.
        mode: Which legs.
        text: What the shopper typed; never parsed, so ``*`` or ``AND (`` are plain text.
        vector: The query's unit vector, length D; ``None`` in mode ``bm25`` and for a blank text.
        top_k: Hits on the page.
        start: Hits to skip.
        keywords: What a reasoner adds to the text leg; without any the body is the same as ever.

    Raises:
        QueryError: The page lies beyond what the mode can rank, or the vector is missing.
        Unsupported: The server is too old for the fusion that is configured.
    """
    if is_blank(text):
        return _browse_body(setup, top_k, start)
    if mode == "bm25":
        query = text_query(setup, text, keywords)
        return _leg_body(setup, query, top_k, start, MAX_WINDOW, "index.max_result_window")
    if vector is None:
        raise QueryError(f"mode {mode!r} needs the query's vector", hint="load a model, or use mode bm25")
    if mode == "vector":
        return _leg_body(setup, knn_query(setup, vector), top_k, start, setup.search.candidates, "search.candidates")
    return _hybrid_body(setup, text, vector, top_k, start, keywords)


def build_leg_bodies(
    setup: SearchSetup, text: str, vector: Sequence[float], *, num_shards: int, keywords: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return the bodies that show what each leg of a hybrid query hands to fusion: ids and scores, no fields.

    Every shard hands over its candidates, so there are up to candidates x shards. They are not sorted by id within
    equal scores: fusion ranks in the server's own order.
    """
    size = min(MAX_WINDOW, setup.search.candidates * num_shards)
    queries = {"bm25": text_query(setup, text, keywords), "vector": knn_query(setup, vector)}
    return {leg: {"size": size, "_source": False, "query": query} for leg, query in queries.items()}


def build_fused_bodies(
    setup: SearchSetup,
    text: str,
    vector: Sequence[float],
    *,
    top_k: int,
    start: int = 0,
    keywords: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Return, per leg, the body that asks for what ``search/fusion.py`` fuses: ids and scores of the candidates.

    Raises:
        QueryError: The page lies beyond the candidates.
    """
    depth = setup.search.candidates
    _check_window(top_k, start, depth, "search.candidates")
    queries = {"bm25": text_query(setup, text, keywords), "vector": knn_query(setup, vector)}
    sort = [{"_score": "desc"}, {setup.catalog.id: "asc"}]
    asked = {"size": depth, "_source": False, "track_total_hits": True, "sort": sort}
    bodies = {leg: {**asked, "query": query} for leg, query in queries.items()}
    bodies["vector"]["aggs"] = {IN_BOTH: {"filter": queries["bm25"]}}
    return bodies


def fused_here(setup: SearchSetup, mode: Mode, text: str) -> bool:
    """Return whether a query is two searches whose answers are fused here: the server does not do it."""
    return mode == "hybrid" and not dialect_of(setup.search.engine).fuses and not is_blank(text)


def widen(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hybrid body that asks for all that was fused: for a page whose last hit may tie with hits beyond it."""
    return {**body, "size": MAX_WINDOW}


def is_blank(text: str) -> bool:
    r"""Return whether a text has nothing to search for: empty, blanks, control and zero-width characters.

    >>> is_blank(" \u3000\u200b\x00"), is_blank("*")
    (True, False)
    """
    return not any(char.isprintable() and not char.isspace() for char in text)


def clean_text(text: str) -> str:
    r"""Return a text that can be sent as UTF-8: lone surrogates, which a terminal may hand over, become ``?``.

    >>> clean_text("caf\udce9")
    'caf?'
    """
    return text.encode("utf-8", "replace").decode()


def lexical_text(text: str, num_fields: int) -> str:
    """Return the beginning of a text that OpenSearch accepts: 1,000 words x fields (200 words in five fields).

    More would fail with ``too_many_nested_clauses``. A word is counted as OpenSearch's standard tokenizer does or
    more strictly. The vector leg reads the whole text.

    >>> lexical_text("a b c d", num_fields=500)
    'a b'
    """
    return _first_words(text, max(1, _MAX_CLAUSES // num_fields))


def as_sent(vectors: Vectors) -> list[list[float]]:
    """Return the shortest decimals that give the same float32, by way of JSON: what a body should show and carry.

    Args:
        vectors: Shape (B, D).
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    sent: list[list[float]] = orjson.loads(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))
    return sent


def text_query(setup: SearchSetup, text: str, keywords: Sequence[str] = ()) -> dict[str, Any]:
    """Return the text leg: ``multi_match`` over the weighted fields, with the filter beside it.

    With keywords, a second ``multi_match`` adds to the score (``should``): a product that matches neither is not found,
    one that matches both gains.

    Source: OpenSearch documentation, "Multi-match".
    """
    fields = weighted_text_fields(setup.catalog)
    asked = lexical_text(clean_text(text), len(fields))
    query = _multi_match(asked, fields)
    added = keyword_query(setup.text_boost, asked, keywords, fields)
    if added is not None:
        query = {"bool": {"should": [query, added]}}
    return query if setup.filter is None else {"bool": {"must": [query], "filter": [setup.filter]}}


def keyword_query(
    text_boost: float, asked: str, keywords: Sequence[str], fields: Sequence[str], *, times: float = 1.0
) -> dict[str, Any] | None:
    """Return the clause that keywords add beside the query's own; ``None`` where there is nothing to add.

    Args:
        text_boost: Weight of all keywords together, against 1 for the query; 0: they stay out.
        asked: The query's words as they are searched.
        keywords: What a reasoner wrote.
        fields: Analysed fields, with their weights.
        times: Boost of the query's own clause, which the keywords are measured against.
    """
    added = _keyword_text(asked, keywords, len(fields)) if text_boost > 0 else ""
    if not added:
        return None
    return _multi_match(added, fields, boost=round(times * keyword_boost(text_boost, asked, added), 6))


def keyword_boost(text_boost: float, query: str, keywords: str) -> float:
    """Return the weight of one keyword's match, against 1 for a word of the query.

    All keywords together weigh ``text_boost`` times the query's words, however many they are: BM25 sums over words, so
    twenty keywords at a fixed weight would drown a query of two words. Fewer keywords than words are not raised for it.

    >>> keyword_boost(0.2, "hot pot", "trivet, pot stand, silicone mat")
    0.08
    >>> keyword_boost(0.2, "what do I put under a hot pot", "trivet")
    0.2
    """
    share = _num_words(query) / max(1, _num_words(keywords))
    return round(text_boost * min(1.0, share), 6)


def _keyword_text(asked: str, keywords: Sequence[str], num_fields: int) -> str:
    """Return the keywords as one text, as far as the query's words leave room for them among OpenSearch's clauses."""
    room = _MAX_CLAUSES // num_fields - _num_words(asked)
    added = clean_text(", ".join(keyword for keyword in keywords if not is_blank(keyword)))
    return "" if room < 1 or not added else _first_words(added, room)


def _first_words(text: str, limit: int) -> str:
    for count, match in enumerate(_WORD.finditer(text), 1):
        if count == limit:
            return text[: match.end()]
    return text


def _num_words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def _multi_match(text: str, fields: Sequence[str], *, boost: float | None = None) -> dict[str, Any]:
    clause = {"query": text, "fields": list(fields), "type": "best_fields", "tie_breaker": _TIE_BREAKER}
    return {"multi_match": clause if boost is None else {**clause, "boost": boost}}


def knn_query(setup: SearchSetup, vector: Sequence[float]) -> dict[str, Any]:
    """Return the vector leg: ``k`` is the candidate depth, the filter is inside, so ``k`` hits pass it.

    Source: OpenSearch documentation, "Efficient k-NN filtering": a filter beside the clause is applied afterwards and
    may leave fewer than ``k``.
    """
    return dialect_of(setup.search.engine).knn(
        setup.index.vector_field, vector, k=setup.search.candidates, filters=setup.filter
    )


def fusion_pipeline(
    search: SearchSettings, version: tuple[int, int, int], *, key: str = "search.weights"
) -> dict[str, Any]:
    """Return the inline ``search_pipeline`` that fuses the two legs.

    RRF: ``sum of w / (rank_constant + rank)``, with ``w = 1`` when the weights are equal, which every version can do.
    Min-max: ``sum of w x score normalised to [0, 1] per leg``, divided by the sum of ``w``.

    Source: OpenSearch documentation, "Score ranker processor" (2.19, weights 3.1) and "Normalization processor".

    Args:
        search: Fusion and weights.
        version: The server's.
        key: Where the weights stand in the configuration, for the complaint.

    Raises:
        Unsupported: Unequal RRF weights before 3.1.
    """
    weights = list(search.weights)
    if search.fusion == "minmax":
        combination = {"technique": "arithmetic_mean", "parameters": {"weights": weights}}
        processor = {"normalization": {"technique": "min_max"}, "combination": combination}
        return {"phase_results_processors": [{"normalization-processor": processor}]}
    ranker: dict[str, Any] = {"technique": "rrf", "rank_constant": search.rank_constant}
    if weights[0] != weights[1]:
        if version < (3, 1, 0):
            raise Unsupported(
                f"OpenSearch {'.'.join(map(str, version))} cannot weight RRF, and {key} is {weights}",
                hint=f"set {key} to [0.5, 0.5], or search.fusion to minmax, or use OpenSearch 3.1 or newer",
            )
        ranker["parameters"] = {"weights": weights}
    return {"phase_results_processors": [{"score-ranker-processor": {"combination": ranker}}]}


def _hybrid_body(
    setup: SearchSetup, text: str, vector: Sequence[float], top_k: int, start: int, keywords: Sequence[str]
) -> dict[str, Any]:
    depth = setup.search.candidates
    _check_window(top_k, start, depth, "search.candidates")
    hybrid: dict[str, Any] = {"pagination_depth": depth}
    if setup.filter is not None and setup.version >= (3, 0, 0):  # one filter that the server hands to both legs
        hybrid["filter"] = setup.filter
        setup = replace(setup, filter=None)
    hybrid["queries"] = [text_query(setup, text, keywords), knn_query(setup, vector)]
    return {
        "size": start + top_k + TIE_MARGIN,
        "_source": _source(setup),
        "track_total_hits": True,
        "query": {"hybrid": hybrid},
        "search_pipeline": fusion_pipeline(setup.search, setup.version),
    }


def _leg_body(
    setup: SearchSetup, query: Mapping[str, Any], top_k: int, start: int, deepest: int, setting: str
) -> dict[str, Any]:
    _check_window(top_k, start, deepest, setting)
    return {
        "from": start,
        "size": top_k,
        "_source": _source(setup),
        "track_total_hits": True,
        "query": query,
        "sort": [{"_score": "desc"}, {setup.catalog.id: "asc"}],
    }


def _browse_body(setup: SearchSetup, top_k: int, start: int) -> dict[str, Any]:
    query = {"match_all": {}} if setup.filter is None else {"bool": {"filter": [setup.filter]}}
    body = _leg_body(setup, query, top_k, start, MAX_WINDOW, "index.max_result_window")
    return body | {"sort": [{setup.catalog.id: "asc"}]}


def _check_window(top_k: int, start: int, deepest: int, setting: str) -> None:
    if top_k < 1 or start < 0:
        raise QueryError(f"{top_k} hits from hit {start} on were asked for: at least 1 hit, from hit 0 or later")
    if start + top_k > deepest:
        way_out = "raise search.candidates, or " if setting == "search.candidates" else ""
        raise QueryError(
            f"hits up to {start + top_k} were asked for, but only {deepest} are ranked ({setting})",
            hint=f"{way_out}ask for fewer",
        )


def hidden_fields(setup: SearchSetup) -> list[str]:
    """Return the fields of a document that are ours and no part of the catalog's row."""
    rendered = [text_field(setup.catalog, name) for name in setup.catalog.objects if name in setup.catalog.text]
    return [setup.index.vector_field, HASH_FIELD, *rendered]


def _source(setup: SearchSetup) -> bool | dict[str, list[str]]:
    return {"excludes": hidden_fields(setup)} if setup.with_source else False
