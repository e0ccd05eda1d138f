from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.lines import cut_torn_line


@pytest.mark.parametrize(
    ("there", "left"), [(b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"torn", b""), (b"a\n\nb\n{", b"a\n\nb\n")]
)
def test_the_torn_line_goes_and_the_others_stay(tmp_path: Path, there: bytes, left: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(there)
    cut_torn_line(path)
    assert path.read_bytes() == left


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    cut_torn_line(tmp_path / "none")
    assert not (tmp_path / "none").exists()
