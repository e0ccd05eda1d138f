from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lrem_os.config import ReasoningSettings
from lrem_os.errors import DatasetError
from lrem_os.query_plugin.routing.precomputed import precomputed_line, read_precomputed, reading_fingerprint
from lrem_os.types import Reasoning

SAMPLES = (
    Reasoning(("trivet",), "trivet", 2, truncated=False, confidence=0.5),
    Reasoning((), "", 1, truncated=True, confidence=math.nan),
)


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def line(query: str = "hot pot", fingerprint: str = "f1", vector: tuple[float, ...] = (0.6, 0.8)) -> bytes:
    return precomputed_line(query, fingerprint, vector, SAMPLES, ["trivet"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = read_precomputed(write(tmp_path / "p.jsonl", line()), fingerprint="f1", dimension=2)
    found = file.get("  hot   pot ")
    assert found is not None
    assert (found.vector, found.keywords) == ((0.6, 0.8), ("trivet",))
    assert found.reasonings[0] == SAMPLES[0]
    assert math.isnan(found.reasonings[1].confidence)
    assert found.reasonings[1].truncated
    assert file.get("Hot pot") is None  # case is the model's business
    assert file.num_others == 0


def test_lines_of_other_models_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", line(), line("mug", "f2", (1.0,)))
    file = read_precomputed(path, fingerprint="f1", dimension=2)
    assert (list(file.queries), file.num_others) == (["hot pot"], 1)


def test_of_a_query_that_comes_twice_the_last_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", line(), line(vector=(1.0, 0.0)))
    found = read_precomputed(path, fingerprint="f1", dimension=2).get("hot pot")
    assert found is not None
    assert found.vector == (1.0, 0.0)


def test_a_last_line_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", line(), line("mug")[:-1])
    assert list(read_precomputed(path, fingerprint="f1", dimension=2).queries) == ["hot pot"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"{\n", "is not JSON"),
        (b"[]\n", "no JSON object"),
        (b"{}\n", "no line of"),
        (line(vector=(1.0,)), "1 numbers, not 2"),
        (line(vector=(1.0, 1.0)), "no unit vector"),
        (line().replace(b"0.6", b'"x"'), "no line of"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, broken: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_precomputed(write(tmp_path / "p.jsonl", line(), broken), fingerprint="f1", dimension=2)
    assert caught.value.line == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.jsonl: cannot be read"):
        read_precomputed(tmp_path / "none.jsonl", fingerprint="f1", dimension=2)


def test_the_fingerprint_changes_with_what_changes_the_vector_and_with_nothing_else() -> None:
    embedder, reasoner, settings = {"model": "e"}, {"model": "r", "seed": 0}, ReasoningSettings()
    base = reading_fingerprint(embedder, reasoner, settings)
    assert base == reading_fingerprint(dict(embedder), dict(reasoner), settings.model_copy(update={"timeout_s": 9.0}))
    others = {
        reading_fingerprint({"model": "x"}, reasoner, settings),
        reading_fingerprint(embedder, {"model": "r", "seed": 1}, settings),
        reading_fingerprint(embedder, None, settings),
        *(
            reading_fingerprint(embedder, reasoner, settings.model_copy(update=change))
            for change in ({"query_weight": 0.5}, {"combine": "mean"}, {"weighting": "agreement"})
        ),
    }
    assert len(others | {base}) == 7
    assert json.loads(f'"{base}"') == base
    assert len(base) == 16
