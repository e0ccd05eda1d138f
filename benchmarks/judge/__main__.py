"""A language model as the judge, on pairs that people have judged: kappa, and what a kill costs.

The command, against any OpenAI-compatible server; the result goes to benchmarks/results/judge.json:

    python -m benchmarks.judge --url http://127.0.0.1:8000/v1 --model NAME --data ../shared/data/icecat

It runs `lrem-os eval judge`, kills it when a third of the answers are there, tears the last line of the cache, and runs
it to the end, twice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with queries, qrels and catalog")
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--note", action="append", default=[], help="what a reader should know: model, server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "judged.txt"
        write_result("judge", run(options, out), ["openai"])


def run(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    shown = ["lrem-os", "eval", "judge", *arguments(options, "icecat", "judged.txt")]
    command = [sys.executable, "-m", "lrem_os", "eval", "judge", *arguments(options, str(options.data), str(out))]
    cache = Path(f"{out}.answers.jsonl")
    killed_at = kill_at(command, cache, options.sample // 3)
    with cache.open("ab") as file:
        file.write(b'{"key": "torn by the ki')
    started = time.monotonic()
    resumed = finish(command)
    seconds = time.monotonic() - started
    repeated = finish(command)
    answers = [json.loads(line) for line in cache.read_text(encoding="utf-8").split("\n") if line]
    return {
        "what": "agreement of a language model with icecat's human grades; a killed run, resumed and repeated",
        "command": " ".join(shown),
        "notes": options.note,
        "killed_at": killed_at,
        "resumed": {name: resumed[name] for name in ("asked", "cached", "failed")},
        "resumed_s": round(seconds, 1),
        "repeated": {name: repeated[name] for name in ("asked", "cached", "failed")},
        "answers_in_cache": len(answers),
        "keys_in_cache": len({row["key"] for row in answers}),
        "judged": resumed["judged"],
        "ungraded": resumed["ungraded"],
        "grades": resumed["grades"],
        "agreement": resumed.get("agreement"),
    }


def arguments(options: argparse.Namespace, data: str, out: str) -> list[str]:
    files = ["--queries", f"{data}/queries.jsonl", "--candidates", f"{data}/qrels.txt", "--human", f"{data}/qrels.txt"]
    files += ["--catalog", f"{data}/catalog.jsonl.gz", "--set", "catalog.embed=title,brand,category"]
    asked = ["--url", options.url, "--model", options.model, "--structured", "--sample", str(options.sample)]
    return [*files, *asked, "--timeout-s", "900", "--concurrency", "4", "--out", out]


def kill_at(command: list[str], cache: Path, num_answers: int) -> int:
    """Start the command, kill it when so many answers are on disk; return how many there are then."""
    process = subprocess.Popen(command)
    try:
        while process.poll() is None and count(cache) < num_answers:
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    return count(cache)


def count(cache: Path) -> int:
    return cache.read_bytes().count(b"\n") if cache.exists() else 0


def finish(command: list[str]) -> dict[str, Any]:
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


if __name__ == "__main__":
    main()
