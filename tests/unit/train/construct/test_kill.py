"""A run in a process of its own, killed with SIGKILL while a real server answers it, and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fakes.openai_server import Call, FakeOpenAI, Fault
from tests.unit.train.construct.shop import read

ROOT = Path(__file__).parents[4]
NUM_QUERIES = 20

SCRIPT = """
import sys
from pathlib import Path
from lrem_os.train.construct.endpoint import Endpoint, EndpointSettings
from lrem_os.train.construct.judge import EndpointJudge
from lrem_os.train.construct.lines import read_queries
from lrem_os.train.construct.lrem import LremRecipe
from lrem_os.train.construct.run import Files, Run
from lrem_os.train.construct.teacher import Teacher
from tests.unit.train.construct.shop import TinyRetriever, item_text

url, log, out = sys.argv[1:]
with Endpoint(EndpointSettings(url, "teacher", retries=0, concurrency=3)) as endpoint:
    recipe = LremRecipe(Teacher(endpoint), TinyRetriever(), EndpointJudge(endpoint), item_text, 3)
    print(Run(read_queries(log), recipe.process, recipe.header, window=4).write(Files(Path(out))))
"""


def answer(text: str, _sample: int) -> str:
    """Grade a product by its first letter, and send every query to milk."""
    if product := re.search(r"Product:\n(\w)", text):
        return f"<score>{ord(product[1]) % 3}</score>"
    return "oat milk, soy drink"


def start(server: FakeOpenAI, log: Path, out: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SCRIPT, server.url, str(log), str(out)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(calls: list[Call]) -> Counter[str]:
    return Counter(call.texts[0] for call in calls)


def finish(process: subprocess.Popen[str]) -> None:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert f"'written': {NUM_QUERIES}" in output


def test_killed_and_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"latte number {number}\n" for number in range(NUM_QUERIES)))
    with FakeOpenAI() as server:
        server.write = answer
        finish(start(server, log, tmp_path / "whole.jsonl"))
        questions = asked(server.calls)
        assert max(questions.values()) == 1

        server.calls.clear()
        server.fault = lambda _call: Fault(delay_s=0.02)
        for at_least in (15, 45):  # within the first window but one, and again further on
            process = start(server, log, tmp_path / "out.jsonl")
            deadline = time.monotonic() + 240
            while len(server.calls) < at_least and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        with (tmp_path / "out.journal.jsonl").open("ab") as journal:
            journal.write(b'{"key":"log-3","step":"A1","va')  # the worst moment of all
        num_before = len(server.calls)
        finish(start(server, log, tmp_path / "out.jsonl"))

    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [row["qid"] for row in read(tmp_path / "out.jsonl")] == [f"log-{n}" for n in range(1, NUM_QUERIES + 1)]
    again = asked(server.calls)
    assert set(again) == set(questions)
    assert num_before < len(questions)  # it was killed in the middle
    assert again.total() - len(questions) <= 2 * 3  # only what was in flight at a kill is asked twice
