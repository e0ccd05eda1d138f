"""``lrem-os ingest`` as a process: exit codes, reports, signals; a sentence for every trouble, a traceback for none."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.opensearch import FakeOpenSearch, Fault, Request

ROWS = b"".join(b'{"id": "p%d", "title": "title %d"}\n' % (number, number) for number in range(40))


@pytest.fixture
def fake() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as server:
        yield server


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(fake: FakeOpenSearch, tmp_path: Path) -> Iterator[Start]:
    """Start ``lrem-os ingest`` in an empty folder."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: str, **settings: object) -> subprocess.Popen[bytes]:
        values = {"search.hosts": f"[{fake.url}]", "model.name": "fake:8", "index.name": "shop"} | settings
        overrides = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "lrem_os", "ingest", *args, *overrides]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[bytes], stdin: bytes = b"") -> tuple[int, str, str]:
    out, err = process.communicate(stdin if process.stdin else None, timeout=60)
    assert b"Traceback" not in err
    assert b"bug in lrem-os" not in err
    return process.returncode, (out or b"").decode(), err.decode()


def test_a_report_in_json(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    code, out, _ = finish(start("c.jsonl", "--json"))
    report = json.loads(out)
    assert code == 0
    assert (report["read"], report["indexed"], report["adds_up"], report["index"]) == (40, 40, True, "shop-v1")
    assert len(fake.indices["shop-v1"].visible) == 40
    code, out, _ = finish(start("c.jsonl"))
    assert code == 0
    assert out.startswith("read 40 = indexed 0 + unchanged 40 + superseded 0 + failed 0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl"]


def test_partial_failure_is_exit_code_7_and_names_the_file(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS + b'{"id": \n{"id": "x"}\n')
    code, out, err = finish(start("c.jsonl", "--dead-letters", "dead.jsonl"))
    assert code == 7
    assert "read 42 = indexed 40 + unchanged 0 + superseded 0 + failed 2\n" in out
    assert "2 of 42 rows could not be indexed" in err
    assert "dead.jsonl" in err
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_bytes().splitlines()]
    assert [(letter["path"], letter["line"], letter["id"]) for letter in letters] == [
        ("c.jsonl", 41, None),
        ("c.jsonl", 42, "x"),
    ]
    assert len(fake.indices["shop-v1"].visible) == 40


