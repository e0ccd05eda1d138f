"""The command: `python -m benchmarks.plan`; results go to benchmarks/results/plan.json."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.ingest.__main__ import default_catalog, find_url
from benchmarks.ingest.node import settle
from benchmarks.machine import write_result
from lrem_os.config import Settings
from lrem_os.ingest.sources import expand_sources, read_rows
from lrem_os.planning.calibration import Calls
from lrem_os.planning.measure import measure_calls
from lrem_os.planning.simulate import Costs, Simulated, simulate
from lrem_os.planning.traffic import Arrival, Outcome, Summary, Traffic, summarise
from lrem_os.planning.trial import Trial, measure_cluster, measure_service, trial_index

TARGET = 0.15
"""By which part of the measured value the simulated one may be off."""

_DIMENSION = 384
_EMBED = Calls(points=((1, 0.010), (9, 0.030)))
_REASON = Calls(points=((1, 0.550), (4, 1.000)))  # so slow that OpenSearch, on the same cores, is not what is short
_HARD, _REPEATED, _POOL = 0.3, 0.3, 60
_ASKED = "what do i need for"
_LOADS = (0.3, 0.6, 0.9, 1.3)  # of what the reasoner can do
_POINTS = 0.02  # shares that are off by less are equal
_START_S = 180.0
_PACKAGES = ("aiohttp", "uvicorn", "uvloop", "torch", "transformers")


@dataclass(frozen=True)
class Scenario:
    """A service, and how it is asked.

    Args:
        name: Of it.
        serve: Keys of ``serve`` that differ.
        costs: As measured alone on this machine.
        sleeps: Whether its models only take time; else they are the real ones.
        rates: Queries a second, load by load.
        queries: Of each load.
        hard_share: Of the queries.
    """

    name: str
    serve: Mapping[str, Any]
    costs: Costs
    sleeps: bool
    rates: Sequence[float]
    queries: Sequence[int]
    hard_share: float = _HARD


@click.command(context_settings={"show_default": True})
@click.option("--node", "node_url", metavar="URL", help="OpenSearch to search; the local node if not given.")
@click.option("--catalog", type=click.Path(path_type=Path), default=default_catalog, help="JSONL, also .gz.")
@click.option("--num", type=click.IntRange(100), default=5000, help="Products of the catalog.")
@click.option("--seconds", type=float, default=40.0, help="Of each load.")
@click.option("--patience", type=float, default=5.0, help="Seconds to wait for a calm machine before each load.")
@click.option("--real/--no-real", default=True, help="Also one load of the configured model on this processor.")
@click.option("--name", default="plan", help="Of the result file under benchmarks/results/.")
def main(node_url: str | None, catalog: Path, num: int, seconds: float, patience: float, real: bool, name: str) -> None:
    """Serve the same queries at the same moments, in truth and in the simulation, and compare."""
    console = Console(highlight=False, width=max(150, Console().width))
    url = find_url(node_url)
    settings = Settings.model_validate({"search": {"hosts": [url]}})
    [source] = expand_sources([str(catalog)])
    rows = [row.value for row in itertools.islice(read_rows(source), num) if row.value and row.value.get("title")]
    titles = list(dict.fromkeys(" ".join(str(row["title"]).lower().split()[:4]) for row in rows))
    cells: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="lrem-os-bench-") as text,
        trial_index(settings, rows, num, _DIMENSION, console.print) as trial,
    ):
        bench = Bench(trial, titles, Path(text), console, patience)
        bench.calibrate()
        for scenario in (bench.known(seconds), *([bench.real(seconds)] if real else [])):
            cells += bench.compared(scenario)
    _show(console, cells)
    met = all(cell["within"] for cell in cells if cell["scenario"] == "known cost")
    found = {"target": TARGET, "target_met": met, "num": num, "costs": bench.told(), "loads": cells}
    path = write_result(name, found, _PACKAGES)
    console.print(
        f"written: {path.name}; every value within {TARGET:.0%} of the measured one: {'yes' if met else 'no'}"
    )
    sys.exit(0 if met else 1)


class Bench:
    """An index, what searching it costs, and services in front of it.

    Args:
        trial: The index.
        titles: Words for queries.
        folder: For files; goes away.
        console: Where it is told.
        patience: Seconds to wait for a calm machine before each load.
    """

    def __init__(self, trial: Trial, titles: Sequence[str], folder: Path, console: Console, patience: float) -> None:
        self._trial, self._titles, self._folder = trial, titles, folder
        self._console, self._patience = console, patience

    def calibrate(self) -> None:
        """Measure OpenSearch and the service as `lrem-os plan --calibrate` does, one request at a time."""
        settle(self._patience)
        queries = self._titles[:300]
        self._cluster = measure_cluster(self._trial, queries, self._console.print)
        settle(self._patience)
        self._service_ms = measure_service(self._trial, queries[0])

    def told(self) -> dict[str, Any]:
        """Return what was calibrated."""
        return {
            "cluster": self._cluster.model_dump(mode="json"),
            "service_cpu_ms": self._service_ms,
            "embed": _EMBED.points,
            "reason": _REASON.points,
        }

    def known(self, seconds: float) -> Scenario:
        """Return the service whose models take a known time."""
        most = 4
        capacity = most / _REASON.seconds(most) / (_HARD * (1 - _REPEATED))
        rates = [load * capacity for load in _LOADS]
        serve = {"reason_batch": most, "reason_deadline_ms": 1800.0}
        return Scenario(
            "known cost", serve, self._costs(_EMBED, _REASON), True, rates, [int(rate * seconds) for rate in rates]
        )

    def real(self, seconds: float) -> Scenario:
        """Return the service with the real models on this processor, at a load that it can bear."""
        from lrem_os.model.load import Models

        models = Models(Settings().model, _real_reasoning())
        texts = [f"{_ASKED} {title}" for title in self._titles[:50]]
        models.embedder.embed_queries(texts[:1])
        models.reasoning_embedder.embed_reasoned(texts[:1])
        embed = Calls(points=tuple(measure_calls(models.embedder.embed_queries, texts, (1, 2, 4, 8))))
        reason = Calls(points=tuple(measure_calls(models.reasoning_embedder.embed_reasoned, texts, (1, 2, 4))))
        self._console.print(f"real models, calls alone: embedder {embed.points}, reasoner {reason.points}")
        costs = replace(self._costs(embed, reason), models="cpu")
        rate = 0.5 / reason.seconds(1) / (_HARD * (1 - _REPEATED))
        serve = {"reason_batch": 4, "reason_deadline_ms": 20_000.0, "reason_limit_s": 300.0}
        return Scenario("real models", serve, costs, False, [rate], [max(60, int(rate * 2 * seconds))])

    def compared(self, scenario: Scenario) -> list[dict[str, Any]]:
        """Return one row a load."""
        rows = []
        for number, (rate, queries) in enumerate(zip(scenario.rates, scenario.queries, strict=True)):
            traffic = Traffic(rate, scenario.hard_share, _REPEATED, pool=_POOL, seed=number)
            warm = [self._worded(query) for query in traffic.known()]
            arrivals = [self._worded(query) for query in traffic.arrivals(queries)]
            settings = self._settings(scenario)
            measured, busy = self._measured(scenario, settings, warm, arrivals)
            simulated = simulate(arrivals, scenario.costs, settings.serve, warm=warm, hard_by_rule=True, seed=number)
            rows.append(_row(scenario, rate, summarise(measured), simulated, busy))
            self._console.print(json.dumps(rows[-1], default=str))
        return rows

    def _costs(self, embed: Calls, reason: Calls) -> Costs:
        found = self._cluster
        return Costs(
            embed=embed,
            reason=reason,
            probe=found.probe,
            service_ms=self._service_ms,
            search_ms=found.search_ms,
            search_width=min(max(found.search_cpu_ms / median(found.search_ms), 0.1), float(found.cores)),
            cores=psutil.cpu_count() or 1,
        )

    def _worded(self, query: Arrival) -> Arrival:
        """Return a query in the words of the catalog: a hard one is a question, since a title needs no reasoning."""
        number = int(query.text.split()[-1]) + (_POOL if " new " in query.text else 0)
        title = self._titles[number % len(self._titles)]
        return replace(query, text=f"{_ASKED} {title}" if query.hard else title)

    def _settings(self, scenario: Scenario) -> Settings:
        base = self._trial.settings
        values: dict[str, Any] = {
            "serve": {"port": 0, **scenario.serve},
            "route": {"allow": [f"{_ASKED} *"], "budget": "fixed", "threshold": 1.0},
            "search": {"hosts": list(base.search.hosts)},
            "index": {"name": base.index.name},
        }
        if not scenario.sleeps:
            values["reasoning"] = {"samples": _real_reasoning().samples}
        return Settings.model_validate(values)

    def _measured(
        self, scenario: Scenario, settings: Settings, warm: Sequence[Arrival], arrivals: Sequence[Arrival]
    ) -> tuple[list[Outcome], float]:
        with self._service(scenario, settings) as url:
            self._load(url, warm, one_by_one=True)
            settle(self._patience)
            before, began = _busy(), time.monotonic()
            found = self._load(url, arrivals, one_by_one=False)
            busy = (_busy() - before) / (time.monotonic() - began)
        if any(status != 200 for _, status, _, _ in found):
            raise click.ClickException("the service answered something other than 200")
        outcomes = [
            Outcome(took, route, tuple(filter(None, degraded.split(","))), query.hard)
            for query, (took, _, route, degraded) in zip(arrivals, found, strict=True)
        ]
        return outcomes, busy

    def _load(self, url: str, arrivals: Sequence[Arrival], *, one_by_one: bool) -> list[tuple[float, int, str, str]]:
        headers = {"x-lrem-deadline-ms": "60000"} if one_by_one else {}
        job = {
            "url": url,
            "index": self._trial.settings.index.name,
            "headers": headers,
            "arrivals": [(query.at_s, query.text) for query in arrivals],
            "one_by_one": one_by_one,
        }
        path = self._folder / "load.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.plan.load", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return [tuple(row) for row in json.loads(done.stdout)]

    @contextlib.contextmanager
    def _service(self, scenario: Scenario, settings: Settings) -> Iterator[str]:
        job = {
            "settings": settings.model_dump(mode="json"),
            "dimension": _DIMENSION,
            "embed": scenario.costs.embed.model_dump() if scenario.sleeps else None,
            "reason": scenario.costs.reason.model_dump() if scenario.sleeps and scenario.costs.reason else None,
        }
        path = self._folder / "mind.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.plan.mind", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            told = process.stdout.readline() if process.stdout is not None else ""
            if not told.startswith("listening "):
                raise click.ClickException("the service did not start")
            yield told.split()[1]
        finally:
            process.terminate()
            process.wait(60)


def _real_reasoning() -> Any:
    return Settings().reasoning.model_copy(update={"samples": 2})


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system)


def _row(scenario: Scenario, rate: float, measured: Summary, simulated: Simulated, busy: float) -> dict[str, Any]:
    """Return both summaries, and how far they are apart."""
    other = summarise(simulated.outcomes)
    off: dict[str, float] = {}
    for name in ("p50_ms", "p95_ms", "hard_p50_ms", "hard_p95_ms", "reasoned_share", "degraded_share"):
        was, is_ = getattr(measured, name), getattr(other, name)
        near = name.endswith("share") and abs(is_ - was) < _POINTS
        off[name] = 0.0 if near else (is_ - was) / was if was else float("inf")
    return {
        "scenario": scenario.name,
        "rate": rate,
        "queries": measured.queries,
        "measured": asdict(measured),
        "simulated": asdict(other),
        "off": off,
        "within": all(abs(value) <= TARGET for value in off.values()),
        "busy_cores": busy,
        "reasoner_busy": simulated.busy.get("reason"),
        "mean_batch": dict(simulated.mean_batch),
    }


def _show(console: Console, cells: Sequence[Mapping[str, Any]]) -> None:
    names = {"p50_ms": "p50 ms", "p95_ms": "p95 ms", "hard_p50_ms": "hard p50", "hard_p95_ms": "hard p95"}
    shares = {"reasoned_share": "reasoned %", "degraded_share": "degraded %"}
    table = Table("models", "queries/s", *names.values(), *shares.values(), title="measured → simulated")
    for cell in cells:
        values = [f"{cell['measured'][name]:.0f} → {cell['simulated'][name]:.0f}" for name in names]
        values += [f"{100 * cell['measured'][name]:.1f} → {100 * cell['simulated'][name]:.1f}" for name in shares]
        table.add_row(cell["scenario"], f"{cell['rate']:.1f}", *values)
    console.print(table)


if __name__ == "__main__":
    main()
