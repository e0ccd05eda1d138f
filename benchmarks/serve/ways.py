"""The ways to search that are compared, as request bodies; and the index they search.

All of them ask for the same ten hits of the same hybrid search: the body that `lrem-os search` sends, whose `knn`
clause holds the vector. Before the service, a `neural` clause with the text stands in its place.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.ingest.data import hashed_vectors
from lrem_os import api
from lrem_os.config import Settings
from lrem_os.ingest.run import IngestOptions
from lrem_os.search.requests import SearchSetup, build_body
from lrem_os.types import Embedder, Vectors

INDEX = "bench-serve"
TOP_K = 10
_WORDS = 4  # of a title, as a query


class Stand:
    """Stands for the model while the index is filled: its identity and dimension, but vectors made from words.

    What a search costs does not depend on what the vectors mean, and a model would take minutes to make them.
    """

    def __init__(self, model: Embedder) -> None:
        self.identity, self.dimension = model.identity, model.dimension

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return a unit vector per text."""
        return hashed_vectors(texts, self.dimension)

    embed_queries = embed_items


def fill(settings: Settings, catalog: Path, num: int, model: Embedder, folder: Path) -> list[str]:
    """Ingest the first ``num`` products of a catalog; return queries, made of the beginnings of their titles."""
    rows = list(itertools.islice(_rows(catalog), num))
    path = folder / "catalog.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    api.ingest_catalog(settings, [str(path)], IngestOptions(recreate=True), embedder=Stand(model))
    return list(dict.fromkeys(" ".join(str(row["title"]).split()[:_WORDS]).lower() for row in rows))


def raw_body(setup: SearchSetup, text: str, vector: Sequence[float]) -> dict[str, Any]:
    """Return the body that needs no service."""
    return build_body(setup, "hybrid", text, vector, top_k=TOP_K)


def neural_body(setup: SearchSetup, text: str, route: str, deadline_ms: float | None = None) -> dict[str, Any]:
    """Return the same search as a client asks the service for it."""
    body = build_body(setup, "hybrid", text, [0.0], top_k=TOP_K)
    legs: list[Mapping[str, Any]] = body["query"]["hybrid"]["queries"]
    field = setup.index.vector_field
    knn = next(leg["knn"][field] for leg in legs if "knn" in leg)
    neural = {"neural": {field: {"query_text": text} | {key: knn[key] for key in knn if key != "vector"}}}
    body["query"]["hybrid"]["queries"] = [neural if "knn" in leg else leg for leg in legs]
    asked = {"route": route} | ({} if deadline_ms is None else {"deadline_ms": deadline_ms})
    return body | {"ext": {"lrem": asked}}


def _rows(catalog: Path) -> Iterator[dict[str, Any]]:
    seen = set()
    with gzip.open(catalog) if catalog.suffix == ".gz" else catalog.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            if row.get("title") and row["id"] not in seen:
                seen.add(row["id"])
                yield row
