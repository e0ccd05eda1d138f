"""Follow docs/tutorial.md as somebody who has nothing yet, and time every step.

    python scripts/newcomer.py [--torch WHEEL] [--catalog FILE] [--repository URL] [--keep]

Clones the repository into an empty folder, with an empty home: no cache of pip, of models or of OpenSearch takes part.
Runs every command of the tutorial as it stands there, writes benchmarks/results/newcomer.json, and puts the table into
the tutorial. ``--torch`` installs a torch for the processor alone first, as the tutorial advises; ``--catalog`` adds a
step: a catalog of real size, with the default settings.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from doc_blocks import ROOT, Block, read_blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
RESULT = ROOT / "benchmarks" / "results" / "newcomer.json"
HEADING = "## How long it took\n\n"
# Printed so that each is known when it ends, whatever the commands print.
_STEP = "@@ step "
_OF_THE_MACHINE = (
    *("PATH", "LANG", "PIP_INDEX_URL", "PIP_CERT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_TRAP = "trap 'kill $(jobs -p) 2>/dev/null; lrem-os node down >/dev/null 2>&1 || true' EXIT"  # also where a step fails


def steps_of(blocks: list[Block], text: str) -> list[tuple[str, str]]:
    """Return heading and commands of every numbered step of the tutorial."""
    lines = text.splitlines()
    steps: dict[str, list[str]] = {}
    for block in blocks:
        headings = [line[3:] for line in lines[: block.line] if line.startswith("## ")]
        if block.is_command and headings and headings[-1][0].isdigit():
            steps.setdefault(headings[-1], []).append(block.text)
    return [(heading, "".join(commands)) for heading, commands in steps.items()]


def script_of(steps: list[tuple[str, str]], port: int) -> str:
    """Return one shell script; the service of the tutorial stays in the background of it."""
    parts = ["set -euo pipefail", _TRAP]
    for heading, commands in steps:
        ready = f"until curl --silent --fail --output /dev/null http://127.0.0.1:{port}/ready; do sleep 0.2; done"
        commands = re.sub(r"^(lrem-os serve\b[^#\n]*).*$", rf"\1 &\n{ready}", commands, flags=re.MULTILINE)
        parts += [f"echo; echo '{_STEP}{heading}'", commands.replace(":8099/", f":{port}/")]
    return "\n".join([*parts, f"echo; echo '{_STEP}'"])


def follow(script: str, folder: Path, environment: dict[str, str]) -> list[tuple[str, float]]:
    """Run the script, show what it prints; return the seconds of every step."""
    seconds: list[tuple[str, float]] = []
    began = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    heading = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if line.startswith(_STEP):
            if heading:
                seconds.append((heading, time.monotonic() - began))
            heading, began = line.removeprefix(_STEP).strip(), time.monotonic()
    if process.wait() != 0:
        sys.exit(f"error: step '{heading}' failed with exit code {process.returncode}")
    return seconds


def table(result: dict[str, Any]) -> str:
    """Return what the tutorial says of the result."""
    machine, steps = result["machine"], result["steps"]
    rows = "".join(f"| {step['step']} | {step['seconds']:.0f} |\n" for step in steps)
    total = sum(step["seconds"] for step in steps)
    text = (
        f"`scripts/newcomer.py` follows this page from an empty folder with an empty home, everything fetched anew, and"
        f" times it. {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python"
        f" {machine['python']}; load before: {machine['load_before']} (above 1: other work ran on it)."
    )
    return f"{textwrap.fill(text, 120)}\n\n| step | seconds |\n|---|---|\n{rows}| all | {total:.0f} |\n"


def main() -> None:
    """Follow the tutorial."""
    parser = argparse.ArgumentParser(description="Follow docs/tutorial.md in an empty folder and time every step.")
    parser.add_argument("--torch", type=Path, help="wheel of a torch for the processor alone, installed first")
    parser.add_argument("--catalog", type=Path, help="add a step: load this catalog with the default settings")
    parser.add_argument("--repository", default=str(ROOT), help="what is cloned [this checkout]")
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from benchmarks.machine import describe_machine, git_commit

    machine = describe_machine()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    steps = steps_of(read_blocks(TUTORIAL), TUTORIAL.read_text("utf-8"))
    if options.torch:
        steps[0] = (
            steps[0][0],
            re.sub(r"^pip install", f"pip install '{options.torch}'\n\\g<0>", steps[0][1], flags=re.M),
        )
    if options.catalog:
        own = options.catalog.resolve()
        load = f"lrem-os ingest '{own}' -c default.yaml -i own\nlrem-os search bag -c default.yaml -i own\n"
        with (gzip.open if own.suffix == ".gz" else open)(own) as rows:
            name = f"Beyond the page: a catalog of {sum(1 for _ in rows):,} products, default settings"
        steps.insert(-1, (name, f"echo '{{}}' > default.yaml\n{load}"))
    folder = Path(tempfile.mkdtemp(prefix="newcomer-", dir="/var/tmp"))
    folder.chmod(0o755)  # root's OpenSearch runs as another user
    passed_on = {name: value for name, value in os.environ.items() if name.upper() in _OF_THE_MACHINE}
    environment = passed_on | {
        "HOME": str(folder),
        "LREM_OS_HOME": str(folder / "cache"),
        "LREM_OS__SERVE__PORT": str(port),
        "REPOSITORY": options.repository,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    try:
        seconds = follow(script_of(steps, port), folder, environment)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "newcomer",
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "commit": git_commit(),
        "machine": machine,
        "steps": [{"step": step, "seconds": round(took, 1)} for step, took in seconds],
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = TUTORIAL.read_text("utf-8")
    TUTORIAL.write_text(text[: text.index(HEADING)] + HEADING + table(result), "utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
