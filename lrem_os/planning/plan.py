"""Demand and calibration in, capacity and cost out: index, nodes, ingest, services that reason, price."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lrem_os.config import Settings
from lrem_os.errors import ConfigError
from lrem_os.planning import sizes
from lrem_os.planning.calibration import Calibration, Calls, Cluster
from lrem_os.planning.simulate import Costs, Simulated, simulate
from lrem_os.planning.traffic import Summary, Traffic, summarise

Basis = Literal["given", "measured", "reference", "estimate", "formula", "simulated"]
Progress = Callable[[str], None]

_BUSY = 0.6  # share of a machine's cores that a plan uses at the peak
_WAIT = 1.5  # calls that a query waits for on average in a busy reasoner: half of the one under way, and its own
_TRIES = 12
_SPREAD = 1.25


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be served.

    Args:
        items: Products.
        qps: Queries a second at the peak.
        hard_share: Of the queries, which the router sends to the reasoner.
        repeat_share: Of the queries, which were asked within ``serve.cache_ttl_s`` of the same service.
        replicas: Copies of the index beside its primaries.
        shard_gb: A primary shard is no larger.
        node: Data nodes.
        other_bytes: Disk for a product without its vector; none: as calibrated.
        search_cpu_ms: CPU of all nodes for one search at full size; none: extrapolated from the calibration.
        ingest_devices: GPUs, or machines as calibrated, that embed the catalog.
        max_missed: Of the hard queries, which may go without reasoning.
        mean_load: Mean queries a second as a share of the peak.
        node_hour: Price of a data node for an hour; none: no price is told.
        service_hour: Price of a machine with the service and its models; none likewise.
        queries: That are simulated for each size that is tried; 0: nothing is.
    """

    items: int
    qps: float
    hard_share: float
    repeat_share: float = 0.3
    replicas: int = 1
    shard_gb: float = 30.0
    node: sizes.Node = field(default_factory=sizes.Node)
    other_bytes: float | None = None
    search_cpu_ms: float | None = None
    ingest_devices: int = 1
    max_missed: float = 0.05
    mean_load: float = 0.5
    node_hour: float | None = None
    service_hour: float | None = None
    queries: int = 2000


@dataclass(frozen=True, slots=True)
class Models:
    """What the models do, and how that is known.

    Args:
        embed: Calls of the embedder.
        reason: Calls of the reasoner; none: there is none.
        items_per_s: Products that one device embeds.
        device: Where they run, for people.
        where: The same for the simulation.
        basis: Measured, or an estimate.
    """

    embed: Calls
    reason: Calls | None
    items_per_s: float
    device: str
    where: Literal["cpu", "gpu", "elsewhere"]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Line:
    """One number of a plan.

    Args:
        section: It belongs to.
        name: Of it, with its unit.
        value: Itself; none: there is no such number, and the note says why.
        basis: Where it is from.
        note: For people.
    """

    section: str
    name: str
    value: float | None
    basis: Basis
    note: str = ""


@dataclass(frozen=True, slots=True)
class StorageRow:
    """What another engine or compression would take."""

    name: str
    memory_gb: float
    disk_gb: float
    nodes: int
    setting: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed.

    Args:
        lines: Numbers, section by section.
        storages: The same index, kept otherwise.
        simulated: What the services would answer at the peak; none: nothing was simulated.
        warnings: What the plan does not reach, or does not know.
    """

    lines: tuple[Line, ...]
    storages: tuple[StorageRow, ...]
    simulated: Summary | None
    warnings: tuple[str, ...]

    def value(self, section: str, name: str) -> float | None:
        """Return one number."""
        return next(line.value for line in self.lines if (line.section, line.name) == (section, name))


def models_of(calibration: Calibration, basis: Basis) -> Models:
    """Return what the calibrated machine's models do."""
    return Models(
        embed=calibration.embed_queries,
        reason=calibration.reason,
        items_per_s=calibration.embed_items_per_s,
        device=calibration.machine,
        where=calibration.device,
        basis=basis,
    )


