"""Measures this machine for a plan: models at several batch sizes, then OpenSearch and the service (``trial.py``)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Literal

from lrem_os import __version__
from lrem_os.config import Settings
from lrem_os.errors import ConfigError
from lrem_os.model.load import Models
from lrem_os.planning.calibration import Calibration, Calls
from lrem_os.planning.trial import measure_cluster, measure_service, trial_index
from lrem_os.text import embedded_text
from lrem_os.types import Embedder, Reasoned, ReasoningEmbedder

Progress = Callable[[str], None]

SIZES = (1, 2, 4, 8, 16, 32, 64)
_ENOUGH_S = 1.5  # of one size; a call that takes longer is made once
_MOST_S = 30.0  # a call that took half of this is the largest
_ITEMS_S = 3.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the machine is tried with.

    Args:
        rows: Of a catalog.
        queries: That would be reasoned about: easy ones are shorter and get shorter answers.
    """

    rows: Sequence[dict[str, Any]]
    queries: Sequence[str]


def calibrate(
    settings: Settings,
    sample: Sample,
    *,
    num_items: int = 4000,
    with_cluster: bool = True,
    embedder: Embedder | None = None,
    on_progress: Progress = lambda _: None,
) -> Calibration:
    """Return what this machine does, with the configured models; an index of its own is made and deleted again.

    Args:
        settings: Models, cluster, batches.
        sample: Products and queries.
        num_items: In the index that is searched; rows are repeated under other ids where there are fewer.
        with_cluster: Whether OpenSearch and the service are measured.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.
        on_progress: Told what is measured.

    Raises:
        LremError: A model cannot be loaded, or OpenSearch failed.
    """
    load_before = busy_share()
    models = Models(settings.model, settings.reasoning, embedder=embedder)
    embed = models.embedder
    embed.embed_queries(sample.queries[:1])  # loads and compiles
    on_progress("embedder: queries")
    sizes = [size for size in SIZES if size <= settings.serve.embed_batch]
    embed_queries = Calls(points=tuple(measure_calls(embed.embed_queries, sample.queries, sizes)))
    on_progress("embedder: products")
    items_per_s = _items_per_s(embed, [embedded_text(row, settings.catalog.embed) for row in sample.rows])
    reason, tokens = _measure_reasoner(models, settings, sample.queries, on_progress)
    cluster, service_ms = None, None
    if with_cluster:
        with trial_index(settings, sample.rows, num_items, embed.dimension, on_progress) as trial:
            cluster = measure_cluster(trial, sample.queries, on_progress)
            on_progress("service")
            service_ms = measure_service(trial, sample.queries[0])
    return Calibration(
        machine=describe_machine(),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        version=__version__,
        load_before=round(load_before, 2),
        device=_device(settings),
        cores=os.cpu_count() or 1,
        model=settings.model.name,
        reasoner=None if reason is None else settings.reasoning.name or settings.model.name,
        dimension=embed.dimension,
        embed_queries=embed_queries,
        embed_items_per_s=items_per_s,
        reason=reason,
        reason_tokens_per_s=tuple(tokens),
        service_cpu_ms=service_ms,
        cluster=cluster,
    )


def _measure_reasoner(
    models: Models, settings: Settings, queries: Sequence[str], on_progress: Progress
) -> tuple[Calls | None, list[tuple[int, float]]]:
    """Return calls and tokens a second of the reasoner; nothing where there is none."""
    try:
        reasoner: ReasoningEmbedder = models.reasoning_embedder
    except ConfigError:
        return None, []
    on_progress("reasoner: loading")
    reasoner.embed_reasoned(queries[:1])
    tokens: dict[int, list[int]] = {}

    def reason(texts: Sequence[str]) -> Reasoned:
        found = reasoner.embed_reasoned(texts)
        generated = sum(sample.num_tokens for samples in found.reasonings for sample in samples)
        tokens.setdefault(len(texts), []).append(generated)
        return found

    sizes = sorted({*(size for size in SIZES if size <= settings.serve.reason_batch), settings.serve.reason_batch})
    points = []
    for size, seconds in measure_calls(
        reason, queries, sizes, on_size=lambda size: on_progress(f"reasoner: {size} at once")
    ):
        points.append((size, seconds))
    rates = [(size, median(tokens[size]) / seconds) for size, seconds in points]
    return Calls(points=tuple(points)), [(size, rate) for size, rate in rates if rate > 0]


def measure_calls(
    call: Callable[[Sequence[str]], object],
    texts: Sequence[str],
    sizes: Sequence[int],
    *,
    on_size: Callable[[int], None] = lambda _: None,
) -> list[tuple[int, float]]:
    """Return sizes and the median seconds of a call, on other texts each time.

    Args:
        call: Of a model.
        texts: Are taken in turn.
        sizes: Texts in a call; those after one that takes very long are left out.
        on_size: Told each.
    """
    points: list[tuple[int, float]] = []
    at = 0
    for size in sizes:
        on_size(size)
        times: list[float] = []
        while not times or (sum(times) < _ENOUGH_S and len(times) < 20):
            batch = [texts[(at + number) % len(texts)] for number in range(size)]
            at += size
            begun = time.perf_counter()
            call(batch)
            times.append(time.perf_counter() - begun)
        points.append((size, median(times)))
        if points[-1][1] > _MOST_S / 2:
            break
    return points


def _items_per_s(embedder: Embedder, texts: Sequence[str]) -> float:
    embedder.embed_items(texts[:8])
    begun, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < _ITEMS_S:
        batch = [texts[(done + number) % len(texts)] for number in range(min(64, len(texts)))]
        embedder.embed_items(batch)
        done += len(batch)
    return done / passed


def _device(settings: Settings) -> Literal["cpu", "gpu", "elsewhere"]:
    if settings.reasoning.backend == "openai" or settings.model.backend == "openai":
        return "elsewhere"
    return "gpu" if settings.model.device != "cpu" and _gpu_name() else "cpu"


def _gpu_name() -> str | None:
    """Return the name of the GPU that torch would use; nothing where torch is not loaded or sees none."""
    import sys

    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def busy_share() -> float:
    """Return the processes that wanted a core in the last minute, per core; 0 where the system does not tell."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def describe_machine() -> str:
    """Return processor, cores, memory and GPU in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    parts = [_processor(), f"{os.cpu_count()} cores", *([f"{memory:.0f} GiB"] if memory else [])]
    return ", ".join([*parts, *([gpu] if (gpu := _gpu_name()) else [])])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
