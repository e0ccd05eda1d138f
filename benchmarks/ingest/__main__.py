"""The command: `python -m benchmarks.ingest`, also with `--embed` or `--scale`; results go to benchmarks/results/."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.ingest import embedding, scale, side_by_side
from benchmarks.ingest.data import SampleError, make_sample
from benchmarks.ingest.methods import LIMITS, METHODS
from benchmarks.ingest.node import connect
from benchmarks.ingest.processes import WorkerFailed
from benchmarks.machine import ROOT, write_result
from lrem_os.config import Settings
from lrem_os.errors import LremError
from lrem_os.search.client import server_info

PEERS = tuple(name for name in METHODS if name not in LIMITS)
_LOAD_DOCS, _EMBED_DOCS = 12_000, 2048


def default_catalog() -> Path:
    """Return the catalog of the shared data, beside the checkout unless ``LREM_OS_SHARED`` says otherwise."""
    return Path(os.environ.get("LREM_OS_SHARED") or ROOT.parent / "shared") / "data" / "icecat" / "catalog.jsonl.gz"


def find_url(given: str | None) -> str:
    """Return the node to load into: the one named, or the local one. Raises ``click.ClickException``."""
    from lrem_os.node.local import find_node

    url = given
    if url is None:
        node = find_node(Settings().node)
        url = node.url if node is not None else None
    if url is None:
        raise click.ClickException("no node: start one with `lrem-os node up`, or name one with --node URL")
    server_info(connect(url))
    return url


@click.command(context_settings={"show_default": True})
@click.option("--embed", "with_model", is_flag=True, help="With the model: ingest against the embedder's own rate.")
@click.option("--scale", "with_scale", is_flag=True, help="Memory at 20,000, 100,000 and 500,000 documents.")
@click.option("--node", "node_url", metavar="URL", help="OpenSearch to load into; the local node if not given.")
@click.option("--catalog", type=click.Path(path_type=Path), default=default_catalog, help="JSONL, also .gz.")
@click.option(
    "--num", type=click.IntRange(1), help="Documents of the catalog: 12,000, with --embed 2,048, if not given."
)
@click.option("--rounds", type=click.IntRange(1), default=3, help="How often each is measured.")
@click.option("--patience", type=float, default=5.0, help="Seconds to wait for a calm machine before each run.")
@click.option("--method", "methods", multiple=True, type=click.Choice(PEERS), help="Only these beside the limit.")
@click.option("--set", "options", multiple=True, metavar="KEY=N", help="An `ingest` setting of lrem-os to try.")
@click.option("--dimension", type=click.IntRange(2), help="Of the vectors: 384, with --scale 32, if not given.")
@click.option("--model", help="With --embed: the model, as in model.name of the configuration.")
@click.option("--sink", type=click.Choice(["node", "null"]), default="node", help="With --scale: where documents go.")
@click.option("--size", "sizes", multiple=True, type=int, default=(20_000, 100_000, 500_000), help="With --scale.")
@click.option("--name", help="Of the result file under benchmarks/results/.")
def main(with_model: bool, with_scale: bool, name: str | None, **given: Any) -> None:
    """Measure how fast lrem-os ingests, against the node's limit and against other libraries."""
    console = Console(highlight=False, width=max(120, Console().width))
    try:
        with tempfile.TemporaryDirectory(prefix="lrem-os-bench-") as folder:
            if with_scale:
                sound = _run_scale(console, Path(folder), name or "ingest-scale", given)
            elif with_model:
                sound = _run_embedding(console, Path(folder), name or "ingest-embed", given)
            else:
                sound = _run_side_by_side(console, Path(folder), name or "ingest", given)
    except (SampleError, WorkerFailed, LremError) as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(0 if sound else 1)


