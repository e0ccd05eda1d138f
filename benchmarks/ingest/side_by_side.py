"""Vectors given: every way to load, one after the other, round after round; each rate against the limit's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ingest.methods import LIMITS, METHODS
from benchmarks.ingest.processes import WorkerFailed, run_worker

INDEX = "bench-ingest"
PACKAGES = (
    "lrem-os",
    "opensearch-py",
    "opensearch-haystack",
    "haystack-ai",
    "llama-index-vector-stores-opensearch",
    "llama-index-core",
    "langchain-community",
    "orjson",
    "numpy",
)
TARGET = 0.80
BUSY_CORES = 0.1
_SWEEP_DOCS = 6000
_SENDERS = (1, 2, 3, 4)
_BULK_DOCS = (250, 500, 1000, 2000)
_FIRST_SIZE = 500

Say = Callable[[str], None]


def find_best_limit(
    url: str, folder: Path, patience_s: float, say: Say
) -> tuple[list[dict[str, int]], list[list[float]]]:
    """Return the two fastest settings of the limit, and all rates: senders first, then sizes with the best two."""
    job = {
        "kind": "sweep",
        "url": url,
        "index": INDEX,
        "folder": str(folder),
        "num": _SWEEP_DOCS,
        "patience_s": patience_s,
    }
    rates = run_worker(job | {"grid": [[senders, _FIRST_SIZE] for senders in _SENDERS]})["rates"]
    fastest = [int(rate[0]) for rate in sorted(rates, key=lambda rate: -rate[2])[:2]]
    sizes = [size for size in _BULK_DOCS if size != _FIRST_SIZE]
    rates += run_worker(job | {"grid": [[senders, size] for size in sizes for senders in fastest]})["rates"]
    for senders, bulk_docs, rate in rates:
        say(f"  limit with {senders:.0f} senders, {bulk_docs:4.0f} documents a request: {rate:6.0f} docs/s")
    best = sorted(rates, key=lambda rate: -rate[2])[:2]
    return [{"senders": int(senders), "bulk_docs": int(bulk_docs)} for senders, bulk_docs, _ in best], rates


def compare(
    url: str,
    folder: Path,
    methods: Sequence[str],
    rounds: int,
    patience_s: float,
    options: Mapping[str, Any],
    say: Say,
) -> dict[str, Any]:
    """Run every method once a round; return all runs and the summary.

    Args:
        url: The node.
        folder: The sample.
        methods: Names of ``METHODS``; the limits are added.
        rounds: How often.
        patience_s: How long to wait for a calm machine before each run.
        options: ``ingest`` settings for lrem-os, beside its defaults.
        say: Told what happens.
    """
    limits, sweep = find_best_limit(url, folder, patience_s, say)
    names = [*LIMITS, *methods]
    given = dict(zip(LIMITS, limits, strict=True)) | {"lrem_os": dict(options)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            if any("docs_per_s" not in run for run in runs[name]):
                continue  # not installed, or failed: it would be the same again
            job = {"kind": "load", "method": name, "url": url, "index": INDEX, "folder": str(folder)}
            runs[name].append(_attempt(job | {"options": given.get(name, {}), "patience_s": patience_s}))
            say(f"  round {number}: {METHODS[name].title:38} {_outcome(runs[name][-1])}")
    return {
        "rounds": rounds,
        "limit_sweep": sweep,
        "limit_settings": dict(zip(LIMITS, limits, strict=True)),
        "lrem_os_options": dict(options),
        "methods": summarise(runs),
        "runs": runs,
    }


def summarise(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return medians per method, and its ratio to the limit: per round, then the median of those.

    The limit is the setting with the higher median; the other one stays in the table. ``cpu_ratio`` is the limit's CPU
    time, client and node, over the method's: what the ratio would be if both kept every core of a shared machine busy
    all the time. It hardly moves when something else runs beside the benchmark.
    """
    limit = max(LIMITS, key=lambda name: median(run["docs_per_s"] for run in runs[name]))
    limit_rates = [run["docs_per_s"] for run in runs[limit]]
    limit_cpu_s = [run["client_cpu_s"] + run["node_cpu_s"] for run in runs[limit]]
    summary: dict[str, dict[str, Any]] = {}
    for name, measured in runs.items():
        facts: dict[str, Any] = {"title": METHODS[name].title, "is_limit": name == limit}
        if failed := [run for run in measured if "docs_per_s" not in run]:
            summary[name] = facts | {"status": failed[0].get("error") or f"{failed[0]['missing']}: not installed"}
            continue
        ratios = [run["docs_per_s"] / rate for run, rate in zip(measured, limit_rates, strict=True)]
        cpu_ratios = [
            cpu_s / (run["client_cpu_s"] + run["node_cpu_s"]) for run, cpu_s in zip(measured, limit_cpu_s, strict=True)
        ]
        facts |= {
            key: median(run[key] for run in measured)
            for key in ("docs_per_s", "client_cpu_s", "node_cpu_s", "others_cores")
        }
        problems = [problem for run in measured for problem in run["problems"]]
        facts |= {"ratios": ratios, "ratio": median(ratios), "cpu_ratio": median(cpu_ratios)}
        facts |= {"problems": problems, "version": measured[0]["version"]}
        summary[name] = facts | {"status": "verified" if not problems else f"{len(problems)} problems"}
    return summary


def passed(summary: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether lrem-os reaches the target and nothing that was measured is wrong."""
    sound = all(not facts.get("problems") for facts in summary.values())
    return sound and summary.get("lrem_os", {}).get("ratio", 0.0) >= TARGET


def _attempt(job: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return run_worker(job)
    except WorkerFailed as exc:
        return {"error": str(exc)}


def _outcome(run: Mapping[str, Any]) -> str:
    if "missing" in run:
        return f"{run['missing']} is not installed"
    if "error" in run:
        return f"failed: {run['error'].splitlines()[-1]}"
    text = f"{run['docs_per_s']:6.0f} docs/s, CPU {run['client_cpu_s']:.1f} s client, {run['node_cpu_s']:.1f} s node"
    text += f", others {run['others_cores']:.1f} cores" if run["others_cores"] >= BUSY_CORES else ""
    return text + (f"; WRONG: {run['problems'][0]}" if run["problems"] else "")
