"""Progress of runs where standard error is no terminal."""

from __future__ import annotations

import pytest

from lrem_os.cli.eval_progress import eval_progress


def test_a_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("lrem_os.cli.eval_progress.time.monotonic", lambda: now)
    with eval_progress() as told:
        told("hybrid", 16, 20_000)
        now += 11
        told("hybrid", 32, 20_000)
        now += 1
        told("hybrid", 48, 20_000)
        told("hybrid", 20_000, 20_000)
    assert capsys.readouterr().err == "hybrid: 32 of 20,000\nhybrid: 20,000 of 20,000\n"
