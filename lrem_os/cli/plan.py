"""``lrem-os plan``: what a catalog and its traffic need, in machines and money; and the measuring of this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.planning.plan import Demand, Plan

_FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9}
_GPUS = ("t4", "l4", "a10g", "l40s", "a100", "h100")


class Count(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 only
    """A whole number, also as 500k, 100M or 1.5B."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        if isinstance(value, int | float):
            return value
        text = value.strip().lower().replace("_", "").replace(",", "")
        factor = _FACTORS.get(text[-1:], 1)
        try:
            number = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            number = 0.0
        if not 1 <= number < float("inf"):
            self.fail(f"{value!r} is no number of things: write it like 250000, 500k, 100M or 1.5B", param, ctx)
        return number


_CALM = 0.5
_SHARE = click.FloatRange(0, 1)
_MORE = click.FloatRange(0, min_open=True)


@click.command(context_settings={"show_default": True})
@click.option("--items", type=Count(), help="Products: 250000, 500k, 100M.")
@click.option("--qps", type=_MORE, help="Queries a second at the peak.")
@click.option("--hard-share", type=_SHARE, help="Of the queries, which are reasoned about.  [default: route.share]")
@click.option("--repeat-share", type=_SHARE, default=0.3, help="Of the queries, which a service was asked lately.")
@click.option("--replicas", type=click.IntRange(0, 20), default=1, help="Copies of the index beside its primaries.")
@click.option("--node-memory", type=_MORE, default=64.0, help="Memory of a data node, in GB.")
@click.option("--node-cores", type=click.IntRange(1), default=16, help="Cores of a data node.")
@click.option("--node-disk", type=_MORE, default=1000.0, help="Disk of a data node, in GB.")
@click.option("--shard-gb", type=_MORE, default=30.0, help="Largest primary shard.")
@click.option("--item-bytes", type=_MORE, help="Disk of a product without its vector.  [default: as calibrated]")
@click.option("--search-cpu-ms", type=_MORE, help="CPU of all nodes for a search.  [default: extrapolated]")
@click.option("--gpu", type=click.Choice(_GPUS), help="Estimate the models for this GPU, from its data sheet.")
@click.option("--reasoner-size", type=Count(), default="135M", help="With --gpu: parameters of the reasoner.")
@click.option("--ingest-devices", type=click.IntRange(1), default=1, help="GPUs, or machines, that embed the catalog.")
@click.option("--max-missed", type=_SHARE, default=0.05, help="Of the hard queries, which may go without reasoning.")
@click.option("--mean-load", type=click.FloatRange(0, 1, min_open=True), default=0.5, help="Mean of --qps over a day.")
@click.option("--node-price", type=_MORE, help="Price of a data node for an hour, in eval.currency.")
@click.option("--service-price", type=_MORE, help="Of a service with its GPU.  [default: eval.gpu_hour_price]")
@click.option(
    "--queries", type=click.IntRange(0), default=2000, help="Simulated for each size tried; 0: no simulation."
)
@click.option("--calibration", type=click.Path(dir_okay=False, path_type=Path), help="File of --calibrate.")
@click.option("--calibrate", type=click.Path(dir_okay=False, path_type=Path), help="Measure this machine into a file.")
@click.option("--catalog", type=click.Path(path_type=Path), help="With --calibrate: your own products.")
@click.option("--no-cluster", is_flag=True, help="With --calibrate: models alone.")
@json_option
@config_options
def plan(
    items: float | None,
    qps: float | None,
    calibrate: Path | None,
    calibration: Path | None,
    catalog: Path | None,
    no_cluster: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    **given: Any,
) -> None:
    """Show what a catalog and its traffic need: shards, memory, nodes, ingest hours, services, price.

    Engine, links, deadlines and batches are those of the configuration. What machines do is taken from a calibration:
    the one that ships (two cores, no GPU), or one that --calibrate measured. Every number says where it is from;
    docs/plan.md has the formulas.

    \b
    lrem-os plan --items 100M --qps 2000 --hard-share 0.2 --gpu l4 --set reasoning.backend=vllm
    lrem-os plan --calibrate machine.json --catalog catalog.jsonl
    lrem-os plan --items 2M --qps 50 --calibration machine.json --node-price 0.5 --service-price 1.2 --json
    """
    from lrem_os.config import load_settings

    settings = load_settings(config_path, overrides).settings
    if calibrate is not None:
        _calibrate(settings, calibrate, catalog, with_cluster=not no_cluster, as_json=as_json)
    if items is None or qps is None:
        if calibrate is not None and items is None and qps is None:
            return
        raise click.UsageError("say what is to be planned: --items and --qps (or measure: --calibrate FILE)")
    from lrem_os.planning.run import plan_for

    demand = _demand(settings, items, qps, given)
    found, of = plan_for(
        settings,
        demand,
        calibration or calibrate,
        gpu=given["gpu"],
        reasoner_parameters=given["reasoner_size"],
        on_progress=lambda text: click.echo(text, err=True),
    )
    if as_json:
        print_json(plan_row(found, demand, of))
    else:
        _show(found, of, settings.eval.currency)