def test_standard_input(start: Start, fake: FakeOpenSearch) -> None:
    code, out, _ = finish(start("-", "--json"), ROWS)
    assert (code, json.loads(out)["indexed"]) == (0, 40)
    code, out, _ = finish(start("-", "--format", "csv", "--json"), b"id,title\nnew,from csv\n")
    assert (code, json.loads(out)["indexed"]) == (0, 1)
    assert fake.indices["shop-v1"].visible["new"]["title"] == "from csv"


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("c.jsonl", b"", 3, "the input holds no rows"),
        ("c.jsonl", gzip.compress(ROWS)[:100], 3, "c.jsonl: the gzip data is damaged or cut off"),
        ("c.parquet", b"PAR1 not really", 3, "c.parquet: is not a Parquet file"),
        ("c.csv", b"id,title,id\n", 3, "c.csv:1: the header names column 'id' twice"),
        ("c.txt", b"x", 3, "c.txt: unknown kind of file .txt"),
        ("c.jsonl", ROWS.decode().encode("utf-16"), 7, "rows could not be indexed"),
        ("c.jsonl", b'{"id": "a", "title": "caf\xe9"}\n', 7, "1 of 1 rows could not be indexed"),
        ("c.jsonl", b"x" * 17 * 2**20, 7, "1 of 1 rows could not be indexed"),
        ("c.jsonl", b'{"id": "a", "x": ' + b'{"k":' * 900 + b"1" + b"}" * 900 + b', "title": "t"}', 7, "1 of 1 rows"),
        ("c.csv", b'id,title\n1,"never closed\n', 7, "1 of 1 rows could not be indexed"),
    ],
)
def test_bad_files(start: Start, tmp_path: Path, name: str, content: bytes, code: int, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    found, _, err = finish(start(name))
    assert found == code
    assert told in err


@pytest.mark.parametrize(
    ("args", "told"),
    [(("missing.jsonl",), "missing.jsonl: no such file"), ((".",), "is a directory"), (("*.csv",), "no such file")],
)
def test_files_that_are_none(start: Start, args: tuple[str, ...], told: str) -> None:
    code, _, err = finish(start(*args))
    assert code == 3
    assert told in err


def test_a_cluster_that_is_not_there(start: Start, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    code, _, err = finish(start("c.jsonl", **{"search.hosts": "[http://127.0.0.1:1]"}))
    assert code == 6
    assert "error: OpenSearch cannot be reached" in err


def test_a_cluster_that_denies_access(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    fake.fault = lambda request: Fault(status=403) if request.action == "_bulk" else None
    code, _, err = finish(start("c.jsonl"))
    assert code == 6
    assert "OpenSearch denies access (403)" in err


def test_another_model_is_refused_with_the_way_out(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    assert finish(start("c.jsonl"))[0] == 0
    code, _, err = finish(start("c.jsonl", **{"model.name": "fake:16"}))
    assert code == 6
    assert "model: fake:8 in the index, fake:16 now" in err
    assert "--recreate" in err
    code, out, _ = finish(start("c.jsonl", "--recreate", **{"model.name": "fake:16"}))
    assert code == 0
    assert "alias shop now points to shop-v2" in out
    assert fake.behind("shop") == ["shop-v2"]


def test_a_rebuild_that_is_not_published_is_said(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    assert finish(start("c.jsonl"))[0] == 0
    (tmp_path / "c.jsonl").write_bytes(ROWS + b"{\n" * 5)
    code, out, _ = finish(start("c.jsonl", "--recreate"))
    assert code == 7
    assert "alias shop was NOT switched to shop-v2" in out
    assert fake.behind("shop") == ["shop-v1"]


def slow_and_seen(fake: FakeOpenSearch) -> Callable[[], None]:
    """Make every bulk request take a while; return what waits until there were some."""
    fake.fault = lambda request: Fault(delay_s=0.3) if request.action == "_bulk" else None

    def wait() -> None:
        deadline = time.monotonic() + 30
        while len(fake.bulks()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait


SLOW: dict[str, object] = {"ingest.window": 4, "ingest.bulk_docs": 1, "ingest.senders": 2}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_restores_the_settings(
    start: Start, fake: FakeOpenSearch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS * 5 + ROWS.replace(b'"p', b'"q'))
    wait = slow_and_seen(fake)
    process = start("c.jsonl", "--dead-letters", "dead.jsonl", **SLOW)
    wait()
    process.send_signal(number)
    found, _, _ = finish(process)
    assert found == code
    index = fake.indices["shop-v1"]
    assert index.settings["refresh_interval"] == "1s"
    assert "restore" not in index.mapping["_meta"]["lrem"]
    assert 0 < len(index.written) < 80

    fake.fault = lambda _request: None
    report = json.loads(finish(start("c.jsonl", "--json"))[1])
    assert report["unchanged"] + report["indexed"] == 80
    assert report["unchanged"] > 0
    assert len(index.visible) == 80


def test_a_signal_is_heard_while_the_cluster_is_away(start: Start, fake: FakeOpenSearch, tmp_path: Path) -> None:
    """Reader and senders all wait for it, minutes if need be: nobody wants to."""
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    assert finish(start("c.jsonl"))[0] == 0  # so that the next run looks hashes up
    (tmp_path / "c.jsonl").write_bytes(ROWS.replace(b"title ", b"new "))

    def away(request: Request) -> Fault | None:
        return Fault(drop=True) if request.action in ("_bulk", "_mget") else None

    fake.fault = away
    process = start("c.jsonl", **SLOW)
    deadline = time.monotonic() + 30
    while sum(request.action == "_mget" for request in fake.requests) < 12:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert time.monotonic() - begun < 10
    assert fake.indices["shop-v1"].settings["refresh_interval"] == "1s"


def test_a_reader_that_goes_away_is_no_trouble(start: Start, tmp_path: Path) -> None:
    """``lrem-os ingest … | head -0``"""
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    process = start("c.jsonl")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    finish(process)


def test_no_terminal_no_control_characters(start: Start, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(ROWS)
    _, out, err = finish(start("c.jsonl"))
    assert "\x1b" not in out + err


def test_nothing_temporary_is_left(
    start: Start, fake: FakeOpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    wait = slow_and_seen(fake)
    process = start("-", **SLOW)
    assert process.stdin is not None
    process.stdin.write(ROWS)
    process.stdin.close()
    process.stdin = None
    wait()
    assert len(list(scratch.iterdir())) == 1  # the copy of standard input
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    assert list(scratch.iterdir()) == []
