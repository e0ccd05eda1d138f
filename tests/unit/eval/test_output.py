from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import read_qrels
from lrem_os.eval.output import format_qrels, write_whole

QRELS = {"q2": {"b": 3, "a": 0}, "q1": {"a": 1}}


@pytest.mark.parametrize("name", ["qrels.txt", "qrels.jsonl"])
def test_judgments_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    write_whole(path, format_qrels(QRELS, path))
    assert read_qrels(path) == QRELS
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_an_id_with_a_blank_has_no_place_in_trec(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the id 'my doc' holds a blank"):
        format_qrels({"q1": {"my doc": 1}}, "x.txt")
    assert format_qrels({"q1": {"my doc": 1}}, "x.jsonl") == b'{"qid":"q1","doc_id":"my doc","grade":1}\n'


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "file").write_text("x")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_whole(folder, b"new")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_whole(folder / "file" / "below", b"new")
    assert (folder / "file").read_text() == "x"
