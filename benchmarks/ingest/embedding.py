"""With a model: how much of the embedder's own rate is left when the rest of the ingest runs beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.ingest.processes import run_worker

INDEX = "bench-embed"
PACKAGES = ("lrem-os", "torch", "transformers", "opensearch-py", "orjson", "numpy")
TARGET = 0.95


def compare(
    url: str, folder: Path, model: str | None, rounds: int, patience_s: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run embedder alone and ingest in turns; return all runs and the summary. Raises ``WorkerFailed``."""
    alone: list[dict[str, Any]] = []
    ingests: list[dict[str, Any]] = []
    job = {"url": url, "index": INDEX, "folder": str(folder), "model": model, "patience_s": patience_s}
    for number in range(1, rounds + 1):
        for kind, runs in (("embedder", alone), ("embedding_ingest", ingests)):
            runs.append(run_worker(job | {"kind": kind}))
            say(f"  round {number}: {kind:17} {runs[-1]['docs_per_s']:6.1f} docs/s")
    return {"rounds": rounds, "summary": summarise(alone, ingests), "embedder": alone, "ingest": ingests}


def summarise(alone: Sequence[Mapping[str, Any]], ingests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rates, their ratio, and the ratio that this machine allows.

    Where embedding takes every core, each CPU second of the node, on the same machine, is one that embedding lacks:
    so no ingest is faster than ``(embedding CPU + node CPU) / cores``, and with the client's own work than
    ``all CPU / cores``. With a GPU, or a node elsewhere, neither bound applies.
    """
    cores = psutil.cpu_count() or 1
    embed_cpu_s = median(run["client_cpu_s"] for run in alone)
    embed_s = median(run["seconds"] for run in alone)
    node_cpu_s = median(run["node_cpu_s"] for run in ingests)
    client_cpu_s = median(run["client_cpu_s"] for run in ingests)
    ratios = [ran["docs_per_s"] / own["docs_per_s"] for own, ran in zip(alone, ingests, strict=True)]
    node_floor_s = max(embed_s, (embed_cpu_s + node_cpu_s) / cores)
    floor_s = max(embed_s, (max(client_cpu_s, embed_cpu_s) + node_cpu_s) / cores)
    return {
        "num": alone[0]["num"],
        "embedder_docs_per_s": median(run["docs_per_s"] for run in alone),
        "ingest_docs_per_s": median(run["docs_per_s"] for run in ingests),
        "ratios": ratios,
        "ratio": median(ratios),
        "embed_cpu_s": embed_cpu_s,
        "client_cpu_s": client_cpu_s,
        "node_cpu_s": node_cpu_s,
        "cores": cores,
        "cores_busy": embed_cpu_s / embed_s,
        "ratio_if_only_the_node_cost": embed_s / node_floor_s,
        "ratio_by_all_cpu": embed_s / floor_s,
        "others_cores": max(run["others_cores"] for run in [*alone, *ingests]),
        "problems": [problem for run in ingests for problem in run["problems"]],
    }