def make_plan(
    demand: Demand,
    settings: Settings,
    calibration: Calibration,
    models: Models,
    basis: Basis,
    *,
    on_progress: Progress = lambda _: None,
) -> Plan:
    """Return what is needed.

    Args:
        demand: What is to be served.
        settings: The configuration: engine, links, deadlines, batches, caches.
        calibration: Of OpenSearch and of the service.
        models: What embeds and reasons.
        basis: Where the calibration is from.
        on_progress: Told what is simulated.

    Raises:
        ConfigError: The calibration lacks what was not measured.
    """
    if calibration.cluster is None or calibration.service_cpu_ms is None:
        raise ConfigError(
            "the calibration has no values of OpenSearch and the service",
            hint="calibrate where OpenSearch can be reached: `lrem-os node up`, then `lrem-os plan --calibrate FILE`",
        )
    cluster = calibration.cluster
    index, storages, nodes, shards = _plan_index(demand, settings, calibration.dimension, cluster, basis)
    growth = sizes.search_cpu_ms(1.0, cluster.items, demand.items, shards) / shards  # of the work in one shard
    costs = Costs(
        embed=models.embed,
        reason=models.reason,
        probe=cluster.probe.scaled(growth),
        service_ms=calibration.service_cpu_ms,
        search_ms=[value * growth for value in cluster.search_ms],
        models=models.where,
        cores=calibration.cores,
        search_cores=math.inf,  # as many nodes are planned as it takes
    )
    ingest = _plan_ingest(demand, cluster, models, nodes, basis)
    services, simulated, warnings = _plan_services(demand, settings, costs, models, on_progress)
    number = next((line.value for line in services if line.name == "services"), None)
    price = _plan_price(demand, nodes, number)
    return Plan((*index, *ingest, *services, *price), storages, simulated, tuple(warnings))


def _plan_index(
    demand: Demand, settings: Settings, dimension: int, cluster: Cluster, basis: Basis
) -> tuple[list[Line], tuple[StorageRow, ...], int, int]:
    """Return the lines, the other storages, the data nodes and the shards."""
    chosen = sizes.configured_storage(settings.index.engine, on_disk=settings.index.on_disk)
    other = cluster.other_bytes if demand.other_bytes is None else demand.other_bytes

    def taken(storage: sizes.Storage) -> sizes.Footprint:
        return sizes.footprint(
            demand.items,
            storage,
            dimension=dimension,
            m=settings.index.m,
            other_bytes=other,
            replicas=demand.replicas,
            shard_gb=demand.shard_gb,
        )

    def cpu_ms(of: sizes.Footprint) -> float:
        grown = sizes.search_cpu_ms(cluster.search_cpu_ms, cluster.items, demand.items, of.shards)
        return grown if demand.search_cpu_ms is None else demand.search_cpu_ms

    def nodes(of: sizes.Footprint) -> dict[str, int]:
        asked = demand.qps * (2 - demand.repeat_share)  # a search, and the probe of one that was not asked before
        return {
            "memory": of.nodes_for_memory(demand.node),
            "disk": of.nodes_for_disk(demand.node),
            "search": math.ceil(asked * cpu_ms(of) / 1000 / demand.node.cores / _BUSY),
            "copies": of.copies,
        }

    found = taken(chosen)
    needed = nodes(found)
    number = max(needed.values())
    of_search: Basis = basis if demand.search_cpu_ms is None else "given"
    lines = [
        Line("index", "shards", found.shards, "formula", f"primaries of at most {demand.shard_gb:g} GB"),
        Line("index", "memory_gb", found.memory_bytes / sizes.GB, "formula", f"vectors of all copies, {chosen.name}"),
        Line("index", "disk_gb", found.disk_bytes / sizes.GB, basis, "all copies"),
        Line("index", "disk_rebuild_gb", found.rebuild_bytes / sizes.GB, basis, "while --recreate builds the next one"),
        Line(
            "index", "search_cpu_ms", cpu_ms(found), of_search, "all nodes, one search; see docs/plan.md on its limits"
        ),
        Line("nodes", "for_memory", needed["memory"], "formula"),
        Line("nodes", "for_disk", needed["disk"], "formula"),
        Line("nodes", "for_search", needed["search"], of_search, f"cores {_BUSY:.0%} busy at the peak"),
        Line("nodes", "nodes", number, "formula", "the most of these, and one for each copy"),
    ]
    rows = tuple(
        StorageRow(
            storage.name,
            of.memory_bytes / sizes.GB,
            of.disk_bytes / sizes.GB,
            max(nodes(of).values()),
            storage.setting,
            storage is chosen,
        )
        for storage, of in ((storage, taken(storage)) for storage in sizes.STORAGES.values())
    )
    return lines, rows, number, found.shards


