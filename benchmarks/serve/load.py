"""Closed-loop load: so many clients, each with a connection of its own, each asking again as soon as it is answered.

A process of its own (`python -m benchmarks.serve.load`): bodies in, latencies out. A client is a blocking socket in a
thread over the standard library's HTTP client, which costs a request about 0.15 ms of CPU.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_HEADERS = {"content-type": "application/json"}
_PATIENCE_S = 600.0


def run_load(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a load of its own process saw: latencies in ms, seconds in all, and answers by kind."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve.load", str(path)], check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _ask(job: Mapping[str, Any], first: int, until: float, found: list[tuple[float, str]]) -> None:
    """Ask from the body ``first`` on, in steps of the number of clients, until the time is up."""
    parts = urlsplit(job["url"])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
    bodies: Sequence[str] = job["bodies"]
    at = first
    while time.perf_counter() < until:
        if at >= len(bodies):
            if not job["again"]:
                break
            at %= len(bodies)
        body = bodies[at].encode()
        started = time.perf_counter()
        connection.request("POST", parts.path, body, _HEADERS)
        answer = connection.getresponse()
        answer.read()
        took_ms = (time.perf_counter() - started) * 1000
        route = f"{answer.getheader('x-lrem-route', '')} {answer.getheader('x-lrem-degraded', '')}".strip()
        found.append((took_ms, f"{answer.status} {route}".strip()))
        at += job["clients"]
    connection.close()


def main() -> None:
    """Run the job of a file; print its outcome as JSON."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found: list[list[tuple[float, str]]] = [[] for _ in range(job["clients"])]
    started = time.perf_counter()
    until = started + job["seconds"]
    threads = [
        threading.Thread(target=_ask, args=(job, number, until, found[number])) for number in range(job["clients"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    every = [pair for each in found for pair in each]
    kinds: dict[str, int] = {}
    for _, kind in every:
        kinds[kind] = kinds.get(kind, 0) + 1
    print(json.dumps({"latencies_ms": [took for took, _ in every], "seconds": seconds, "answers": kinds}))


if __name__ == "__main__":
    main()
