"""The command: `python -m benchmarks.cluster` runs the cluster tests on a larger catalog, and keeps their record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import ROOT, write_result

TESTS = "trials"
PACKAGES = ["aiohttp", "fastapi", "httptools", "opensearch-py", "uvicorn", "uvloop"]
HEAD = (
    "event",
    "lasted",
    "searches",
    "answers",
    "slowest",
    "without hits of a shard",
    "searches without a service",
    "products indexed",
    "said to be missing",
)


@click.command()
@click.option("--products", type=click.IntRange(min=100), default=20_000, show_default=True, help="In the catalog.")
@click.option("--only", metavar="EXPRESSION", help="Of pytest's -k: some of the events. Nothing is kept.")
def main(products: int, only: str | None) -> None:
    """Kill a node, restart all in turn, kill a service, while the shop is searched and loaded."""
    with tempfile.TemporaryDirectory(prefix="lrem-os-cluster-") as folder:
        file = Path(folder) / "rows.json"
        environ = {**os.environ, "LREM_OS_CLUSTER": str(file), "LREM_OS_CLUSTER_PRODUCTS": str(products)}
        command = [sys.executable, "-m", "pytest", "-q", TESTS, "--timeout=3600", *(("-k", only) if only else ())]
        done = subprocess.run(command, cwd=ROOT, env=environ)
        rows = json.loads(file.read_text()) if file.exists() else []
    if done.returncode == 0 and only is None:
        write_result("cluster", {"products": products, "rows": rows}, PACKAGES)
    click.echo(as_table(rows))
    sys.exit(done.returncode)


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the record as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *(map(_cells, rows))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    event = "; ".join((row["event"], *row["notes"]))
    times = f"{row['seconds']:.0f} s", f"{row['slowest_s']:.1f} s"
    counts = str(row["requests"]), _counts(row["statuses"])
    return (
        event,
        times[0],
        *counts,
        times[1],
        f"{row['partial']}, {row['direct_partial']} without a service",
        *map(str, (row["direct_searches"], row["indexed"])),
        _counts(row["degraded"]),
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "-"


if __name__ == "__main__":
    main()