def _demand(settings: Any, items: float, qps: float, given: dict[str, Any]) -> Demand:
    from lrem_os.planning.plan import Demand
    from lrem_os.planning.sizes import Node

    return Demand(
        items=int(items),
        qps=qps,
        hard_share=settings.route.share if given["hard_share"] is None else given["hard_share"],
        repeat_share=given["repeat_share"],
        replicas=given["replicas"],
        shard_gb=given["shard_gb"],
        node=Node(given["node_memory"], given["node_cores"], given["node_disk"]),
        other_bytes=given["item_bytes"],
        search_cpu_ms=given["search_cpu_ms"],
        ingest_devices=given["ingest_devices"],
        max_missed=given["max_missed"],
        mean_load=given["mean_load"],
        node_hour=given["node_price"],
        service_hour=given["service_price"] or settings.eval.gpu_hour_price,
        queries=given["queries"],
    )


def _calibrate(settings: Any, path: Path, catalog: Path | None, *, with_cluster: bool, as_json: bool) -> None:
    from lrem_os.planning.calibration import write_calibration
    from lrem_os.planning.run import calibrate_here

    found = calibrate_here(
        settings, catalog, with_cluster=with_cluster, on_progress=lambda text: click.echo(f"measuring {text}", err=True)
    )
    write_calibration(path, found)
    if found.load_before > _CALM:
        click.echo(
            f"warning: {found.load_before:.1f} processes a core ran beside it: the values are of a busy machine",
            err=True,
        )
    click.echo(f"written: {path}", err=True)
    if as_json:
        print_json(found.model_dump(mode="json"))


def plan_row(found: Plan, demand: Demand, calibration: str) -> dict[str, Any]:
    """Return a plan as JSON values: by section and name, each with where it is from."""
    sections: dict[str, dict[str, Any]] = {}
    for line in found.lines:
        sections.setdefault(line.section, {})[line.name] = {
            "value": line.value,
            "basis": line.basis,
            "note": line.note,
        }
    return {
        "demand": asdict(demand),
        "calibration": calibration,
        **sections,
        "storages": [asdict(row) for row in found.storages],
        "simulated": None if found.simulated is None else asdict(found.simulated),
        "warnings": list(found.warnings),
    }


def _show(found: Plan, calibration: str, currency: str) -> None:
    from lrem_os.cli.tables import print_table

    rows = [
        (line.section, line.name.replace("_", " "), _number(line.value), line.basis, line.note) for line in found.lines
    ]
    print_table(("", "", "", "from", ""), rows, title=f"calibration: {calibration}; prices in {currency}")
    storages = [
        ("*" if row.chosen else "", row.name, _number(row.memory_gb), _number(row.disk_gb), str(row.nodes), row.setting)
        for row in found.storages
    ]
    print_table(("", "vectors kept by", "memory GB", "disk GB", "nodes", "how"), storages)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    if value == int(value) and abs(value) >= 1:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
