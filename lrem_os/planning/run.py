"""A plan and a calibration from the configuration: what the command line calls, and Python users too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from lrem_os.config import Settings
from lrem_os.errors import ConfigError, DatasetError
from lrem_os.ingest.sources import expand_sources, read_rows
from lrem_os.model.load import check_reasoner
from lrem_os.planning import gpu as gpus
from lrem_os.planning.calibration import Calibration, read_calibration, reference
from lrem_os.planning.plan import Basis, Demand, Models, Plan, make_plan, models_of
from lrem_os.types import Embedder

Progress = Callable[[str], None]

_ROWS = 4000
_PROMPT_TOKENS = 60  # of lrem:small's template with a query of ten words
_ITEM_TOKENS = 80


def plan_for(
    settings: Settings,
    demand: Demand,
    calibration: Path | None = None,
    *,
    gpu: str | None = None,
    reasoner_parameters: float = gpus.SMALL_REASONER.parameters,
    on_progress: Progress = lambda _: None,
) -> tuple[Plan, str]:
    """Return a plan, and what it is calibrated by.

    Args:
        settings: The configuration.
        demand: What is to be served.
        calibration: A file; none: the calibration that ships.
        gpu: Its data sheet estimates the models, in place of what was measured.
        reasoner_parameters: Of the reasoner, for that.
        on_progress: Told what is simulated.

    Raises:
        ConfigError: The calibration lacks what was not measured.
        DatasetError: It cannot be read.
    """
    shipped = reference()
    found = shipped if calibration is None else read_calibration(calibration)
    basis: Basis = "reference" if calibration is None else "measured"
    models = models_of(found, basis) if gpu is None else estimated_models(settings, gpu, reasoner_parameters)
    told = f"{found.machine}, {found.date}" + (" (ships with lrem-os)" if calibration is None else "")
    return make_plan(demand, settings, found, models, basis, on_progress=on_progress), told


def estimated_models(settings: Settings, name: str, reasoner_parameters: float) -> Models:
    """Return what the models would do on a GPU, from its data sheet; a reasoner of that size is like SmolLM2 in shape.

    Args:
        settings: Samples, tokens and backend of the reasoning.
        name: One of ``GPUS``.
        reasoner_parameters: Of the reasoner.
    """
    sheet = gpus.GPUS[name]
    growth = (reasoner_parameters / gpus.SMALL_REASONER.parameters) ** (1 / 3)  # layers and width grow together
    small = gpus.SMALL_REASONER
    reasoner = gpus.Model(
        reasoner_parameters, round(small.layers * max(1.0, growth**0.5)), round(small.kv_width * growth)
    )
    reason = None
    if _reasons(settings):
        reason = gpus.estimate_reasoning(
            sheet,
            reasoner,
            gpus.SMALL_EMBEDDER,
            samples=settings.reasoning.samples,
            prompt_tokens=_PROMPT_TOKENS,
            new_tokens=settings.reasoning.max_tokens,
            backend="transformers" if settings.reasoning.backend == "transformers" else "vllm",
        )
    return Models(
        embed=gpus.estimate_embedding(sheet, gpus.SMALL_EMBEDDER),
        reason=reason,
        items_per_s=gpus.estimate_items_per_s(sheet, gpus.SMALL_EMBEDDER, item_tokens=_ITEM_TOKENS),
        device=f"{name} GPU",
        where="gpu",
        basis="estimate",
    )


def _reasons(settings: Settings) -> bool:
    try:
        check_reasoner(settings.model, settings.reasoning)
    except ConfigError:
        return False
    return True


def calibrate_here(
    settings: Settings,
    catalog: Path | None = None,
    *,
    with_cluster: bool = True,
    num_items: int = _ROWS,
    embedder: Embedder | None = None,
    on_progress: Progress = lambda _: None,
) -> Calibration:
    """Return what this machine does with the configured models; see ``measure.calibrate``.

    Args:
        settings: The configuration.
        catalog: Products to embed and to load; none: the sample catalog.
        with_cluster: Whether OpenSearch and the service are measured.
        num_items: In the index that is made for it.
        embedder: Used in place of the configured model.
        on_progress: Told what is measured.

    Raises:
        DatasetError: The catalog cannot be read, or is empty.
        LremError: A model cannot be loaded, or OpenSearch failed.
    """
    from lrem_os.planning.measure import Sample, calibrate

    sample = resources.files("lrem_os.demo") / "data"
    asked = map(orjson.loads, (sample / "queries.jsonl").read_bytes().splitlines())
    queries = [row["query"] for row in asked if _hard(row)]
    with resources.as_file(sample / "catalog.jsonl") as path:
        rows = _rows(catalog or path, settings, num_items)
    return calibrate(
        settings,
        Sample(rows, queries),
        num_items=num_items,
        with_cluster=with_cluster,
        embedder=embedder,
        on_progress=on_progress,
    )


def _hard(row: dict[str, Any]) -> bool:
    return bool(row.get("type") != "easy")


def _rows(path: Path, settings: Settings, number: int) -> list[dict[str, Any]]:
    found = [row.value for source in expand_sources([str(path)]) for row in itertools.islice(read_rows(source), number)]
    rows = [row for row in found if isinstance(row, dict) and row.get(settings.catalog.title)]
    if not rows:
        raise DatasetError(f"no row has a {settings.catalog.title!r}", path=path, hint="see catalog.title")
    return rows
