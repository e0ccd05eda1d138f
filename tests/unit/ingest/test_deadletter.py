from __future__ import annotations

import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import DatasetError
from lrem_os.ingest.deadletter import DeadLetters, Letter


def add(letters: DeadLetters, row: Any = None, line: int = 3) -> None:
    letters.add(Letter("c.jsonl", line, "a", "bad_row", "because", row))


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_an_entry_holds_all_that_is_needed_to_mend_it(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "new" / "dead.jsonl")
    add(letters, {"id": "a", "title": "x\u2028y\x00é"})
    assert entries(letters.path) == [  # written through: a kill loses nothing
        {
            "path": "c.jsonl",
            "line": 3,
            "id": "a",
            "code": "bad_row",
            "reason": "because",
            "row": {"id": "a", "title": "x\u2028y\x00é"},
        }
    ]
    letters.close()
    assert letters.count == 1


def test_no_entry_no_file(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "dead.jsonl")
    letters.close()
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_json_cannot_hold_is_named_all_the_same(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"k": deep}
    letters = DeadLetters(tmp_path / "dead.jsonl")
    for line, row in enumerate(({"x": deep}, {"x": 2**70}, {"x": "\ud800"}, {"x": Decimal("1.5")}, {"x": b"\xff"})):
        add(letters, row, line)
    letters.close()
    assert [(entry["line"], entry["row"]) for entry in entries(letters.path)] == [
        (0, None),
        (1, None),
        (2, None),
        (3, {"x": "1.5"}),
        (4, {"x": "b'\\xff'"}),
    ]


def test_a_file_that_exists_is_refused_before_the_work_begins(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    path.write_text("precious")
    with pytest.raises(DatasetError, match="cannot be written: it exists already") as caught:
        DeadLetters(path)
    assert "--dead-letters" in (caught.value.hint or "")
    assert path.read_text() == "precious"


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="dead-letter file cannot be written"):
        add(DeadLetters(tmp_path / "file" / "dead.jsonl"))
    full = DeadLetters(Path("/dev") / "lrem-os-no-such-device")
    full._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed below
    with pytest.raises(DatasetError, match="No space left"):
        add(full)
    full.close()


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "dead.jsonl")
    threads = [
        threading.Thread(target=lambda first=first: [add(letters, {"x": "y" * 5000}, first + n) for n in range(50)])
        for first in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    letters.close()
    assert sorted(entry["line"] for entry in entries(letters.path)) == list(range(400))
    assert letters.count == 400
