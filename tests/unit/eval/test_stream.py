from __future__ import annotations

import gzip
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, LremError, RunError
from lrem_os.eval import stream
from lrem_os.eval.runs import read_run
from lrem_os.eval.stream import RunFile, is_trec_file


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lists(path: Path) -> dict[str, list[str]]:
    return dict(RunFile(str(path)).lists())


def whole(path: Path) -> dict[str, list[str]]:
    return {query_id: [hit.doc_id for hit in ranking.hits] for query_id, ranking in read_run(path).items()}


TEXT = "q1 Q0 b 1 2.5 x\nq1 Q0 a 2 1 x\nq2\tQ0\t c 1 3e0 x\nq2 Q0 d 2 .5 x\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\n\n \t\n\u00a0\n").encode(),
        TEXT.rstrip("\n").encode(),
        gzip.compress(TEXT.encode()),
        gzip.compress(TEXT[:20].encode()) + gzip.compress(TEXT[20:].encode()),
    ],
    ids=["plain", "byte order mark", "CRLF", "blank lines", "no last newline", "gzip", "two gzip members"],
)
def test_the_same_lists_however_the_file_is_written(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "x.trec", data)
    assert lists(path) == whole(path) == {"q1": ["b", "a"], "q2": ["c", "d"]}


def test_checksum_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    file = RunFile(str(write(tmp_path / "x", gzip.compress(TEXT.encode(), mtime=0))))
    assert file.sha256 == ""
    assert len(list(file.lists())) == 2
    import hashlib

    assert file.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()


IDS = st.text("abü\u00a0\u2028\x85\x0b\x0c", min_size=1, max_size=3).filter(str.strip)
SCORES = st.one_of(
    st.sampled_from(["1", "1.0", "1.00000000001", "2", "-0", "1e-3", "+1", ".5", "1_0"]), st.floats(-9, 9).map(repr)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(st.sampled_from("pqr"), IDS), SCORES, min_size=1, max_size=12), st.randoms())
def test_the_same_order_as_when_read_whole(tmp_path: Path, rows: dict[tuple[str, str], str], rng) -> None:
    lines = [f"{qid} Q0 {doc} 1 {score} x" for (qid, doc), score in rows.items()]
    rng.shuffle(lines)
    path = write(tmp_path / "x.trec", "\n".join(lines))
    assert lists(path) == whole(path)


def test_lines_are_whole_wherever_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    rows = [f"q{n} Q0 dü{d} 1 {rng.random():.3f} x\r\n" for n in range(7) for d in rng.sample(range(50), 20)]
    path = write(tmp_path / "x.trec", "".join(rows))
    expected = whole(path)
    for size in (1, 2, 7, 64, 1000):
        monkeypatch.setattr(stream, "_CHUNK", size)
        assert lists(path) == expected


BROKEN = [
    ("q1 Q0 a 1 2.0 x\nq1 Q0 a 2 1.0 x", "2: document 'a' comes twice for query 'q1'"),
    ("q1 Q0 a 1 2.0 x\nq2 Q0 b 1 1 x\nq1 Q0 a 2 1.0 x", "3: document 'a' comes twice for query 'q1'"),
    ("q1 Q0 b 1 2.0 x\nq1 Q0 a 1 nan x", "2: score 'nan': want a finite number"),
    ("q1 Q0 a 1 -Infinity x", "1: score '-Infinity': want a finite number"),
    ("q1 Q0 a 1 1e300 x", "1: score '1e300': want a finite number"),
    ("\nq1 Q0 a 1 high x", "2: score 'high' is no number"),
    ("q1 Q0 a 1 true x", "1: score 'true' is no number"),
    ("q1 Q0 a 1 1,2 x", "1: score '1,2' is no number"),
    ("q1 Q0 a 1 null x", "1: score 'null' is no number"),
    ("q1 Q0 a 1 2.0", "1: 5 columns: want 6"),
    ("q1 Q0 a 1 2.0 x\n\nq1 Q0 my doc 1 2.0 x", "3: 7 columns: want 6"),
    ("q1 Q0 a\x0bb 1 2.0", "1: 5 columns: want 6"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_line_that_cannot_be_used_is_named_as_when_read_whole(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "run.trec", text)
    with pytest.raises(RunError) as caught:
        lists(path)
    assert message in str(caught.value)
    with pytest.raises(RunError) as again:
        whole(path)
    assert str(caught.value) == str(again.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n \n",
        gzip.compress(b""),
        gzip.compress(TEXT.encode() * 50)[:-9],
        b"\x1f\x8bnot gzip",
        b"q1 Q0 caf\xe9 1 2 x",
    ],
)
def test_a_file_that_cannot_be_read_is_named_as_when_read_whole(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "run.trec", data)
    with pytest.raises(DatasetError) as caught:
        lists(path)
    with pytest.raises(LremError) as again:
        whole(path)
    assert str(caught.value) == str(again.value)


def test_no_file_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.trec", tmp_path):
        with pytest.raises(DatasetError, match=r"cannot read it: (No such file|Is a directory)"):
            lists(path)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    def feed(text: str) -> Path:
        pipe = tmp_path / f"pipe{len(text)}"
        os.mkfifo(pipe)
        threading.Thread(target=lambda: pipe.write_text(text), daemon=True).start()
        return pipe

    assert lists(feed(TEXT)) == {"q1": ["b", "a"], "q2": ["c", "d"]}
    with pytest.raises(RunError, match="the lines of 1 queries do not stand together, and a pipe is read once"):
        lists(feed(TEXT + "q1 Q0 z 1 9 x\n"))


def test_what_is_taken_for_a_trec_file(tmp_path: Path) -> None:
    assert is_trec_file(write(tmp_path / "a", TEXT))
    assert is_trec_file(write(tmp_path / "b", gzip.compress(TEXT.encode())))
    assert not is_trec_file(write(tmp_path / "c", '{"schema": "x"}\n'))
    assert not is_trec_file(write(tmp_path / "d", gzip.compress(b'\xef\xbb\xbf{"schema": "x"}\n')))
    assert not is_trec_file(tmp_path)
    assert not is_trec_file(tmp_path / "nowhere")
