"""The loop that every stage shares: order, optimiser, schedule, metrics, checkpoints that can be resumed.

A stage says what its batches are and what one step does; everything that must survive a ``kill -9`` lives here. The
order of the batches depends on the seed and the epoch alone, and a checkpoint holds weights, optimiser and random
state, so a run that was killed and resumed ends with the weights of one that was not.

With several processes (``accelerate launch``), every process runs every step and gradients are averaged over them. A
stage that knows nothing of it stays right, and gains nothing; one that takes a part of each batch scales its loss so
that the mean over the processes is the loss of the whole batch.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lrem_os.errors import CheckpointError, NonFiniteLoss
from lrem_os.train.settings import Optimisation

Metrics = Mapping[str, float]
Backward = Callable[[Tensor], None]

Row = TypeVar("Row")

_CHECKPOINT = "checkpoint"


class Stage(Protocol):
    """What is trained, and how one step of it goes."""

    @property
    def module(self) -> torch.nn.Module:
        """The model; its parameters that require a gradient are trained."""
        ...

    def plan(self, epoch: int, rng: random.Random) -> Sequence[Any]:
        """Return the batches of an epoch, the same for the same random state."""
        ...

    def step(self, batch: Any, step: int, backward: Backward) -> Metrics:
        """Compute the loss of one batch, call ``backward`` on it, and return what is worth a line in the metrics.

        ``backward`` may be called several times: gradients add up.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for whoever shows it.

    Args:
        step: Steps done.
        num_steps: Steps in all.
        elapsed_s: Seconds since this start of the run.
        metrics: Of the last step.
    """

    step: int
    num_steps: int
    elapsed_s: float
    metrics: Metrics


def run(
    stage: Stage,
    optimisation: Optimisation,
    folder: Path,
    *,
    fingerprint: str,
    accelerator: Accelerator | None = None,
    bfloat16: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> int:
    """Train a stage to its end, from its last checkpoint if there is one; return the number of steps.

    Args:
        stage: What is trained.
        optimisation: Epochs, learning rate, seed and so on.
        folder: Where checkpoint, ``metrics.csv`` and TensorBoard files go.
        fingerprint: Of recipe and data: a checkpoint of another one is refused.
        accelerator: Given by the caller where the stage needs it too.
        bfloat16: Whether the forward pass runs in mixed precision.
        on_progress: Told after every step.

    Raises:
        CheckpointError: The checkpoint belongs to another recipe or other data.
        NonFiniteLoss: A step gave NaN or infinity; the last checkpoint is kept.
    """
    accelerator = accelerator or Accelerator(cpu=not torch.cuda.is_available())
    seed_everything(optimisation.seed)
    named = {name: value for name, value in stage.module.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW(
        named.values(), lr=optimisation.learning_rate, weight_decay=optimisation.weight_decay, betas=(0.9, 0.98)
    )
    plans = [_plan(stage, optimisation.seed, epoch) for epoch in range(optimisation.epochs)]
    batches = [batch for plan in plans for batch in plan]
    if optimisation.max_steps is not None:
        batches = batches[: optimisation.max_steps]
    if accelerator.is_main_process:
        _mend(folder / _CHECKPOINT)
    accelerator.wait_for_everyone()
    first = _resume(folder / _CHECKPOINT, named, optimiser, fingerprint)

    def backward(loss: Tensor) -> None:
        with torch.autocast(accelerator.device.type, enabled=False):  # forward alone is meant to run in bfloat16
            accelerator.backward(loss)

    started = time.monotonic()
    with _Recorder(folder, first, enabled=accelerator.is_main_process) as recorder:
        for step in range(first, len(batches)):
            for group in optimiser.param_groups:
                group["lr"] = optimisation.learning_rate * schedule(step, len(batches), optimisation.warmup)
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bfloat16):
                metrics = dict(stage.step(batches[step], step, backward))
            metrics = _average(metrics, named.values(), accelerator)
            norm = float(torch.nn.utils.clip_grad_norm_(named.values(), optimisation.max_grad_norm))
            _check_finite(step, metrics, norm)
            optimiser.step()
            recorder.write(step, metrics | {"grad_norm": norm, "learning_rate": optimiser.param_groups[0]["lr"]})
            done = step + 1
            if accelerator.is_main_process and (done % optimisation.save_every == 0 or done == len(batches)):
                _save(folder / _CHECKPOINT, done, named, optimiser, fingerprint)
            on_progress(Progress(done, len(batches), time.monotonic() - started, metrics))
    return len(batches)


def schedule(step: int, num_steps: int, warmup: float) -> float:
    """Return the factor of the learning rate: linear warm-up, then a cosine down to zero.

    >>> [round(schedule(step, 100, 0.1), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    num_warm = max(1, math.ceil(num_steps * warmup))
    if step < num_warm:
        return (step + 1) / num_warm
    return 0.5 * (1 + math.cos(math.pi * (step - num_warm) / max(1, num_steps - num_warm)))


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a batch a process takes.

    Args:
        index: Number of this process, from 0.
        count: Number of processes.
    """

    index: int = 0
    count: int = 1

    def of(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of this process.

        >>> Share(1, 3).of("abcdefgh")
        'beh'
        """
        return rows[self.index :: self.count]


ALONE = Share()
"""The whole batch: there is one process."""


def seed_everything(seed: int) -> None:
    """Seed Python's and torch's generators."""
    random.seed(seed)
    torch.manual_seed(seed)


def _plan(stage: Stage, seed: int, epoch: int) -> Sequence[Any]:
    return stage.plan(epoch, random.Random(f"{seed}/{epoch}"))


def _average(
    metrics: dict[str, float], parameters: Iterable[torch.nn.Parameter], accelerator: Accelerator
) -> dict[str, float]:
    """Average gradients in place, and metrics, over the processes. Where none has a gradient, there is none."""
    if accelerator.num_processes == 1:
        return metrics
    values = list(parameters)
    counts = accelerator.reduce(
        torch.tensor([float(value.grad is not None) for value in values]).to(accelerator.device)
    )
    for value, count in zip(values, counts.tolist(), strict=True):
        if count:
            own = torch.zeros_like(value) if value.grad is None else value.grad
            value.grad = accelerator.reduce(own, "mean")
    means = accelerator.reduce(torch.tensor(list(metrics.values()), device=accelerator.device), "mean")
    return dict(zip(metrics, means.tolist(), strict=True))


def _check_finite(step: int, metrics: Metrics, norm: float) -> None:
    bad = {name: value for name, value in {**metrics, "grad_norm": norm}.items() if not math.isfinite(value)}
    if bad:
        raise NonFiniteLoss(step, bad)


def _save(
    path: Path, step: int, named: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer, fingerprint: str
) -> None:
    """Write a checkpoint beside its place and swap the two, so that one whole checkpoint is always there."""
    fresh = path.with_name(path.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors = {f"weight.{name}": value.detach().contiguous() for name, value in named.items()}
    for name, value in named.items():
        for key, state in optimiser.state.get(value, {}).items():
            tensors[f"optimiser.{key}.{name}"] = state.detach().contiguous().clone()
    tensors["random.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    save_file(tensors, fresh / "state.safetensors")
    version, words, gauss = random.getstate()
    state = {"step": step, "fingerprint": fingerprint, "random": [version, list(words), gauss]}
    (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.rename(path, old)
    os.rename(fresh, path)
    shutil.rmtree(old, ignore_errors=True)


def _mend(path: Path) -> None:
    """Put the last checkpoint back where a kill came between the two renames of ``_save``."""
    old = path.with_name(path.name + ".old")
    if not path.exists() and old.exists():
        os.rename(old, path)


def _resume(
    path: Path, named: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer, fingerprint: str
) -> int:
    """Load a checkpoint and return the steps it stands for; 0 where there is none."""
    if not path.exists():
        return 0
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}", hint="delete it to start again") from exc
    if state["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} belongs to another recipe or other data", hint="give another --output, or --restart"
        )
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(tensors[f"weight.{name}"])
            keys = {key: f"optimiser.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            if all(key in tensors for key in keys.values()):
                optimiser.state[value] = {key: tensors[stored].to(value.device) for key, stored in keys.items()}
                optimiser.state[value]["step"] = tensors[keys["step"]]
    torch.set_rng_state(tensors["random.torch"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    version, words, gauss = state["random"]
    random.setstate((version, tuple(words), gauss))
    return int(state["step"])


class _Recorder:
    """Writes ``metrics.csv`` and TensorBoard events; rows of steps that a resumed run does again are dropped."""

    def __init__(self, folder: Path, first: int, *, enabled: bool) -> None:
        self._path = folder / "metrics.csv"
        self._events_folder = folder / "events"
        self._first = first
        self._enabled = enabled
        self._fields: list[str] = []

    def __enter__(self) -> _Recorder:
        if self._enabled:
            from torch.utils.tensorboard import SummaryWriter

            self._path.parent.mkdir(parents=True, exist_ok=True)
            rows = _read_rows(self._path)
            self._rewrite(list(rows[0]) if rows else [], [row for row in rows if int(row["step"]) < self._first])
            self._events = SummaryWriter(str(self._events_folder), purge_step=self._first)
        return self

    def write(self, step: int, metrics: Metrics) -> None:
        if not self._enabled:
            return
        if new := sorted(set(metrics) - set(self._fields)):  # a kind of batch that did not come before
            self._rewrite([*(self._fields or ["step"]), *new], _read_rows(self._path))
        row = {"step": str(step), **{name: f"{value:.6g}" for name, value in metrics.items()}}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._fields).writerow(row)
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def _rewrite(self, fields: list[str], rows: Sequence[Mapping[str, str]]) -> None:
        """Replace the file at once, so that a kill loses no row."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            if fields:
                writer.writeheader()
            writer.writerows(rows)
        os.replace(fresh, self._path)
        self._fields = fields

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            self._events.close()


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