def _plan_ingest(demand: Demand, cluster: Cluster, models: Models, nodes: int, basis: Basis) -> list[Line]:
    embed_h = demand.items / models.items_per_s / 3600
    bulk_h = demand.items / (cluster.bulk_per_s * nodes * demand.node.cores / cluster.cores) / 3600
    together = max(embed_h / demand.ingest_devices, bulk_h)
    note = f"{demand.ingest_devices} that embed, {nodes} nodes; the slower of the two decides"
    return [
        Line("ingest", "embed_hours_on_one", embed_h, models.basis, models.device),
        Line("ingest", "bulk_hours", bulk_h, basis, f"{nodes} nodes, no replicas while loading"),
        Line("ingest", "hours", together, models.basis, note),
    ]


def rate_of_reasoner(costs: Costs, deadline_s: float, most: int) -> tuple[float, int]:
    """Return the queries a second that one reasoner takes on within the deadline, and the batch of that.

    A query waits for the call under way and then for its own: ``1.5`` calls on average where there is always one. The
    largest batch whose calls leave that much time decides; none: (0, 0).

    Args:
        costs: Of its calls.
        deadline_s: For the reasoning.
        most: Queries in a call, at most.
    """
    if costs.reason is None:
        return 0.0, 0
    fitting = [size for size in range(1, most + 1) if _WAIT * costs.reason.seconds(size) <= deadline_s]
    rates = {size: size / costs.reason.seconds(size) for size in fitting}
    best = max(rates, key=lambda size: rates[size], default=0)
    return (rates[best], best) if best else (0.0, 0)


