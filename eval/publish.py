"""A report as documents that Dashboards can draw: rows, ids and index templates as plain values. Nothing is sent here.

Three indices: ``results`` holds one document per run, measure and slice, so that a panel is a filter and an average;
``queries`` one per query and run, with its values, its distance to the baseline and how it was served; ``judgments``
one per judged pair. An id says what a document is about, so what is published twice is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.datasets import DataFile, Qrels
from lrem_os.search.fields import HASH_FIELD
from lrem_os.search.index import mapping_hash
from lrem_os.text import content_hash
from lrem_os.types import Document

DEFAULT_PREFIX = "lrem-os-eval"
KINDS = ("results", "queries", "judgments")

_PRIORITY = 200  # above what a cluster has for everything
_MAX_KEYWORD_CHARS = 8191  # Lucene's term limit of 32,766 bytes, at up to 4 bytes a character
_COMPARED = ("p_value", "p_adjusted", "effect_size", "wins", "ties", "losses", "minimum_detectable", "underpowered")
_SERVED = ("route", "keywords", "degraded", "reasoning_tokens", "latency_ms", "reason_ms", "score")

_KEYWORD = {"type": "keyword", "ignore_above": _MAX_KEYWORD_CHARS}
_FLOAT = {"type": "float"}
_LONG = {"type": "long"}
_NUMBERS = {"type": "object", "dynamic": True}  # one field a measure; see the dynamic templates

_COMMON: Mapping[str, Any] = {
    "@timestamp": {"type": "date"},
    "report": _KEYWORD,
    HASH_FIELD: {"type": "keyword", "index": False, "doc_values": False, "store": True},
}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "results": {
        **dict.fromkeys(("run", "measure", "dimension", "slice", "baseline"), _KEYWORD),
        **dict.fromkeys(("commit", "config_hash", "version", "index", "fingerprint"), _KEYWORD),
        **dict.fromkeys(("mean", "low", "high", "p_value", "p_adjusted", "effect_size"), _FLOAT),
        "minimum_detectable": _FLOAT,
        **dict.fromkeys(("num_queries", "wins", "ties", "losses"), _LONG),
        "underpowered": {"type": "boolean"},
        "card": {"type": "flat_object"},  # searched by its paths; an aggregation over one answers nonsense (3.6.0)
    },
    "queries": {
        **dict.fromkeys(("run", "query_id", "type", "route", "keywords", "degraded"), _KEYWORD),
        "query": {"type": "text", "fields": {"keyword": _KEYWORD}},
        **dict.fromkeys(("frequency", "latency_ms", "reason_ms", "score"), _FLOAT),
        **dict.fromkeys(("num_words", "reasoning_tokens"), _LONG),
        "value": _NUMBERS,
        "delta": _NUMBERS,
    },
    "judgments": {
        **dict.fromkeys(("query_id", "doc_id", "qrels"), _KEYWORD),
        "query": {"type": "text", "fields": {"keyword": _KEYWORD}},
        "grade": _LONG,
    },
}


def build_templates(prefix: str = DEFAULT_PREFIX) -> dict[str, dict[str, Any]]:
    """Return the composable index templates by name: ``PUT _index_template/{name}``.

    Source: OpenSearch 3.6 documentation, "Index templates", "Dynamic templates", "Flat object".
    """
    return {index_name(prefix, kind): _template(index_name(prefix, kind), _mapping(kind)) for kind in KINDS}


def mapping_hash_of(template: Mapping[str, Any]) -> str:
    """Return what ``_meta`` of an index says that this template made."""
    found: str = template["template"]["mappings"]["_meta"]["lrem"]["mapping_hash"]
    return found


def _template(index: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"lrem": {"mapping_hash": mapping_hash(mapping)}}
    settings = {"number_of_shards": 1, "auto_expand_replicas": "0-1"}
    return {
        "index_patterns": [index],
        "priority": _PRIORITY,
        "template": {"settings": settings, "mappings": {"_meta": meta, **mapping}},
    }


def _mapping(kind: str) -> dict[str, Any]:
    floats = [{f"{name}_as_float": {"path_match": f"{name}.*", "mapping": _FLOAT}} for name in ("value", "delta")]
    mapping: dict[str, Any] = {"dynamic": False, "properties": {**_COMMON, **_FIELDS[kind]}}
    return mapping | {"dynamic_templates": floats} if kind == "queries" else mapping


def index_name(prefix: str, kind: str) -> str:
    """Return the index of one kind of document.

    >>> index_name("lrem-os-eval", "results")
    'lrem-os-eval-results'
    """
    return f"{prefix}-{kind}"


def report_id(report: Mapping[str, Any]) -> str:
    """Return sixteen hex digits that change with anything in the report."""
    return hashlib.sha256(orjson.dumps(report, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def check_publishable(report: Mapping[str, Any], path: str) -> None:
    """Raise ``DatasetError`` unless the report says when it was made: Dashboards sorts by time."""
    if not report["card"].get("date"):
        raise DatasetError("the card has no date", path=path, hint="evaluate again with this version of lrem-os")


def result_documents(report: Mapping[str, Any], path: str) -> Iterator[Document]:
    """Yield one document per run, measure and slice; costs, drop rates and attacks are measures too.

    Args:
        report: As ``lrem_os.eval.report.to_dict`` makes it.
        path: Where it was read from.
    """
    card = report["card"]
    common = {"@timestamp": card["date"], "report": report_id(report)}
    common |= {name: card.get(name) or None for name in ("commit", "config_hash", "version", "baseline")}
    common |= {name: card.get("system", {}).get(name) for name in ("index", "fingerprint")}
    details = {name: card[name] for name in ("system", "checksums", "interval", "test") if card.get(name)}
    for run, measure, dimension, part, values in _results(report):
        source = {**common, "run": run, "measure": measure, "dimension": dimension, "slice": part, **values}
        if dimension == "overall":
            source["card"] = details
        yield _document((common["report"], run, measure, dimension, part), source, path)


def query_documents(report: Mapping[str, Any], path: str) -> Iterator[Document]:
    """Yield one document per query and run."""
    card, key = report["card"], report_id(report)
    baseline = report["runs"].get(card.get("baseline"), {}).get("per_query", {})
    for run, result in report["runs"].items():
        for query_id, values in result["per_query"].items():
            query = report["queries"].get(query_id, {})
            known = {name: value for name, value in values.items() if value is not None}
            base = {} if run == card.get("baseline") else baseline.get(query_id, {})
            text = query.get("text")
            source = {
                "@timestamp": card["date"],
                "report": key,
                "run": run,
                "query_id": query_id,
                "query": text,
                "num_words": len(text.split()) if text else None,
                "type": query.get("type") or None,
                "frequency": query.get("frequency"),
                **{name: result.get("traces", {}).get(query_id, {}).get(name) for name in _SERVED},
                "value": known,
                "delta": {name: known[name] - base[name] for name in known if base.get(name) is not None},
            }
            yield _document((key, run, query_id), source, path)


def judgment_documents(report: Mapping[str, Any], qrels: Qrels, file: DataFile) -> Iterator[Document]:
    """Yield one document per judged pair of the report's queries.

    They are there once per file of judgments, with the date of the last report that was published with it.

    Args:
        report: Whose queries the judgments are for.
        qrels: The judgments.
        file: What they were read from.

    Raises:
        InputError: The report was measured with other judgments.
    """
    checksum = f"sha256:{file.sha256}"
    measured_with = report["card"].get("checksums", {}).get("qrels")
    if measured_with not in (None, checksum) or not any(query_id in report["queries"] for query_id in qrels):
        raise InputError(
            f"{file.path} holds other judgments than the report was measured with",
            hint="give the file that `lrem-os eval --qrels` was given; of a redacted report they cannot be published",
        )
    for query_id, grades in qrels.items():
        if query_id not in report["queries"]:
            continue
        for doc_id, grade in grades.items():
            source = {
                "@timestamp": report["card"]["date"],
                "report": report_id(report),
                "query_id": query_id,
                "query": report["queries"][query_id].get("text"),
                "doc_id": doc_id,
                "grade": grade,
                "qrels": checksum,
            }
            yield _document((checksum, query_id, doc_id), source, file.path)


def _results(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Yield run, measure, dimension, slice and the numbers of every row."""
    for run, result in report["runs"].items():
        for measure, estimate in result["overall"].items():
            compared = result.get("comparison", {}).get(measure, {})
            yield run, measure, "overall", "all", estimate | {name: compared.get(name) for name in _COMPARED}
        for dimension in ("weighted", "difference"):
            for measure, estimate in result.get(dimension, {}).items():
                yield run, measure, dimension, "all", dict(estimate)
        for dimension, parts in result["slices"].items():
            for part, estimates in parts.items():
                for measure, estimate in estimates.items():
                    yield run, measure, dimension, part or "none", dict(estimate)
        for measure, part, value in _costs(result.get("cost") or {}):
            yield run, measure, "cost", part, {"mean": value}
    yield from _robustness(report.get("robustness") or {})


