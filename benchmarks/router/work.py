"""What is worked out once about the queries, and kept in a folder: reasonings, vectors, and from them the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.router.data import Asked
from benchmarks.router.exact import ExactIndex
from lrem_os.config import Settings
from lrem_os.eval.measures import measure_queries, parse_measure
from lrem_os.model.composed import ComposedEmbedder
from lrem_os.model.load import Models
from lrem_os.model.reasoning import combine_keywords
from lrem_os.query_plugin.routing.labels import Label
from lrem_os.text import embedded_text
from lrem_os.train.data import EASY
from lrem_os.types import Embedder, Reasoning

_BATCH = 8
_MEASURE = parse_measure("ndcg@10")

Reasonings = dict[str, tuple[Reasoning, ...]]
Vectors = dict[str, NDArray[np.float32]]


def reason(texts: Sequence[str], models: Models, path: Path, say: Callable[[str], None]) -> Reasonings:
    """Return the product's reasoning about each query; what is in the file is not asked again."""
    found: Reasonings = {}
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            if line:
                row = orjson.loads(line)
                found[row["query"]] = tuple(_sample(sample) for sample in row["samples"])
    left = [text for text in texts if text not in found]
    with path.open("ab") as file:
        for first in range(0, len(left), _BATCH):
            part = left[first : first + _BATCH]
            for text, samples in zip(part, models.reasoner.reason(part), strict=True):
                found[text] = samples
                row = {"query": text, "samples": [asdict(sample) for sample in samples]}
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            say(f"reasoned about {first + len(part)} of {len(left)}")
    return {text: found[text] for text in texts}


def _sample(row: Mapping[str, Any]) -> Reasoning:
    known = dict(row, keywords=tuple(row["keywords"]))
    return Reasoning(**(known | {"confidence": float("nan") if row["confidence"] is None else row["confidence"]}))


class _Given:
    """A reasoner that has its answers already."""

    identity: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, reasonings: Reasonings) -> None:
        self._reasonings = reasonings

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        return [self._reasonings[query] for query in queries]


def embed(
    reasonings: Reasonings, embedder: Embedder, settings: Settings, path: Path, say: Callable[[str], None]
) -> tuple[Vectors, Vectors]:
    """Return the direct and the reasoned vector of each query; what is in the file is not embedded again."""
    known: dict[str, NDArray[np.float32]] = {}
    if path.exists():
        with np.load(path) as kept:
            known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))  # (2, D) each
    composed = ComposedEmbedder(embedder, _Given(reasonings), settings.reasoning)
    left = [text for text in reasonings if text not in known]
    for first in range(0, len(left), _BATCH):
        part = left[first : first + _BATCH]
        for text, direct, reasoned in zip(
            part, embedder.embed_queries(part), composed.embed_reasoned(part).vectors, strict=True
        ):
            known[text] = np.stack([direct, reasoned])
        say(f"embedded {first + len(part)} of {len(left)}")
    np.savez(path, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
    return {text: known[text][0] for text in reasonings}, {text: known[text][1] for text in reasonings}


def embed_items(
    rows: Sequence[Mapping[str, Any]], embedder: Embedder, settings: Settings, path: Path
) -> NDArray[np.float32]:
    """Return the vectors of the catalog."""
    if path.exists():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    vectors = embedder.embed_items([embedded_text(row, settings.catalog.embed) for row in rows])
    np.save(path, vectors)
    return vectors


def label(
    asked: Sequence[Asked],
    index: ExactIndex,
    settings: Settings,
    reasonings: Reasonings,
    direct: Vectors,
    reasoned: Vectors,
) -> list[Label]:
    """Return what reasoning gains on each query, both ways answered as the product answers them in mode hybrid."""
    before, after = [], []
    for one in asked:
        keywords = tuple(combine_keywords(reasonings[one.text]))
        plain = index.bm25(one.text)
        before.append(_hybrid(index, settings, plain, direct[one.text], settings.search.weights))
        if keywords:
            boosted = index.bm25(one.text, keywords, settings.reasoning.text_boost)
            after.append(_hybrid(index, settings, boosted, reasoned[one.text], settings.reasoning.weights))
        else:
            after.append(before[-1])  # a query about which nothing is said is asked as without reasoning
    judged = [one.judged for one in asked]
    first = measure_queries([_MEASURE], before, judged)[_MEASURE]
    gains = measure_queries([_MEASURE], after, judged)[_MEASURE] - first
    return [
        Label(
            one.query_id,
            one.text,
            one.type if one.hard else EASY,
            gain,
            direct[one.text],
            index.probe(one.text, direct[one.text]),
            at,
        )
        for one, gain, at in zip(asked, gains.tolist(), first.tolist(), strict=True)
    ]


def _hybrid(
    index: ExactIndex,
    settings: Settings,
    bm25: NDArray[np.float64],
    vector: NDArray[np.float32],
    weights: tuple[float, float],
) -> list[str]:
    depth = settings.search.candidates
    return index.hybrid(bm25, index.cosine(vector), weights, candidates=depth, top_k=_MEASURE.cutoff)
