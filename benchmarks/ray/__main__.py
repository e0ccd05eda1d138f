"""The command: `python -m benchmarks.ray`; results go to benchmarks/results/."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.ingest.__main__ import find_url
from benchmarks.ingest.data import write_synthetic_catalog
from benchmarks.machine import write_result
from benchmarks.ray.runs import run_all
from lrem_os.config import CatalogSettings, Settings
from lrem_os.errors import LremError

PACKAGES = ("lrem-os", "ray", "pyarrow", "torch", "opensearch-py", "numpy")


@click.command(context_settings={"show_default": True})
@click.option("--num", type=click.IntRange(100), default=20_000, help="Products, made up.")
@click.option("--model", default="fake:384", help="As in model.name of the configuration.")
@click.option("--share", type=click.FloatRange(0, 1), default=0.3, help="Part of the rows before a node is killed.")
@click.option("--node", "node_url", metavar="URL", help="OpenSearch to load into; the local node if not given.")
@click.option("--name", default="ray", help="Of the result file under benchmarks/results/.")
def main(num: int, model: str, share: float, node_url: str | None, name: str) -> None:
    """Load products through one process, through two Ray nodes, and through two with one killed: the same each time?"""
    console = Console(highlight=False, width=max(120, Console().width))
    runs: list[dict[str, Any]] = []
    try:
        settings = Settings(
            model={"name": model, "device": "cpu"},
            search={"hosts": [find_url(node_url)]},
            ray={"cpus": 1, "embedders": 2, "block_bytes": 300_000},
        )
        with tempfile.TemporaryDirectory(prefix="lrem-os-bench-") as folder:
            catalog = Path(folder) / "catalog.jsonl"
            write_synthetic_catalog(catalog, num, CatalogSettings())
            for entry in run_all(catalog, settings, share):
                runs.append(entry)
                console.print(f"  {entry['way']}: {entry['counts']}, {entry['docs_per_s']:,.0f} documents/s")
    except LremError as exc:
        raise click.ClickException(str(exc)) from exc
    same = len({(entry["index"]["sha256"], str(entry["counts"])) for entry in runs}) == 1
    killed = bool(runs[-1]["killed_at"])
    table = Table(
        "", "s", "documents/s", "first one after s", "documents/s from then on", "indexed", "killed at", "index"
    )
    for entry in runs:
        table.add_row(
            entry["way"],
            f"{entry['seconds']:.1f}",
            f"{entry['docs_per_s']:,.0f}",
            f"{entry['first_indexed_s']:.1f}",
            f"{entry['docs_per_s_after_the_first']:,.0f}",
            f"{entry['counts']['indexed']:,}",
            f"{entry['killed_at'].get('decided', '–')}",
            f"{entry['index']['documents']:,} {entry['index']['sha256'][:8]}",
        )
    console.print(table)
    path = write_result(
        name, {"num": num, "model": model, "same": same, "killed": killed, "runs": runs}, packages=PACKAGES
    )
    console.print(f"{'the same each time' if same else 'NOT THE SAME'}; written to {path}")
    sys.exit(0 if same and killed else 1)


if __name__ == "__main__":
    main()
