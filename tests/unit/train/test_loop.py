"""The loop: schedule, checkpoints, metrics, and the parts that a kill can fall between."""

from __future__ import annotations

import contextlib
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from lrem_os.errors import CheckpointError, NonFiniteLoss  # noqa: E402
from lrem_os.train import loop  # noqa: E402
from lrem_os.train.loop import Backward, Progress  # noqa: E402
from lrem_os.train.settings import Optimisation  # noqa: E402


class Line:
    """Fits a line; every third step has a metric of its own, and dropout draws from the random state."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.steps: list[int] = []
        self.poison = -1

    def plan(self, epoch: int, rng: random.Random) -> Sequence[int]:
        return rng.sample(range(100), 5)

    def step(self, batch: int, step: int, backward: Backward) -> dict[str, float]:
        self.steps.append(step)
        loss = (self.module(torch.full((2, 4), batch / 100)) - 1).square().mean()
        if step == self.poison:
            loss = loss * float("nan")
        backward(loss)
        return {"loss": loss.item(), **({"third": 1.0} if step % 3 == 2 else {})}


OPTIMISATION = Optimisation(epochs=2, save_every=4, learning_rate=0.01)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(folder: Path, stage: Line, *, fingerprint: str = "f", stop_at: int | None = None) -> list[int]:
    def told(progress: Progress) -> None:
        if progress.step == stop_at:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        loop.run(stage, OPTIMISATION, folder, fingerprint=fingerprint, on_progress=told)
    return stage.steps


def test_a_stopped_run_goes_on_and_ends_with_the_same_weights_and_rows(tmp_path: Path) -> None:
    whole, parts = Line(), Line()
    assert run(tmp_path / "a", whole) == list(range(10))
    assert run(tmp_path / "b", Line(), stop_at=6) == list(range(6))
    assert len(rows(tmp_path / "b")) == 6
    assert run(tmp_path / "b", parts) == [4, 5, 6, 7, 8, 9]
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, parts.module.state_dict()[name])
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert [row["step"] for row in rows(tmp_path / "b")] == [str(step) for step in range(10)]
    assert [row["third"] for row in rows(tmp_path / "b")][:4] == ["", "", "1", ""]
    assert run(tmp_path / "b", Line()) == []  # done
    assert len(rows(tmp_path / "b")) == 10


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, Line(), stop_at=6)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert run(tmp_path, Line()) == [4, 5, 6, 7, 8, 9]


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Line(), stop_at=6)
    with pytest.raises(CheckpointError, match="another recipe or other data"):
        run(tmp_path, Line(), fingerprint="g")
    (tmp_path / "checkpoint/state.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(tmp_path, Line())


def test_nan_ends_the_run_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    stage = Line()
    stage.poison = 6
    with pytest.raises(NonFiniteLoss, match="step 6 gave loss = nan"):
        run(tmp_path, stage)
    assert run(tmp_path, Line())[0] == 4


def test_the_schedule_rises_and_falls() -> None:
    factors = [loop.schedule(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 <= factors[-1] < 0.001


def test_shares_are_disjoint_and_whole() -> None:
    parts = [loop.Share(index, 3).of(range(10)) for index in range(3)]
    assert sorted(row for part in parts for row in part) == list(range(10))
