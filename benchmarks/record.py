"""Tests whose record is a result: run them, read what they kept, show it as Markdown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT


def run_recorded(
    tests: str, *options: str, variable: str, environment: Mapping[str, str] | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Run tests; return pytest's exit code and the rows that they kept, none where they did not come that far.

    Args:
        tests: File or folder in this checkout.
        options: More for pytest.
        variable: Environment variable that tells the tests which file to keep their rows in.
        environment: Other variables for them.
    """
    with tempfile.TemporaryDirectory(prefix="lrem-os-record-") as folder:
        file = Path(folder) / "rows.json"
        environ = {**os.environ, **(environment or {}), variable: str(file)}
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", tests, *options], cwd=ROOT, env=environ)
        return done.returncode, json.loads(file.read_text()) if file.exists() else []


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *rows))


def told_counts(counts: Mapping[str, int]) -> str:
    """Return what was counted, such as ``3 direct, 5 reasoned``."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "-"
