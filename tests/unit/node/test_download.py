from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lrem_os.errors import DownloadFailed
from lrem_os.node.download import digest, download

BODY = bytes(range(256)) * 8192  # 2 MiB


@dataclass
class Repository:
    """A web server that misbehaves as told, and remembers what it was asked for."""

    url: str = ""
    body: bytes = BODY
    checksums: dict[str, str] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        suffix = handler.path.rpartition(".")[2]
        if suffix != "zip":
            text = self.checksums.get(suffix)
            return self.send(handler, 404 if text is None else 200, (text or "").encode())
        wanted = handler.headers["Range"]
        self.asked.append(wanted)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return self.send(handler, status, b"no")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.body):
            return self.send(handler, 416, b"")
        rest = self.body[start:]
        cut = self.breaks_after.pop(0) if self.breaks_after else len(rest)
        return self.send(handler, 206 if start else 200, rest, cut)

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, cut: int | None = None) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:cut])
        handler.close_connection = True


@pytest.fixture
def repository() -> Iterator[Repository]:
    repository = Repository(checksums={"sha512": hashlib.sha512(BODY).hexdigest()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            repository.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    repository.url = f"http://127.0.0.1:{server.server_port}/group/part.zip"
    yield repository
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(repository: Repository, target: Path, sha256: str | None = None) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    download(
        repository.url, target, sha256=sha256, on_bytes=lambda done, total: told.append((done, total)), pause_s=0.001
    )
    return told


def test_a_whole_download_tells_its_progress(repository: Repository, tmp_path: Path) -> None:
    told = fetch(repository, tmp_path / "deep" / "part.zip")
    assert (tmp_path / "deep" / "part.zip").read_bytes() == BODY
    assert told[0] == (0, len(BODY))
    assert told[-1] == (len(BODY), len(BODY))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["part.zip"]


def test_a_connection_that_breaks_off_is_continued_where_it_stopped(repository: Repository, tmp_path: Path) -> None:
    repository.breaks_after = [1_000_000, 500_000, 0]
    fetch(repository, tmp_path / "part.zip")
    assert (tmp_path / "part.zip").read_bytes() == BODY
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in repository.asked[1:] if asked]
    assert repository.asked[0] is None
    assert starts == sorted(starts)
    assert 0 < starts[0] <= 1_000_000
    assert starts[-1] <= 1_500_000


def test_a_later_run_goes_on_with_what_an_earlier_one_left(repository: Repository, tmp_path: Path) -> None:
    repository.breaks_after = [1_000_000] + [0] * 10
    with pytest.raises(DownloadFailed, match=r"cannot fetch .*/part\.zip") as caught:
        fetch(repository, tmp_path / "part.zip")
    assert "run it again" in str(caught.value.hint)
    assert not (tmp_path / "part.zip").exists()
    kept = (tmp_path / "part.zip.part").stat().st_size
    assert kept > 0
    repository.breaks_after, repository.asked = [], []
    told = fetch(repository, tmp_path / "part.zip")
    assert repository.asked == [f"bytes={kept}-"]
    assert told[0] == (kept, len(BODY))
    assert (tmp_path / "part.zip").read_bytes() == BODY


def test_a_server_that_cannot_send_a_rest_sends_the_whole(repository: Repository, tmp_path: Path) -> None:
    repository.ranges = False
    (tmp_path / "part.zip.part").write_bytes(BODY[:1000])
    fetch(repository, tmp_path / "part.zip")
    assert (tmp_path / "part.zip").read_bytes() == BODY


def test_a_complete_part_is_only_checked(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "part.zip.part").write_bytes(BODY)
    assert fetch(repository, tmp_path / "part.zip") == []
    assert (tmp_path / "part.zip").read_bytes() == BODY


@pytest.mark.parametrize("left_over", [b"x" * 1000, BODY + b"too much"])
def test_a_part_of_another_file_is_thrown_away(repository: Repository, tmp_path: Path, left_over: bytes) -> None:
    (tmp_path / "part.zip.part").write_bytes(left_over)
    fetch(repository, tmp_path / "part.zip")
    assert (tmp_path / "part.zip").read_bytes() == BODY


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(repository: Repository, tmp_path: Path) -> None:
    repository.body = BODY[:-1] + b"!"
    with pytest.raises(DownloadFailed, match=r"part\.zip has a wrong checksum \(sha512 "):
        fetch(repository, tmp_path / "part.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_known_checksum_is_used_in_place_of_the_published_one(repository: Repository, tmp_path: Path) -> None:
    repository.checksums = {}
    fetch(repository, tmp_path / "part.zip", sha256=hashlib.sha256(BODY).hexdigest())
    assert (tmp_path / "part.zip").read_bytes() == BODY
    with pytest.raises(DownloadFailed, match=r"wrong checksum \(sha256"):
        fetch(repository, tmp_path / "other.zip", sha256="0" * 64)


@pytest.mark.parametrize("algorithm", ["sha512", "sha256", "sha1"])
def test_the_best_published_checksum_is_taken(repository: Repository, tmp_path: Path, algorithm: str) -> None:
    right = {name: hashlib.new(name, BODY).hexdigest() for name in ("sha512", "sha256", "sha1")}
    weaker = list(right)[list(right).index(algorithm) :]
    repository.checksums = {name: "0" * len(right[name]) for name in weaker}
    repository.checksums[algorithm] = f"{right[algorithm].upper()}  part.zip\n"
    fetch(repository, tmp_path / "part.zip")
    assert digest(tmp_path / "part.zip", algorithm) == right[algorithm]


def test_a_file_without_a_checksum_is_refused(repository: Repository, tmp_path: Path) -> None:
    repository.checksums = {}
    with pytest.raises(DownloadFailed, match="no checksum is published"):
        fetch(repository, tmp_path / "part.zip")


def test_a_missing_file_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.checksums, repository.statuses = {}, [404]
    with pytest.raises(DownloadFailed, match=r"answers 404 .* for /group/part\.zip") as caught:
        fetch(repository, tmp_path / "part.zip")
    assert "node.version" in str(caught.value.hint)


def test_a_busy_server_is_asked_again(repository: Repository, tmp_path: Path) -> None:
    repository.statuses = [503, 429, 200]
    fetch(repository, tmp_path / "part.zip")
    assert (tmp_path / "part.zip").read_bytes() == BODY


def test_a_server_that_stays_busy_is_given_up(repository: Repository, tmp_path: Path) -> None:
    repository.statuses = [503] * 50
    with pytest.raises(DownloadFailed, match="status 503"):
        fetch(repository, tmp_path / "part.zip")
    assert len(repository.asked) == 5


def test_no_network_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="no connection") as caught:
        download("http://127.0.0.1:1/part.zip", tmp_path / "part.zip", on_bytes=lambda done, total: None)
    assert "HTTPS_PROXY" in str(caught.value.hint)


def test_a_missing_certificate_bundle_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(DownloadFailed, match=r"none\.pem") as caught:
        download("https://127.0.0.1:1/part.zip", tmp_path / "part.zip", on_bytes=lambda done, total: None)
    assert "REQUESTS_CA_BUNDLE" in str(caught.value.hint)
