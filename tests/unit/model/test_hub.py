"""Models from the hub, against a server on this machine that speaks the hub's protocol as far as it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from tests.fakes.tiny_gguf import write_gguf

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"architectures": ["BertModel"]}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 100,
    "1_Pooling/config.json": b'{"pooling_mode": "cls"}',
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/config.json": b"{}",
    "README.md": b"words",
}
TAKEN = {"config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}


class Hub(BaseHTTPRequestHandler):
    """One repository, ``org/tiny``; notes which files were asked for."""

    files = FILES
    asked: ClassVar[set[str]] = set()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path in (f"/api/models/org/tiny/revision/{name}" for name in ("main", "v1", COMMIT)):
            siblings = [{"rfilename": name} for name in self.files]
            self._send(json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": str(number) * 40}
                for number, (name, data) in enumerate(self.files.items())
            ]
            self._send(json.dumps(rows).encode())
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
            self.asked.add(name)
            self._send(self.files[name], name)
        else:
            code = "RevisionNotFound" if "org/tiny" in path else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, body: bytes, name: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{list(self.files).index(name) if name else 0}{"a" * 39}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Hub, "asked", set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def lrem_os(*args: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process: the hub's library reads the environment when it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "lrem_os", "model", *args],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "LREM_OS_HOME": str(home), "HF_HOME": str(home / "hf"), **environ},
    )


def test_only_safetensors_and_text_come_from_the_hub(hub: str, home: Path) -> None:
    done = lrem_os("pull", "org/tiny", "--revision", "v1", "--json", home=home, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["source"], row["revision"], row["version"]) == ("hub", COMMIT, COMMIT)
    assert {name: (Path(row["path"]) / name).read_bytes() for name in row["files"]} == {
        name: FILES[name] for name in TAKEN
    }
    assert Hub.asked == TAKEN


def test_once_pulled_the_hub_is_not_asked_again(hub: str, home: Path) -> None:
    assert lrem_os("pull", "org/tiny", home=home, HF_ENDPOINT=hub).returncode == 0
    for asked in (("pull", "org/tiny"), ("info", "org/tiny"), ("list",)):
        done = lrem_os(*asked, home=home, HF_ENDPOINT="http://127.0.0.1:9")
        assert (done.returncode, "org/tiny" in done.stdout) == (0, True), done.stderr


def test_a_download_of_others_is_used_offline(hub: str, home: Path) -> None:
    assert lrem_os("pull", "org/tiny", home=home, HF_ENDPOINT=hub).returncode == 0
    (home / "models").rename(home / "gone")
    done = lrem_os("pull", "org/tiny", home=home, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr


def test_force_mends_what_was_changed(hub: str, home: Path) -> None:
    path = Path(json.loads(lrem_os("pull", "org/tiny", "--json", home=home, HF_ENDPOINT=hub).stdout)["path"])
    (path / "model.safetensors").write_bytes(b"tampered")
    done = lrem_os("info", "org/tiny", home=home)
    assert (done.returncode, "model.safetensors has changed" in done.stderr) == (4, True)
    assert lrem_os("pull", "org/tiny", "--force", home=home, HF_ENDPOINT=hub).returncode == 0
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    ("args", "environ", "sentence"),
    [
        (("org/other",), {}, "the hub has no org/other"),
        (("org/tiny", "--revision", "v9"), {}, "the hub has no org/tiny, revision v9"),
        (("org/tiny",), {"HF_HUB_OFFLINE": "1"}, "org/tiny is not cached and could not be fetched"),
        (("org/tiny",), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "org/tiny is not cached and could not be fetched"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(
    hub: str, home: Path, args: tuple[str, ...], environ: dict[str, str], sentence: str
) -> None:
    done = lrem_os("pull", *args, home=home, **{"HF_ENDPOINT": hub, **environ})
    assert done.returncode == 4
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_of_pickles_is_refused(hub: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "files", {name: data for name, data in FILES.items() if name != "model.safetensors"})
    done = lrem_os("pull", "org/tiny", home=home, HF_ENDPOINT=hub)
    assert (done.returncode, "safetensors" in done.stderr) == (4, True)
    assert "pytorch_model.bin" not in Hub.asked


def test_of_several_ggufs_none_is_fetched(hub: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "files", {"a.Q4.gguf": b"x", "a.Q8.gguf": b"y", "README.md": b"words"})
    done = lrem_os("pull", "org/tiny", home=home, HF_ENDPOINT=hub)
    assert (done.returncode, "holds 2 GGUF files (a.Q4.gguf, a.Q8.gguf)" in done.stderr) == (4, True), done.stderr
    assert Hub.asked == set()


def test_the_one_gguf_of_a_repository_is_converted(
    hub: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    content = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    monkeypatch.setattr(Hub, "files", {"tiny.gguf": content, "README.md": b"words"})
    done = lrem_os("pull", "org/tiny", "--json", home=home, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(row["files"])
    assert "tiny.gguf" not in row["files"]
