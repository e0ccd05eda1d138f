"""What a training run shows while it runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lrem_os.cli import train_progress


def progress(step: int, elapsed_s: float) -> Any:
    return SimpleNamespace(step=step, num_steps=100, elapsed_s=elapsed_s, metrics={"loss": 1.23456})


def test_plain_lines_tell_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(train_progress.time, "monotonic", lambda: now)
    with train_progress.train_progress("rl") as update:
        update(progress(41, 2.0))  # resumed at 40: too early for a line
        now = 11.0
        update(progress(50, 20.0))
    assert capsys.readouterr().err == "rl: 50 of 100, 0.50 steps/s, 0:01:40 left; loss 1.23\n"


def test_a_bar_is_shown_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with train_progress.train_progress("rl") as update:
        assert capsys.readouterr().err == ""  # nothing before the first step: other processes show nothing at all
        update(progress(1, 2.0))
        update(progress(100, 50.0))
    assert "100/100" in capsys.readouterr().err


def test_counts_are_told_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(train_progress.time, "monotonic", lambda: now)
    with train_progress.count_progress("gains") as update:
        update(1, 2000)
        now = 11.0
        update(1500, 2000)
    assert capsys.readouterr().err == "gains: 1,500 of 2,000\n"