def _plan_services(
    demand: Demand, settings: Settings, costs: Costs, models: Models, on_progress: Progress
) -> tuple[list[Line], Summary | None, list[str]]:
    serve = settings.serve
    deadline_s = serve.reason_deadline_ms / 1000
    fresh_hard = demand.qps * demand.hard_share * (1 - demand.repeat_share)
    for_cpu = math.ceil(demand.qps * costs.service_ms / 1000 / _BUSY)
    lines = [
        Line("services", "reasoned_per_s", fresh_hard, "given", "hard and not asked lately, at the peak"),
        Line("services", "for_cpu", for_cpu, models.basis, "processes: one event loop each"),
    ]
    if costs.reason is None or not fresh_hard:
        services = max(1, for_cpu)
        return [*lines, Line("services", "services", services, models.basis)], None, []
    alone_s = costs.reason.seconds(1)
    lines.append(Line("services", "reason_alone_ms", alone_s * 1000, models.basis, models.device))
    if alone_s > deadline_s:
        too_slow = (
            f"reasoning about one query takes {alone_s * 1000:,.0f} ms alone, and serve.reason_deadline_ms is"
            f" {serve.reason_deadline_ms:g}: no number of services reasons in time; a faster device, fewer"
            " reasoning.samples or a longer deadline would"
        )
        return [*lines, Line("services", "services", None, models.basis, "see the warning")], None, [too_slow]
    rate, batch = rate_of_reasoner(costs, deadline_s, serve.reason_batch)
    most_s = max(size / costs.reason.seconds(size) for size in range(1, serve.reason_batch + 1))
    least = max(1, for_cpu, math.ceil(fresh_hard / most_s))  # with fewer, the queue grows for ever
    guess = max(least, math.ceil(fresh_hard / rate) if rate else 2 * least)
    lines.append(
        Line("services", "reasoned_per_s_each", rate, models.basis, f"within the deadline, in calls of {batch}")
    )
    if not demand.queries:
        return [*lines, Line("services", "services", guess, "formula", models.device)], None, []
    services, found = _search_services(demand, settings, costs, guess, least, on_progress)
    summary = summarise(found.outcomes)
    missed = missed_share(found)
    lines += [
        Line("services", "services", services, "simulated", f"{models.device}, each"),
        Line("services", "reasoner_busy_share", found.busy.get("reason", 0.0), "simulated"),
        Line("services", "missed_share", missed, "simulated", "of the hard queries, without reasoning"),
        Line("services", "p50_ms", summary.p50_ms, "simulated", "of a search, OpenSearch included"),
        Line("services", "p95_ms", summary.p95_ms, "simulated"),
    ]
    told: list[str] = []
    if missed > demand.max_missed:
        told.append(
            f"{missed:.0%} of the hard queries miss the deadline even with {services:,} services: the reasoner needs"
            f" {alone_s * 1000:,.0f} ms for a query alone, of {serve.reason_deadline_ms:g}"
        )
    return lines, summary, told


def missed_share(found: Simulated) -> float:
    """Return which share of the hard queries was answered without reasoning."""
    hard = [outcome for outcome in found.outcomes if outcome.hard]
    return sum(outcome.route != "reasoned" for outcome in hard) / len(hard) if hard else 0.0


def _search_services(
    demand: Demand, settings: Settings, costs: Costs, guess: int, least: int, on_progress: Progress
) -> tuple[int, Simulated]:
    """Return the fewest services, to a few percent, that miss few enough; or the most that were tried."""
    tried: dict[int, Simulated] = {}

    def fits(number: int) -> bool:
        on_progress(f"simulating {number:,} services, {demand.qps / number:,.1f} queries/s each")
        tried[number] = simulate_service(demand, settings, costs, number)
        return missed_share(tried[number]) <= demand.max_missed

    number, good, bad = guess, 0, least - 1
    for _ in range(_TRIES):
        if fits(number):
            good = number
        else:
            bad = max(bad, number)
        if good and good - bad <= max(1, good // 20):
            break
        number = (good + bad) // 2 if good else math.ceil(number * _SPREAD) + 1
        if good and bad == least - 1:
            number = max(least, min(good - 1, int(good / _SPREAD)))
    chosen = good or max(tried)
    return chosen, tried[chosen]


def simulate_service(demand: Demand, settings: Settings, costs: Costs, services: int) -> Simulated:
    """Return what one of so many services does at the peak."""
    traffic = Traffic(demand.qps / services, demand.hard_share, demand.repeat_share)
    return simulate(traffic.arrivals(demand.queries), costs, settings.serve, warm=traffic.known())


def _plan_price(demand: Demand, nodes: int, services: float | None) -> list[Line]:
    mean_per_h = demand.qps * demand.mean_load * 3600
    lines = [Line("price", "node_hours_per_million", nodes / mean_per_h * 1e6, "formula")]
    if services is not None:
        lines.append(Line("price", "service_hours_per_million", services / mean_per_h * 1e6, "formula"))
    if demand.node_hour is not None and demand.service_hour is not None and services is not None:
        hourly = nodes * demand.node_hour + services * demand.service_hour
        lines += [
            Line("price", "per_hour", hourly, "given"),
            Line("price", "per_1000_queries", hourly / mean_per_h * 1000, "given", f"mean load {demand.mean_load:.0%}"),
        ]
    return lines
