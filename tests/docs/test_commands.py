"""Every command of the documentation is run: page by page, in the order they stand in, on a real node and real models.

``scripts/doc_blocks.py`` says how a page marks what cannot run here; CI prints what it found.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.ports import quiet_port
from tests.fakes.scripts import load_script
from tests.fakes.warm_cli import write_shims

ROOT = Path(__file__).parents[2]
DATA = ROOT / "lrem_os" / "demo" / "data"
NUM_PRODUCTS = 40


DOCS = load_script("scripts/doc_blocks.py")
RUN = [page for page in DOCS.pages() if any(block.is_command and not block.not_run for block in DOCS.read_blocks(page))]


@pytest.fixture(scope="module")
def shims() -> Iterator[Path]:
    """A folder with a ``lrem-os`` and a ``python`` that have imported everything already."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # short: a socket's path has 107 characters at most
    address = str(folder / "s")
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.warm_cli", address], cwd=ROOT, env=quiet())
    while not Path(address).exists():
        assert process.poll() is None, "the process that runs the commands did not start"
        time.sleep(0.1)
    write_shims(folder, address)
    yield folder
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


SETTINGS = {
    "LREM_OS__REASONING__SAMPLES": "1",  # what a command does, not how well: one short sample costs a tenth
    "LREM_OS__REASONING__MAX_TOKENS": "8",
    "LREM_OS__REASONING__TIMEOUT_S": "300",  # a busy machine is no fault
    "LREM_OS__SEARCH__TIMEOUT_S": "300",
    "LREM_OS__SERVE__TIMEOUT_S": "300",
    "LREM_OS__SERVE__REASON_LIMIT_S": "600",
    "LREM_OS__SERVE__EMBED_LIMIT_S": "300",
}


def quiet() -> dict[str, str]:
    threads = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
    }
    return {**os.environ, **threads, **SETTINGS}


@dataclass
class Sandbox:
    """Where a page's commands run.

    Args:
        folder: Their working directory, with a small judged catalog in it.
        environment: Their environment.
        addresses: What a page says, and what is there.
    """

    folder: Path
    environment: dict[str, str]
    addresses: dict[str, str]

    def here(self, text: str) -> str:
        """Return commands with the addresses of this session."""
        for said, meant in self.addresses.items():
            text = text.replace(said, meant)
        if "LREM_OS_TEST_URL" in os.environ:  # that node is not ours to find, start or stop
            text = re.sub(r"^lrem-os node\b.*$", ":", text, flags=re.MULTILINE)
        return text


@pytest.fixture
def sandbox(shims: Path, opensearch_url: str, node_cache: Path, tmp_path: Path) -> Iterator[Sandbox]:
    from lrem_os.config import cache_dir

    if not (node_cache / "models").exists():
        (cache_dir() / "models").mkdir(parents=True, exist_ok=True)
        (node_cache / "models").symlink_to(cache_dir() / "models")
    port, pids = quiet_port(), tmp_path / "pids"
    environment = {
        **quiet(),
        "PATH": f"{shims}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "WARM_PIDS": str(pids),
        "LREM_OS_HOME": str(node_cache),
        "LREM_OS__NODE__NAME": f"test-{os.getpid()}",  # the session's: `lrem-os node up` finds it running
        "LREM_OS__SERVE__PORT": str(port),
    }
    if os.environ.get("LREM_OS_TEST_URL"):
        environment["LREM_OS__SEARCH__HOSTS"] = json.dumps([opensearch_url])
    folder = tmp_path / "shop"
    folder.mkdir()
    write_sample(folder)
    (tmp_path / ".curlrc").write_text("fail\nshow-error\n")  # else an answer of 404 ends with 0
    addresses = {f"http://{host}:9200": opensearch_url for host in ("127.0.0.1", "localhost")}
    addresses |= {f"http://{host}:8099": f"http://127.0.0.1:{port}" for host in ("127.0.0.1", "localhost")}
    before = indices(opensearch_url)
    yield Sandbox(folder, environment, addresses)
    for pid in pids.read_text().split() if pids.exists() else []:
        os.kill(int(pid), signal.SIGKILL)
    for index in indices(opensearch_url) - before:
        urllib.request.urlopen(urllib.request.Request(f"{opensearch_url}/{index}", method="DELETE")).close()


