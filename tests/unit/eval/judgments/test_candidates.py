from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.datasets import read_file
from lrem_os.eval.judgments.candidates import parse_candidates, read_items, sample_pairs


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_candidates_of_a_run_a_sheet_and_qrels(tmp_path: Path) -> None:
    run = write(tmp_path / "run", "q1 Q0 a 1 1 x\nq1 Q0 b 2 3 x\nq1 Q0 c 3 2 x\nq2 Q0 a 1 1 x\n")
    assert parse_candidates(read_file(run), depth=2) == {"q1": {"b": "", "c": ""}, "q2": {"a": ""}}
    sheet = write(tmp_path / "sheet", "qid,query,doc_id,title,grade\nq1,bag,a,Red bag,\nq1,bag,b,,2\n")
    assert parse_candidates(read_file(sheet), depth=2) == {"q1": {"a": "Red bag", "b": ""}}
    lines = write(tmp_path / "lines", '{"qid": "q1", "doc_id": 5, "title": null}\n')
    assert parse_candidates(read_file(lines), depth=2) == {"q1": {"5": ""}}
    qrels = write(tmp_path / "qrels", "q1 0 a 3\nq1 0 b 0\n")
    assert parse_candidates(read_file(qrels), depth=1) == {"q1": {"a": "", "b": ""}}
    with pytest.raises(DatasetError, match="qrels:2: 3 columns: want 4"):
        parse_candidates(read_file(write(qrels, "q1 0 a 3\nq1 b 0\n")), depth=1)
    with pytest.raises(InputError, match="sheet:2: no qid or no doc_id"):
        parse_candidates(read_file(write(sheet, "qid,doc_id,title\n,a,b\n")), depth=1)


def test_items_are_read_as_the_embedder_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(
        gzip.compress(b'{"id": 1, "title": "Bag", "brand": "X", "price": 3}\n\n{"id": "2", "title": "Sofa"}\n')
    )
    assert read_items(path, ["1"], id_field="id", fields=("title", "brand")) == {"1": "Bag\nX"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"id": 1}\n{"sku": 2}\n', r"c:2: no id"),
        (b"id,title\n1,x\n", r"c:1: broken JSON"),
        (b"[1]\n", r"c:1: no id"),
        (gzip.compress(b'{"id": 1}\n' * 100)[:-9], "broken gzip"),
    ],
)
def test_a_catalog_that_cannot_be_read_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_items(tmp_path / "c", ["1"], id_field="id", fields=("title",))
    with pytest.raises(DatasetError, match="cannot read it: No such file"):
        read_items(tmp_path / "none", ["1"], id_field="id", fields=("title",))


def test_samples_are_drawn_by_their_seed() -> None:
    candidates = {f"q{query}": {f"d{doc}": "" for doc in range(10)} for query in range(5)}
    drawn = sample_pairs(candidates, 12, seed=1)
    assert sum(map(len, drawn.values())) == 12
    assert drawn == sample_pairs(candidates, 12, seed=1) != sample_pairs(candidates, 12, seed=2)
    assert list(drawn) == sorted(drawn)
    assert sample_pairs(candidates, 99, seed=1) == candidates