def _run_side_by_side(console: Console, folder: Path, name: str, given: Mapping[str, Any]) -> bool:
    url = find_url(given["node_url"])
    num = make_sample(given["catalog"], given["num"] or _LOAD_DOCS, given["dimension"] or 384, folder)
    console.print(f"{num:,} documents of {given['catalog'].name}, {given['rounds']} rounds, in turns")
    options = {key: int(value) for key, _, value in (option.partition("=") for option in given["options"])}
    result = side_by_side.compare(
        url, folder, given["methods"] or PEERS, given["rounds"], given["patience"], options, console.print
    )
    table = Table("method", "docs/s", "of the limit", "each round", "by CPU", "client CPU s", "node CPU s", "checked")
    for key, facts in sorted(result["methods"].items(), key=lambda item: -item[1].get("docs_per_s", 0)):
        title = f"{facts['title']} {facts.get('version', '')}".strip()
        if key in LIMITS:
            title += " ({senders} senders, {bulk_docs} a request)".format(**result["limit_settings"][key])
        if "ratio" not in facts:
            table.add_row(title, "–", "–", "", "", "", "", facts["status"])
            continue
        table.add_row(
            title,
            f"{facts['docs_per_s']:,.0f}",
            "the limit" if facts["is_limit"] else f"{facts['ratio']:.2f}",
            " ".join(f"{ratio:.2f}" for ratio in facts["ratios"]),
            f"{facts['cpu_ratio']:.2f}",
            f"{facts['client_cpu_s']:.1f}",
            f"{facts['node_cpu_s']:.1f}",
            facts["status"],
        )
    console.print(table)
    busy = max(run.get("others_cores", 0.0) for runs in result["runs"].values() for run in runs)
    if busy >= side_by_side.BUSY_CORES:
        console.print(
            f"Other processes kept up to {busy:.1f} cores busy meanwhile: rates and ratios are not to be trusted."
        )
    passed = side_by_side.passed(result["methods"])
    console.print(f"lrem-os at {side_by_side.TARGET:.2f} of the limit or more: {'yes' if passed else 'no'}")
    _save(console, name, {"num": num, "catalog": given["catalog"].name} | result, side_by_side.PACKAGES)
    return passed


def _run_embedding(console: Console, folder: Path, name: str, given: Mapping[str, Any]) -> bool:
    url = find_url(given["node_url"])
    num = make_sample(given["catalog"], given["num"] or _EMBED_DOCS, 2, folder)
    console.print(f"{num:,} documents of {given['catalog'].name}, {given['rounds']} rounds, in turns")
    result = embedding.compare(url, folder, given["model"], given["rounds"], given["patience"], console.print)
    facts = result["summary"]
    table = Table("", "")
    for label, value in (
        ("embedder alone", f"{facts['embedder_docs_per_s']:.1f} docs/s"),
        ("lrem-os, from the file to the index", f"{facts['ingest_docs_per_s']:.1f} docs/s"),
        ("ratio", f"{facts['ratio']:.3f} ({' '.join(f'{ratio:.3f}' for ratio in facts['ratios'])})"),
        ("CPU s: embedding alone", f"{facts['embed_cpu_s']:.1f}, {facts['cores_busy']:.2f} cores busy"),
        ("CPU s: ingest, client / node", f"{facts['client_cpu_s']:.1f} / {facts['node_cpu_s']:.1f}"),
        (f"ratio that {facts['cores']} cores allow beside the node", f"{facts['ratio_if_only_the_node_cost']:.3f}"),
        ("… and beside the client's own work", f"{facts['ratio_by_all_cpu']:.3f}"),
        ("cores busy with other things, at most", f"{facts['others_cores']:.2f}"),
    ):
        table.add_row(label, value)
    console.print(table)
    passed = facts["ratio"] >= embedding.TARGET and not facts["problems"]
    console.print(f"lrem-os at {embedding.TARGET:.2f} of the embedder's rate or more: {'yes' if passed else 'no'}")
    _save(console, name, {"catalog": given["catalog"].name, "model": given["model"]} | result, embedding.PACKAGES)
    return passed


def _run_scale(console: Console, folder: Path, name: str, given: Mapping[str, Any]) -> bool:
    url = find_url(given["node_url"]) if given["sink"] == "node" else None
    result = scale.measure(url, folder, sorted(given["sizes"]), given["dimension"] or 32, given["sink"], console.print)
    console.print(f"grew by {result['growth_mib']:.1f} MiB ({result['growth_ru_maxrss_mib']:.1f} by ru_maxrss)")
    passed = result["growth_mib"] < scale.TARGET_MIB and not result["problems"]
    console.print(f"less than {scale.TARGET_MIB:.0f} MiB: {'yes' if passed else 'no'}")
    _save(console, name, result, scale.PACKAGES)
    return passed


def _save(console: Console, name: str, result: Mapping[str, Any], packages: tuple[str, ...]) -> None:
    console.print(f"written to {write_result(name, result, packages).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
