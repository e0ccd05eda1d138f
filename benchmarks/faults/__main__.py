"""The command: `python -m benchmarks.faults` runs the fault tests, keeps their record and prints it as a table."""

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

TESTS = "tests/integration/test_serve_faults.py"
PACKAGES = ("aiohttp", "fastapi", "httptools", "openai", "opensearch-py", "uvicorn", "uvloop")
HEAD = ("fault", "requests", "answers", "said to be missing", "beyond the deadline", "whole again after")


@click.command()
@click.option("--only", metavar="EXPRESSION", help="Of pytest's -k: some of the faults.")
def main(only: str | None) -> None:
    """Break everything in turn while searches come."""
    with tempfile.TemporaryDirectory(prefix="lrem-os-faults-") as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "pytest", "-q", TESTS, *(("-k", only) if only else ())]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "LREM_OS_FAULTS": str(file)})
        rows = json.loads(file.read_text()) if file.exists() else []
    if done.returncode == 0 and only is None:
        write_result(
            "faults",
            {"rows": rows},
            ["aiohttp", "fastapi", "httptools", "openai", "opensearch-py", "uvicorn", "uvloop"],
        )
    click.echo(as_table(rows))
    sys.exit(done.returncode)


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the record as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *(map(_cells, rows))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    late = f"{row['beyond_ms']:.0f} ms" if row["beyond_ms"] > 0 else "-"
    recovered = "-" if row["recovered_s"] is None else f"{row['recovered_s']:.1f} s"
    return row["fault"], str(row["requests"]), _counts(row["statuses"]), _counts(row["degraded"]), late, recovered


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "-"


if __name__ == "__main__":
    main()
