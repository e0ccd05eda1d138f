"""The command: `python -m benchmarks.faults` runs the fault tests, keeps their record and prints it as a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from benchmarks.machine import write_result
from benchmarks.record import as_table, run_recorded, told_counts

TESTS = "tests/integration/test_serve_faults.py"
PACKAGES = ("aiohttp", "fastapi", "httptools", "openai", "opensearch-py", "uvicorn", "uvloop")
HEAD = ("fault", "requests", "answers", "said to be missing", "beyond the deadline", "whole again after")


@click.command()
@click.option("--only", metavar="EXPRESSION", help="Of pytest's -k: some of the faults.")
def main(only: str | None) -> None:
    """Break everything in turn while searches come."""
    code, rows = run_recorded(TESTS, *(("-k", only) if only else ()), variable="LREM_OS_FAULTS")
    if code == 0 and only is None:
        write_result("faults", {"rows": rows}, PACKAGES)
    click.echo(as_table(HEAD, [_cells(row) for row in rows]))
    sys.exit(code)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    late = f"{row['beyond_ms']:.0f} ms" if row["beyond_ms"] > 0 else "-"
    recovered = "-" if row["recovered_s"] is None else f"{row['recovered_s']:.1f} s"
    return (
        row["fault"],
        str(row["requests"]),
        told_counts(row["statuses"]),
        told_counts(row["degraded"]),
        late,
        recovered,
    )


if __name__ == "__main__":
    main()
