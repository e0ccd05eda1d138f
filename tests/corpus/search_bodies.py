"""Search bodies of every kind, as OpenSearch takes them or refuses them, and a small index that they fit.

The lists lie beside this module, one body a line: ``queries``, ``aggregations``, ``options`` (everything beside the
query), ``wrong`` (JSON that OpenSearch refuses), ``raw`` (bytes, written as Latin-1) and ``neural`` (with a clause of
ours). In them ``INDEX`` stands for the index, ``{"$vector": TEXT}`` for eight numbers and ``{"$near": {…}}`` for a
clause that is ``neural`` or the ``knn`` it is answered by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEXT = "red leather bag"
NUM_DOCUMENTS = 40
PLAIN = ("queries", "aggregations", "options", "wrong")

Vectors = Callable[[str], Sequence[float]]
"""Eight numbers of a text."""


def index_body() -> dict[str, Any]:
    """Return the body that creates the index."""
    body: dict[str, Any] = json.loads((HERE / "index.json").read_text(encoding="utf-8"))
    return body


def documents(vectors: Vectors) -> list[dict[str, Any]]:
    """Return rows that have every field in some of them."""
    rows = []
    for number in range(NUM_DOCUMENTS):
        is_bag = number % 3 != 0
        row: dict[str, Any] = {
            "id": f"p{number:02d}",
            "title": TEXT if is_bag else "blue shoe",
            "brand": ("Sony", "Bose", "AC|DC")[number % 3],
            "price": number * 1.5,
            "stock": number % 7,
            "big": 9007199254740993 + number,
            "made": f"2024-{1 + number % 6:02d}-{1 + number % 28:02d}T10:00:00Z",
            "tags": [("new", "sale", "gift", "old")[at % 4] for at in range(number % 5)],
            "address": f"10.0.0.{number}",
            "span": {"gte": number % 10, "lt": number % 10 + 3},
            "pagerank": 1 + number,
            "quick": {"input": ["red bag" if is_bag else "blue shoe"], "weight": number},
            "variants": [
                {"color": ("red", "blue")[at % 2], "size": at, "price": number + at} for at in range(number % 4)
            ],
            "lrem_vector": list(vectors(f"item {number}")),
        }
        if number % 2:
            row |= {"gone": number % 3 == 0, "place": {"lat": number / 10, "lon": number / 5}}
        rows.append(row)
    return rows


def bulk(vectors: Vectors) -> bytes:
    """Return the body of ``POST /INDEX/_bulk`` that loads the documents."""
    rows = documents(vectors)
    lines = [json.dumps(line) for row in rows for line in ({"index": {"_id": row["id"]}}, row)]
    return ("\n".join(lines) + "\n").encode()


def named(name: str, index: str, vectors: Vectors) -> list[bytes]:
    """Return the bodies of one list."""
    return [_filled(line, index, vectors) for line in _lines(name)]


def plain(index: str, vectors: Vectors) -> list[bytes]:
    """Return the bodies that hold nothing for the service: each goes through as it is."""
    found = [body for name in PLAIN for body in named(name, index, vectors)]
    return found + [json.loads(line).encode("latin-1") for line in _lines("raw")] + _large()


def neural(index: str, vectors: Vectors, field: str = "lrem_vector") -> list[tuple[bytes, bytes]]:
    """Return the bodies with a clause of ours, each as ``neural`` and as the ``knn`` that stands for it."""
    return [
        (_filled(line, index, vectors, _as_neural(field)), _filled(line, index, vectors, _as_knn(field, vectors)))
        for line in _lines("neural")
    ]


def _lines(name: str) -> list[str]:
    return (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


Clause = Callable[[dict[str, Any]], dict[str, Any]]


def _as_neural(field: str) -> Clause:
    return lambda near: {"neural": {field: {"query_text": TEXT, **_renamed(near)}}}


def _as_knn(field: str, vectors: Vectors) -> Clause:
    def clause(near: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in near.items() if key != "text"}
        return {"knn": {field: {"vector": list(vectors(near.get("text", TEXT))), **rest}}}

    return clause


def _renamed(near: dict[str, Any]) -> dict[str, Any]:
    return {"query_text" if key == "text" else key: value for key, value in near.items()}


def _filled(line: str, index: str, vectors: Vectors, near: Clause = dict) -> bytes:
    """Return a line with what its placeholders stand for; numbers stay as they are written."""
    line = line.replace("INDEX", index)
    if '{"$' not in line:
        return line.encode()

    def fill(value: dict[str, Any]) -> Any:
        if "$vector" in value:
            return list(vectors(value["$vector"]))
        return near(value["$near"]) if "$near" in value else value

    return _as_written(json.loads(line, object_hook=fill, parse_int=_Number, parse_float=_Number)).encode()


class _Number(str):
    """A number as it was written."""


def _as_written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_as_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_as_written, value)) + "]"
    return json.dumps(value)


def _large() -> list[bytes]:
    """Return bodies that are too long to be written down."""
    nested = [
        b'{"query":' + b'{"bool":{"must":' * deep + b'{"match":{"title":"neural"}}' + b"}}" * deep + b"}"
        for deep in (15, 60, 200)
    ]
    arrays = [b'{"neural":' + b"[" * deep + b"]" * deep + b"}" for deep in (99, 900, 2000)]
    long_text = b'{"query":{"match":{"title":"' + b"neural " * 20_000 + b'"}}}'
    many = json.dumps({"query": {"terms": {"brand": [f"brand {at}" for at in range(5000)]}}}).encode()
    clauses = json.dumps({"query": {"bool": {"should": [{"term": {"stock": at}} for at in range(1100)]}}}).encode()
    digits = b'{"size":' + b"1" * 5000 + b"}"
    return [*nested, *arrays, long_text, many, clauses, digits, b'{"size":1}' + b" " * 100_000]
