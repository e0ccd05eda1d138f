"""The same documents and vectors for everyone: a sample of a catalog, on disk, that every process reads back."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lrem_os.config import CatalogSettings, IndexSettings, Settings
from lrem_os.ingest.documents import build_document
from lrem_os.ingest.sources import Source, read_rows
from lrem_os.types import Document, Vectors

VECTOR_FIELD = "embedding"
_BUCKETS = 2**15
_WORDS = re.compile(r"\w+")
_VECTOR_CHARS = 600


class SampleError(Exception):
    """The catalog cannot be sampled; the message says why."""


def bench_settings(index: str) -> Settings:
    """Return the default configuration with an index and a vector field of the benchmark's own."""
    return Settings(index=IndexSettings(name=index, vector_field=VECTOR_FIELD))


def make_sample(catalog: Path, num: int | None, dimension: int, folder: Path) -> int:
    """Write ``catalog.jsonl`` (the first ``num`` usable rows, as they stand) and ``vectors.npy``; return their number.

    Raises:
        SampleError: No such file, or no usable rows.
    """
    if not catalog.is_file():
        raise SampleError(f"no catalog at {catalog}: name one with --catalog, or set LREM_OS_SHARED")
    with (folder / "catalog.jsonl").open("wb") as out:
        seen: set[Any] = set()
        for line in _lines(catalog):
            row = orjson.loads(line)
            if row.get("id") in seen or not row.get("title"):
                continue
            seen.add(row["id"])
            out.write(line)
            if num is not None and len(seen) >= num:
                break
    if not seen:
        raise SampleError(f"{catalog} holds no rows with id and title")
    texts = [document.text for document in load_documents(folder)]
    np.save(folder / "vectors.npy", hashed_vectors(texts, dimension))
    return len(texts)


def load_documents(folder: Path, num: int | None = None) -> list[Document]:
    """Return the sample's documents as lrem-os checks and renders them."""
    settings = Settings()
    rows = read_rows(Source(folder / "catalog.jsonl", "catalog.jsonl", "jsonl"))
    documents = []
    for row in rows:
        documents.append(
            build_document(row, "catalog.jsonl", settings.catalog, max_chars=settings.ingest.max_text_chars)[0]
        )
        if num is not None and len(documents) >= num:
            break
    return documents


def load_vectors(folder: Path) -> Vectors:
    """Return the sample's vectors, row by row those of the documents, shape (N, D)."""
    vectors: Vectors = np.load(folder / "vectors.npy")
    return vectors


def hashed_vectors(texts: Sequence[str], dimension: int) -> Vectors:
    """Return a unit vector for each text: the sum of a fixed random vector per word, so that like texts lie close.

    Building an HNSW graph costs more or less work depending on how vectors lie; independent random ones would be
    unlike any catalog.
    """
    table = np.random.default_rng(0).standard_normal((_BUCKETS, dimension), dtype=np.float32)
    vectors = np.empty((len(texts), dimension), dtype=np.float32)
    for row, text in enumerate(texts):
        words = sorted(set(_WORDS.findall(text[:_VECTOR_CHARS].lower()))) or [""]
        vectors[row] = table[[zlib.crc32(word.encode()) % _BUCKETS for word in words]].sum(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class GivenVectors:
    """An embedder that hands out vectors it was given, by text: ingest without the cost of a model."""

    def __init__(self, texts: Sequence[str], vectors: Vectors) -> None:
        self._vectors = vectors
        self._row = {text: row for row, text in enumerate(texts)}  # equal texts have equal vectors

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the index fingerprint is made of."""
        return {"model": "given", "dimension": self.dimension}

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of these texts."""
        return self._vectors[[self._row[text] for text in texts]]

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of these texts."""
        return self.embed_items(texts)


def write_synthetic_catalog(path: Path, num: int, catalog: CatalogSettings) -> None:
    """Write a made-up catalog of ``num`` rows of about 300 bytes, line by line."""
    rng = np.random.default_rng(num)
    words = [f"word{number}" for number in range(5000)]
    with path.open("wb") as file:
        for number in range(num):
            picked = [words[idx] for idx in rng.integers(0, len(words), 30)]
            row = {
                catalog.id: f"p{number}",
                catalog.title: " ".join(picked[:6]),
                "description": " ".join(picked[6:26]),
                "brand": picked[26],
                "category": picked[27],
                "price": float(number % 1000),
            }
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from (line for line in file if line.strip())
