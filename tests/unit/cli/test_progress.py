from __future__ import annotations

import io
import sys

import pytest

from lrem_os.cli import progress
from lrem_os.cli.progress import ingest_progress
from lrem_os.ingest.report import Tally


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def halfway() -> Tally:
    tally = Tally(total=2000, indexed=700, unchanged=200, superseded=50, failed=50)
    tally.waiting = "OpenSearch pushes back (429); trying again in 2.0 s"
    tally.started -= 10.0
    return tally


def test_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with ingest_progress() as update:
        tally = halfway()
        tally.started = now - 10
        for second in range(25):
            now = 1000.0 + second
            update(tally)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0] == (
        "ingest: 1,000 of 2,000 rows, 50/s, 20 s left; 50 failed; OpenSearch pushes back (429); trying again in 2.0 s"
    )


def test_before_the_first_row_there_is_no_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.0)
    with ingest_progress() as update:
        update(Tally())
        update(Tally(total=5))
    assert capsys.readouterr().err.count("ingest: 0 of ") == 2


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    with ingest_progress() as update:
        update(Tally())
        update(halfway())
    shown = screen.getvalue()
    assert "1000/2000" in shown
    assert "50 failed" in shown
    assert "trying again" in shown
