"""``neural`` clauses on our vector field → what OpenSearch can answer without a model. Pure.

A clause is ours when it reads ``{"neural": {VECTOR_FIELD: {"query_text": "…", …}}}``, wherever in a body it stands: it
becomes ``knn`` with the vector, and keeps what both know (``k``, ``filter``, ``boost``, ``_name``, …). Anything else is
left as it is, so what is wrong with it OpenSearch says. Where no vector could be made the words are searched instead.

In a ``hybrid`` query the keywords of a reasoning are added to the legs beside it that search the same text, as
``search/requests.py`` does for a query of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.service.guarded import ByModel
from lrem_os.search.fields import weighted_text_fields
from lrem_os.search.requests import SearchSetup, keyword_query, lexical_text, text_query

Body = dict[str, Any]
_Keywords = Mapping[str, tuple[str, ...]]  # per text, as _same has it

_DEFAULT_K = 10  # of a neural clause that names no k, min_score or max_distance; knn has no default
_NOT_IN_KNN = {"query_text", "model_id"}
_NO_TEXT = {"query_image", "query_tokens"}  # what we cannot embed
_OPAQUE = {"ext", "params", "script", "search_pipeline"}  # hold no queries
_TEXT_QUERIES = {
    *("match", "multi_match", "match_phrase", "match_phrase_prefix", "match_bool_prefix", "combined_fields"),
    *("query_string", "simple_query_string", "intervals", "more_like_this"),
}
_SCORED = {"bool": ("must", "should"), "dis_max": ("queries",), "function_score": ("query",), "boosting": ("positive",)}


def find_texts(node: Any, vector_field: str) -> list[str]:
    """Return the ``query_text`` of every clause of ours, each once, in the order of the body.

    >>> find_texts({"query": {"neural": {"v": {"query_text": "red bag", "k": 5}}}}, "v")
    ['red bag']
    """
    return list(dict.fromkeys(str(clause["query_text"]) for clause in _clauses(node, vector_field)))


def holds_ours(body: Body, vector_field: str) -> bool:
    """Return whether a body has anything for us: a clause, or ``ext.lrem``. Not recursive: for bodies of any depth."""
    ext = body.get("ext")
    if isinstance(ext, dict) and "lrem" in ext:
        return True
    level: list[Any] = [body]
    while level:
        if any(_clause(node, vector_field) is not None for node in level):
            return True
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
    return False


def _children(node: Any) -> Iterable[Any]:
    return node if isinstance(node, list) else [value for key, value in node.items() if key not in _OPAQUE]


def rewrite(
    node: Any,
    readings: Mapping[str, Reading],
    setup: SearchSetup,
    by_model: ByModel | None = None,
    *,
    searched: bool = False,
) -> Any:
    """Return a body, or a part of one, with every clause of ours in words that OpenSearch knows; nothing else differs.

    Args:
        node: The body; not changed.
        readings: Of every text that ``find_texts`` names.
        setup: Vector field, text fields, and how much keywords weigh (``text_boost``; 0: they stay out).
        by_model: Where indices may have vectors of several models, the readings of each.
        searched: Whether the words are searched beside it, and need not stand in for a vector.
    """
    again = partial(rewrite, readings=readings, setup=setup, by_model=by_model, searched=searched)
    if isinstance(node, list):
        return [again(item) for item in node]
    if not isinstance(node, dict):
        return node
    clause = _clause(node, setup.index.vector_field)
    if clause is not None:
        return _rewritten(clause, readings, setup, by_model, searched=searched)
    if len(node) == 1 and _is_hybrid(node.get("hybrid")):
        legs = _rewritten_legs(node["hybrid"]["queries"], readings, setup, by_model)
        others = {key: again(value) for key, value in node["hybrid"].items() if key != "queries"}
        return {"hybrid": {**others, "queries": legs}}
    return {key: value if key in _OPAQUE else again(value) for key, value in node.items()}


def _clause(node: Any, vector_field: str) -> Body | None:
    """Return what stands in a clause of ours: the object below the field."""
    if not isinstance(node, dict) or len(node) != 1 or not isinstance(node.get("neural"), dict):
        return None
    inner = node["neural"]
    clause = inner.get(vector_field)
    if len(inner) != 1 or not isinstance(clause, dict) or _NO_TEXT & clause.keys():
        return None
    return clause if isinstance(clause.get("query_text"), str) else None


def _clauses(node: Any, vector_field: str) -> Iterator[Body]:
    if isinstance(node, list):
        for item in node:
            yield from _clauses(item, vector_field)
    elif isinstance(node, dict):
        clause = _clause(node, vector_field)
        if clause is not None:
            yield clause
        inside = node if clause is None else {"filter": clause.get("filter")}
        for key, value in inside.items():
            if key not in _OPAQUE:
                yield from _clauses(value, vector_field)


def _rewritten(
    clause: Body, readings: Mapping[str, Reading], setup: SearchSetup, by_model: ByModel | None, *, searched: bool
) -> Body:
    text = str(clause["query_text"])
    reading = readings[text]
    rest = {key: value for key, value in clause.items() if key not in _NOT_IN_KNN}
    if "filter" in rest:
        rest["filter"] = rewrite(rest["filter"], readings, setup, by_model)
    if reading.vector is None:
        return _by_words(text, rest, setup)
    words = _by_words(text, {key: value for key, value in rest.items() if key != "_name"}, setup)
    if not {"k", "min_score", "max_distance"} & rest.keys():
        rest["k"] = _DEFAULT_K
    if by_model is not None:
        return by_model.clause(text, rest, setup.index.vector_field, None if searched else words)
    return {"knn": {setup.index.vector_field: {"vector": list(reading.vector), **rest}}}


def _by_words(text: str, rest: Body, setup: SearchSetup) -> Body:
    """Return the text leg in place of a vector that could not be made; with the clause's filter, boost and name."""
    query: Body = {"must": [text_query(setup, text)]}
    query |= {key: rest[key] for key in ("filter", "boost", "_name") if key in rest}
    return {"bool": query}


