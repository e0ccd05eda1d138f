"""Starts a measurement in a process of its own and reads its answer; watches its memory where asked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import orjson
import psutil

from benchmarks.machine import ROOT

_POLL_S = 0.05
_TAIL_CHARS = 2000


class WorkerFailed(Exception):
    """A measurement ended without an answer; the message is the end of what it said."""


def run_worker(job: Mapping[str, Any], *, timeout_s: float = 1800.0) -> dict[str, Any]:
    """Run one job; return its answer, with ``sampled_rss_mib``: the highest resident memory seen from outside.

    Raises:
        WorkerFailed: It crashed, or took too long.
    """
    command = [sys.executable, "-m", "benchmarks.ingest.worker", orjson.dumps(dict(job)).decode()]
    # telemetry of the compared libraries would add requests of its own
    env = os.environ | {"HAYSTACK_TELEMETRY_ENABLED": "False", "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "true"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = _MemoryWatch(process.pid)
    watch.start()
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as exc:
        raise WorkerFailed(f"no answer after {timeout_s:g} s") from exc
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        watch.stop()
    if process.returncode != 0 or not stdout.strip():
        raise WorkerFailed(f"exit {process.returncode}: {stderr.strip()[-_TAIL_CHARS:]}")
    answer: dict[str, Any] = orjson.loads(stdout.strip().splitlines()[-1])
    return answer | {"sampled_rss_mib": watch.highest_mib}


class _MemoryWatch(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.highest_mib = 0.0
        self._pid = pid
        self._done = threading.Event()

    def run(self) -> None:
        try:
            process = psutil.Process(self._pid)
            while not self._done.wait(_POLL_S):
                self.highest_mib = max(self.highest_mib, process.memory_info().rss / 2**20)
        except psutil.Error:
            return

    def stop(self) -> None:
        self._done.set()
        self.join()
