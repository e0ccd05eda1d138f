"""The command: `python -m benchmarks.cluster` runs the cluster tests on a larger catalog, and keeps their record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from benchmarks.machine import write_result
from benchmarks.record import as_table, run_recorded, told_counts

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
    options = ("--timeout=3600", *(("-k", only) if only else ()))
    sized = {"LREM_OS_CLUSTER_PRODUCTS": str(products)}
    code, rows = run_recorded(TESTS, *options, variable="LREM_OS_CLUSTER", environment=sized)
    if code == 0 and only is None:
        write_result("cluster", {"products": products, "rows": rows}, PACKAGES)
    click.echo(as_table(HEAD, [_cells(row) for row in rows]))
    sys.exit(code)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    event = "; ".join((row["event"], *row["notes"]))
    times = f"{row['seconds']:.0f} s", f"{row['slowest_s']:.1f} s"
    counts = str(row["requests"]), told_counts(row["statuses"])
    return (
        event,
        times[0],
        *counts,
        times[1],
        f"{row['partial']}, {row['direct_partial']} without a service",
        *map(str, (row["direct_searches"], row["indexed"])),
        told_counts(row["degraded"]),
    )


if __name__ == "__main__":
    main()