def _is_hybrid(inner: Any) -> bool:
    return isinstance(inner, dict) and isinstance(inner.get("queries"), list)


def _rewritten_legs(
    legs: list[Any], readings: Mapping[str, Reading], setup: SearchSetup, by_model: ByModel | None
) -> list[Any]:
    texts = [find_texts(leg, setup.index.vector_field) for leg in legs]
    keywords = {_same(text): readings[text].keywords for found in texts for text in found}
    searched = any(not found and _searches_text(leg) for leg, found in zip(legs, texts, strict=True))
    done = []
    for leg, found in zip(legs, texts, strict=True):
        if not found:
            done.append(_with_keywords(leg, keywords, setup))
        elif searched and any(readings[text].vector is None for text in found):
            done.append({"match_none": {}})  # the words are searched beside it already
        else:
            done.append(rewrite(leg, readings, setup, by_model, searched=searched))
    return done


def _searches_text(node: Any) -> bool:
    if isinstance(node, list):
        return any(map(_searches_text, node))
    return isinstance(node, dict) and any(key in _TEXT_QUERIES or _searches_text(node[key]) for key in node)


def _with_keywords(node: Any, keywords: _Keywords, setup: SearchSetup) -> Any:
    """Return a leg in which every scored ``match`` and ``multi_match`` of a text has its keywords beside it."""
    if isinstance(node, list):
        return [_with_keywords(item, keywords, setup) for item in node]
    if not isinstance(node, dict) or len(node) != 1:
        return node
    ((kind, inner),) = node.items()
    if not isinstance(inner, dict):
        return node
    if kind in ("match", "multi_match"):
        added = _beside(kind, inner, keywords, setup)
        return node if added is None else {"bool": {"should": [node, added]}}
    deeper = {name: _with_keywords(inner[name], keywords, setup) for name in _SCORED.get(kind, ()) if name in inner}
    return {kind: {**inner, **deeper}}


def _beside(kind: str, inner: Body, keywords: _Keywords, setup: SearchSetup) -> Body | None:
    """Return the clause of keywords to put beside a ``match`` or ``multi_match``, if its text has any."""
    spec, fields = inner, inner.get("fields") or weighted_text_fields(setup.catalog)
    if kind == "match":
        ((field, value),) = inner.items() if len(inner) == 1 else (("", {}),)
        spec, fields = value if isinstance(value, dict) else {"query": value}, [field]
    text = spec.get("query")
    found = keywords.get(_same(text), ()) if isinstance(text, str) else ()
    if not found or not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        return None
    try:
        times = float(spec.get("boost", 1.0))
    except (TypeError, ValueError):  # OpenSearch will say so
        return None
    asked = lexical_text(str(text), len(fields))
    return keyword_query(setup.text_boost, asked, found, fields, times=times) if 0 < times < math.inf else None


def _same(text: str) -> str:
    """Return a form that is the same for texts a shop would call the same."""
    return " ".join(text.casefold().split())
