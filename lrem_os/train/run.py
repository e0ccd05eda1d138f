"""One training run: recipe in; adapter or weights, metrics and cards out. Killed, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.train import loop
from lrem_os.train.backbone import save_backbone
from lrem_os.train.card import model_card
from lrem_os.train.loop import Progress, Share
from lrem_os.train.recipes import recipe_text
from lrem_os.train.sets import TrainingSet, data_card, read_sets
from lrem_os.train.settings import EmbedderRecipe, Recipe, RlRecipe
from lrem_os.train.stages import Built, Machine, build

_DRY_STEPS, _DRY_ROWS = 2, 64


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run did.

    Args:
        stage: Its name.
        output: Folder of what it wrote; none after a dry run.
        weights: Folder of the adapter or of the weights; none after a dry run.
        steps: Steps in all.
        trained_parameters: Numbers that were trained.
        seconds: Time of this start of the run, loading included.
        metrics: Of the last step that this start did; empty when there was none left.
    """

    stage: str
    output: Path | None
    weights: Path | None
    steps: int
    trained_parameters: int
    seconds: float
    metrics: Mapping[str, float]


def train(
    recipe: Recipe,
    output: Path,
    *,
    dry_run: bool = False,
    restart: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> TrainReport | None:
    """Train what a recipe says, from the last checkpoint in ``output`` if there is one.

    Args:
        recipe: See ``load_recipe``.
        output: Folder for everything that is written.
        dry_run: Two steps with narrow random models of the same architecture; nothing is fetched or kept.
        restart: Forget an earlier run in ``output``.
        on_progress: Told after every step, in the first process.

    Returns:
        A report; none in every process but the first.

    Raises:
        CheckpointError: A model cannot be loaded, or the checkpoint belongs to another recipe or other data.
        ConfigError: The recipe does not fit the model or this machine.
        DatasetError: The data cannot be read.
        TrainingError: A step gave NaN or infinity, or there is nothing to learn from.
    """
    started = time.monotonic()
    accelerator = _accelerator(recipe)
    sets = read_sets(recipe.data)
    if dry_run:
        recipe, sets = _shrunken(recipe), [_first_rows(part) for part in sets]
    with tempfile.TemporaryDirectory(prefix="lrem-os-") if dry_run else nullcontext(output) as folder:
        return _train(recipe, sets, Path(folder), accelerator, started, dry_run, restart, on_progress)


def fingerprint(recipe: Recipe, sets: Sequence[TrainingSet], revision: str) -> str:
    """Return what a checkpoint is bound to: all that decides the weights, and nothing else."""
    values = recipe.model_dump(mode="json")
    values["data"].pop("root")
    values["optimisation"].pop("save_every")
    parts = [values, _hashes(recipe), [dict(part.checksums) for part in sets], revision]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _train(
    recipe: Recipe,
    sets: Sequence[TrainingSet],
    output: Path,
    accelerator: Accelerator,
    started: float,
    dry_run: bool,
    restart: bool,
    on_progress: Callable[[Progress], None],
) -> TrainReport | None:
    is_main = accelerator.is_main_process
    machine = Machine(
        accelerator.device,
        bfloat16=_bfloat16(recipe, accelerator.device),
        share=Share(accelerator.process_index, accelerator.num_processes),
        is_dry=dry_run,
    )
    built = build(recipe, sets, machine)
    card = {"sets": data_card(sets), "stage": dict(built.counts)}
    if is_main:
        _prepare(output, recipe, card, restart=restart)
    accelerator.wait_for_everyone()
    last: dict[str, float] = {}

    def told(progress: Progress) -> None:
        last.update(progress.metrics)
        if is_main:
            on_progress(progress)

    steps = loop.run(
        built.stage,
        recipe.optimisation,
        output,
        fingerprint=fingerprint(recipe, sets, built.backbone.revision),
        accelerator=accelerator,
        bfloat16=machine.bfloat16,
        on_progress=told,
    )
    if not is_main:
        return None
    weights = save_backbone(built.backbone, output, with_tokenizer=built.new_tokens)
    trained = _num_trained(built)
    (output / "README.md").write_text(model_card(recipe, built.backbone, card, steps, trained), encoding="utf-8")
    seconds = time.monotonic() - started
    stage = str(recipe.model_dump()["stage"])
    return TrainReport(stage, None if dry_run else output, None if dry_run else weights, steps, trained, seconds, last)


def _accelerator(recipe: Recipe) -> Accelerator:
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no GPU", hint="set device to auto or cpu")
    return Accelerator(cpu=recipe.device == "cpu" or not torch.cuda.is_available())


def _bfloat16(recipe: Recipe, device: torch.device) -> bool:
    if recipe.dtype == "auto":
        return device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    return recipe.dtype == "bfloat16"


def _shrunken(recipe: Recipe) -> Recipe:
    """Return the recipe of a dry run: two steps, small batches."""
    short = {"max_steps": _DRY_STEPS, "batch_size": min(8, recipe.optimisation.batch_size)}
    return recipe.model_copy(update={"optimisation": recipe.optimisation.model_copy(update=short)})


def _first_rows(part: TrainingSet) -> TrainingSet:
    """Return a few queries, with the items that they need."""
    queries = part.train[:_DRY_ROWS]
    wanted = {item for query in queries for item in (*query.positives, *query.negatives)}
    kept = wanted | set(list(part.rows)[:_DRY_ROWS])
    return replace(
        part,
        train=queries,
        rows={key: row for key, row in part.rows.items() if key in kept},
        texts={key: text for key, text in part.texts.items() if key in kept},
    )


def _prepare(output: Path, recipe: Recipe, card: Mapping[str, Any], *, restart: bool) -> None:
    """Make the output folder, and write what is known before the first step."""
    if restart:
        for path in (output / "checkpoint", output / "checkpoint.old", output / "events"):
            shutil.rmtree(path, ignore_errors=True)
        (output / "metrics.csv").unlink(missing_ok=True)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if (output / "checkpoint").exists():
            return  # its recipe and cards are there; another recipe is refused before it could replace them
        (output / "recipe.yaml").write_text(recipe_text(recipe), encoding="utf-8")
        (output / "data-card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise CheckpointError(f"{output} cannot be written: {exc.strerror}", hint="give another --output") from exc


def _hashes(recipe: Recipe) -> list[str]:
    """Return the hashes of what earlier stages wrote and this recipe names."""
    bases = [recipe.base, *(recipe.embedders if isinstance(recipe, RlRecipe) else ())]
    files = [base.adapter / "adapter_model.safetensors" for base in bases if base.adapter]
    if isinstance(recipe, EmbedderRecipe) and recipe.options.generated:
        files.append(recipe.options.generated)
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def _num_trained(built: Built) -> int:
    return sum(value.numel() for value in built.stage.module.parameters() if value.requires_grad)