def _costs(cost: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield measure, route (or ``all``) and value of what a run took."""
    for name, value in (cost.get("latency_ms") or {}).items():
        if value is not None:
            yield f"latency_ms_{name}", "all", value
    for name in ("reasoned_share", "reasoning_tokens_per_query", "reason_ms_per_query"):
        if cost.get(name) is not None:
            yield name, "all", cost[name]
    if cost.get("price_per_1000"):
        yield "price_per_1000", "all", cost["price_per_1000"]["value"]
    for route, values in (cost.get("by_route") or {}).items():
        for name, value in values.items():
            if value is not None:
                yield f"latency_ms_{name}" if name.startswith("p") else name, route, value


def _robustness(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    for family, runs in (found.get("families") or {}).items():
        for run, drop in runs.items():
            values = {"mean": drop["drop_rate"], "low": drop["low"], "high": drop["high"]}
            yield run, f"drop_rate {found.get('measure', '')}".strip(), "robustness", family, values
    for family, runs in (found.get("routes") or {}).items():
        for run, share in runs.items():
            yield run, "route_changes", "robustness", family, {"mean": share}
    for run, shares in ((found.get("poisoning") or {}).get("attack_success") or {}).items():
        for cutoff, share in shares.items():
            yield run, f"attack_success{cutoff}", "poisoning", "all", {"mean": share}


def _document(about: Sequence[str], source: Mapping[str, Any], path: str) -> Document:
    """Return a document under an id made of what it is about; fields without a value are left out."""
    doc_id = hashlib.sha256("\0".join(about).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    body = {name: value for name, value in source.items() if value is not None and value != []}
    return Document(doc_id, "", body, content_hash("", body), path, 0)
