"""Measures and tests over many queries, beside plain ranx and ir_measures: `python -m benchmarks.eval --help`.

The result goes to benchmarks/results/eval.json. The ways take turns, each in a process of its own, on the same files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.eval import data
from benchmarks.eval.worker import MEASURES, WAYS
from benchmarks.machine import ROOT, write_result

MAX_RATIO, MAX_DIFFERENCE = 1.3, 1e-9
_PACKAGES = ("lrem-os", "ranx", "ir-measures", "pytrec-eval-terrier", "pytrec_eval", "numba", "numpy", "scipy")
_OURS = "lrem-os"


def write_files(folder: Path, queries: int, depth: int, runs: int) -> int:
    """Write judgments and runs; return their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    data.write_qrels(folder / "qrels.txt", queries)
    for run in range(runs):
        data.write_run(folder / f"run{run}.trec", run, queries, depth)
    return sum(path.stat().st_size for path in folder.glob("run*.trec"))


def run_way(way: str, folder: Path, timeout_s: float) -> dict[str, Any]:
    """Return what a way measured; an ``error`` where it did not come to an end."""
    command = [sys.executable, "-m", "benchmarks.eval.worker", way, str(folder)]
    busy = psutil.cpu_times()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer after {timeout_s:g} s"}
    if done.returncode:
        return {"error": f"exit {done.returncode}: {done.stderr.decode()[-500:]}"}
    answer: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    after = psutil.cpu_times()
    used = (after.user - busy.user) + (after.system - busy.system)
    others = max(0.0, used - answer["total"]["cpu_s"])
    return answer | {"busy_cores_of_others": round(others / max(answer["total"]["wall_s"], 1e-9), 2)}


def differences(found: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return per other way the largest difference of a mean to ours. Equal scores are in no stated order in ranx."""
    ours = [one["means"] for one in found.get(_OURS, []) if "means" in one]
    return {
        way: max(
            abs(one["means"][run][name] - ours[0][run][name])
            for one in rounds
            if "means" in one
            for run in ours[0]
            for name in MEASURES
        )
        for way, rounds in found.items()
        if way != _OURS and ours and any("means" in one for one in rounds)
    }


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians per way, and our ratio to the fastest of the others."""
    table = {}
    for way, rounds in found.items():
        fine = [one for one in rounds if "error" not in one]
        if fine:
            table[way] = {
                "wall_s": median(one["total"]["wall_s"] for one in fine),
                "cpu_s": median(one["total"]["cpu_s"] for one in fine),
                "read_and_measure_cpu_s": median(one["times"]["read_and_measure"]["cpu_s"] for one in fine),
                "compare_cpu_s": median(one["times"]["compare"]["cpu_s"] for one in fine),
                "peak_mib": max(one["peak_mib"] for one in fine),
                "grown_mib": max(one["peak_mib"] - one["before_mib"] for one in fine),
            }
    others = [one for way, one in table.items() if way != _OURS]
    if _OURS not in table or not others:
        return {"ways": table, "ratio": {}}
    ratio = {unit: table[_OURS][unit] / min(one[unit] for one in others) for unit in ("wall_s", "cpu_s", "peak_mib")}
    return {"ways": table, "ratio": ratio}


def show(told: dict[str, Any], difference: dict[str, float]) -> None:
    table = Table(title="read, measure, compare")
    for column in ("", "wall s", "CPU s", "read + measure, CPU s", "compare, CPU s", "peak MiB", "of it grown"):
        table.add_column(column, justify="left" if not column else "right")
    for way, one in told["ways"].items():
        table.add_row(way, *(f"{one[key]:,.1f}" for key in one))
    console = Console(highlight=False)
    console.print(table)
    for unit, value in told["ratio"].items():
        console.print(f"lrem-os over the better of the others, {unit}: {value:.2f}")
    for way, value in difference.items():
        console.print(f"largest difference of a mean to {way}: {value:.1e}")


@click.command(context_settings={"show_default": True})
@click.option("--queries", default=5_000, help="The full size is 100,000.")
@click.option("--depth", default=1_000, help="Results a query.")
@click.option("--runs", default=6)
@click.option("--rounds", default=1)
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), default=list(WAYS))
@click.option(
    "--folder", type=click.Path(path_type=Path), help="For the files; 40 bytes a result  [default: temporary]"
)
@click.option("--timeout", default=3600.0, help="Seconds that a way may take.")
@click.option("--result", "name", default="eval", help="Name of the file under benchmarks/results.")
def main(
    queries: int,
    depth: int,
    runs: int,
    rounds: int,
    ways: tuple[str, ...],
    folder: Path | None,
    timeout: float,
    name: str,
) -> None:
    """Evaluate the same run files with lrem-os, ranx and ir_measures."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary)
        size = write_files(place, queries, depth, runs)
        write_files(place / "warm", 20, 50, 2)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                found[way].append(run_way(way, place, timeout))
                click.echo(f"{way}: {found[way][-1].get('error') or found[way][-1]['total']}", err=True)
    told, difference = summary(found), differences(found)
    show(told, difference)
    met = {}  # of what was compared
    if "ir_measures" in difference:
        met["same_means"] = difference["ir_measures"] <= MAX_DIFFERENCE
    if told["ratio"]:
        met["time"] = told["ratio"]["cpu_s"] <= MAX_RATIO
    payload = {
        "queries": queries,
        "depth": depth,
        "runs": runs,
        "rows": queries * depth * runs,
        "bytes": size,
        "measures": MEASURES,
        "largest_difference_of_a_mean_to": difference,
        "max_ratio": MAX_RATIO,
        "met": met,
        **told,
        "rounds": found,
    }
    click.echo(write_result(name, payload, _PACKAGES))
    sys.exit(0 if all(met.values()) else 1)


if __name__ == "__main__":
    main()