def indices(url: str) -> set[str]:
    """Return the names of a node's indices that are neither its own nor other tests'."""
    with urllib.request.urlopen(f"{url}/_cat/indices?format=json") as answer:
        return {row["index"] for row in json.load(answer) if not row["index"].startswith((".", "test-"))}


def write_sample(folder: Path) -> None:
    """Write some products of the demo's catalog, the queries that they answer, and their judgments."""
    products = (DATA / "catalog.jsonl").read_text("utf-8").splitlines(keepends=True)[:NUM_PRODUCTS]
    ids = {json.loads(line)["id"] for line in products}
    judged = [line for line in (DATA / "qrels.txt").read_text("utf-8").splitlines() if line.split()[2] in ids]
    answered = sorted({line.split()[0] for line in judged})[::3]
    queries = (DATA / "queries.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "catalog.jsonl").write_text("".join(products), "utf-8")
    (folder / "qrels.txt").write_text("".join(f"{line}\n" for line in judged if line.split()[0] in answered), "utf-8")
    (folder / "queries.jsonl").write_text(
        "".join(line for line in queries if json.loads(line)["qid"] in answered), "utf-8"
    )


def script_of(page: Path, sandbox: Sandbox) -> str:
    """Return one shell script of all the page's commands: folders, variables and files of one hold for the next."""
    lines = ["set -uo pipefail", "exec 8>&1"]
    for number, block in enumerate(DOCS.read_blocks(page)):
        target = sandbox.folder / block.file if block.file else sandbox.folder.parent / f"block{number}.py"
        if block.file or (block.language == "python" and block.is_command and not block.not_run):
            lines.append(f"cat > '{target}' <<'END-OF-BLOCK'\n{sandbox.here(block.text)}END-OF-BLOCK")
        if block.is_command and not block.not_run:
            text = f"python '{target}'\n" if block.language == "python" else sandbox.here(prompted(block.text))
            out = sandbox.folder.parent / f"out{number}"
            lines += [
                f"out='{out}'; where='{block.page}:{block.line}'; wanted={block.exit_code}; set -e",
                'trap \'echo "$where: exit code $?, expected $wanted" >&8; tail -c 3000 "$out" >&8\' EXIT',
                body(text, block.exit_code),
                "trap - EXIT; set +e",
            ]
    return "\n".join(lines) + "\n"


def body(text: str, exit_code: int) -> str:
    if exit_code == 0:
        return f'{{\n{text}\n}} > "$out" 2>&1'
    return f'set +e; (\n{text}\n) > "$out" 2>&1; code=$?; set -e; [ $code = {exit_code} ] || (exit $code)'


def prompted(text: str) -> str:
    """Return a console's commands; where there are prompts, what stands without one was printed."""
    if not re.search(r"^\$ ", text, flags=re.MULTILINE):
        return text
    return "\n".join(line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ "))


@pytest.mark.opensearch
@pytest.mark.model
@pytest.mark.timeout(3600)  # a page is up to a dozen commands: no limit that a busy machine reaches
@pytest.mark.parametrize("page", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, sandbox: Sandbox) -> None:
    done = subprocess.run(
        ["bash", "-c", script_of(page, sandbox)],
        cwd=sandbox.folder,
        env=sandbox.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    check_printed(page, sandbox)


def check_printed(page: Path, sandbox: Sandbox) -> None:
    """Compare what a page says that a command printed to what it printed."""
    out = ""
    for number, block in enumerate(DOCS.read_blocks(page)):
        if (path := sandbox.folder.parent / f"out{number}").exists():
            out = path.read_text("utf-8")
        if block.is_output:
            missing = [line for line in block.text.splitlines() if not printed(line, out)]
            assert missing == [], f"{block.page}:{block.line}: not printed. What was:\n{out}"


def printed(line: str, out: str) -> bool:
    """Whether a line, in which … stands for anything, is in the output; white space does not count."""
    parts = (re.escape(" ".join(part.split())).replace(r"\ ", r"\s+") for part in line.split("…"))
    return re.search(r"[^\n]*".join(parts), out) is not None
