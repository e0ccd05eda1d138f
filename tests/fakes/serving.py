"""``lrem-os serve`` as a process, with what it says under ``/metrics``; models in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.ports import quiet_port

ROOT = Path(__file__).parents[2]
_LIMIT_S = 240.0  # a dead man's


def wait_until(happened: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    """Wait until something has happened; raise ``AssertionError`` if it does not."""
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, f"did not happen: {what}"
        time.sleep(0.02)


class Control:
    """A file that tells another process what to do badly."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set("")

    def set(self, text: str) -> None:
        """Write it in one step: whoever reads sees the old text or the new one."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)


class Child:
    """A Python process of the tests; what it says on standard error is in ``log``."""

    def __init__(self, folder: Path, name: str, args: Sequence[str]) -> None:
        self.log = folder / f"{name}.log"
        self._command = [sys.executable, *args]
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bytes) -> bytes:
        """Start it; return the line that begins with ``ready``."""
        with self.log.open("ab") as log:
            begins = log.tell()
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        limit = time.monotonic() + _LIMIT_S
        while True:
            lines = self.log.read_bytes()[begins:].split(b"\n")[:-1]
            found = [line for line in lines if line.startswith(ready)]
            if found:
                return found[0]
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < limit, self.log.read_text()
            time.sleep(0.02)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kill it as the system does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class ModelServer(Child):
    """An OpenAI-compatible server as a process, on the same port whenever it is started."""

    def __init__(self, folder: Path, name: str) -> None:
        self.port, self.control = quiet_port(), Control(folder / f"{name}.fault")
        module = ["-m", "tests.fakes.model_processes", "server", str(self.port), str(self.control.path)]
        super().__init__(folder, name, module)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def up(self) -> None:
        """Start it."""
        self.start(b"ready")


class Service(Child):
    """``lrem-os serve``.

    Args:
        folder: For configuration and log.
        name: Of both.
        values: The configuration.
        mind: Control of a ``Mind`` in its process; none: the models that are configured.
    """

    def __init__(self, folder: Path, name: str, values: Mapping[str, Any], *, mind: Control | None = None) -> None:
        config = folder / f"{name}.yaml"
        config.write_text(json.dumps(values))  # JSON is YAML
        args = ["-m", "lrem_os", "serve", "-c", str(config)]
        if mind is not None:
            args = ["-m", "tests.fakes.model_processes", "mind", str(config), str(mind.path)]
        super().__init__(folder, name, args)
        self.url = ""

    def __enter__(self) -> Service:
        self.url = self.start(b"lrem-os serves").split()[2].rstrip(b",").decode()
        self.client = httpx.Client(base_url=self.url, timeout=_LIMIT_S, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.is_alive:
            self.terminate()
            self.end()

    def terminate(self) -> None:
        """Send SIGTERM."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Wait for the process; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(_LIMIT_S)
        finally:
            self.process.kill()

    def metrics(self) -> dict[str, float]:
        """Return the samples of ``/metrics``: ``degraded_total[reasoner_open]``."""
        page = self.client.get("/metrics").raise_for_status().text
        return {
            sample.name.removeprefix("lrem_") + (f"[{','.join(sample.labels.values())}]" if sample.labels else ""): (
                sample.value
            )
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if "le" not in sample.labels
        }

    def count(self, name: str) -> float:
        """Return one sample; 0 where there is none yet."""
        return self.metrics().get(name, 0.0)

    def num_files(self) -> int:
        """Return how many files and sockets the process has open."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
