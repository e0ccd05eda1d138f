"""What a benchmark number means nothing without: the machine, the commit, the versions; and the file it ends in."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
import psutil

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, and how busy the machine is already."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def git_commit() -> str:
    """Return the commit of the checkout, with ``+`` when files differ from it; ``unknown`` outside of git."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions; ``not installed`` where there is none."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_result(name: str, payload: Mapping[str, Any], packages: Iterable[str], folder: Path = RESULTS) -> Path:
    """Write ``results/NAME.json`` with machine, date, commit and versions on top; return the path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    head = {
        "benchmark": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": git_commit(),
        "machine": describe_machine(),
        "versions": package_versions(packages),
    }
    path.write_bytes(orjson.dumps(head | dict(payload), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
