"""Memory: the same ingest over ever larger catalogs, its resident memory watched from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ingest.data import write_synthetic_catalog
from benchmarks.ingest.processes import run_worker
from lrem_os.config import CatalogSettings

INDEX = "bench-scale"
PACKAGES = ("lrem-os", "opensearch-py", "orjson", "numpy")
TARGET_MIB = 50.0


def measure(
    url: str | None, folder: Path, sizes: Sequence[int], dimension: int, sink: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Ingest synthetic catalogs of these sizes; return the runs and how much memory grew. Raises ``WorkerFailed``."""
    runs = []
    for num in sizes:
        catalog = folder / f"synthetic-{num}.jsonl"
        write_synthetic_catalog(catalog, num, CatalogSettings())
        job = {"kind": "scale", "url": url, "index": INDEX, "catalog": str(catalog), "num": num}
        run = run_worker(job | {"dimension": dimension, "sink": sink})
        catalog.unlink()
        runs.append(run)
        say(f"  {num:9,} documents: {run['docs_per_s']:6.0f} docs/s, {run['sampled_rss_mib']:.0f} MiB resident at most")
    return {
        "sink": sink,
        "dimension": dimension,
        "growth_mib": runs[-1]["sampled_rss_mib"] - runs[0]["sampled_rss_mib"],
        "growth_ru_maxrss_mib": runs[-1]["peak_rss_mib"] - runs[0]["peak_rss_mib"],
        "problems": [problem for run in runs for problem in run["problems"]],
        "runs": runs,
    }
