"""What scripts/test does after pytest: judge the skipped tests, end the processes that they left behind.

A suite that skips what it cannot run says "passed" on a machine where nothing ran. So every skip needs a reason from
the list below: a piece of hardware or data that a clean clone cannot have.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

ALLOWED = (
    *(r"LREM_OS_SHARED", r"\bMaven Central\b", r"\bGPU\b", r"\bCUDA\b", r"\bbfloat16\b", r"\broot\b", r"\bmacOS\b"),
    *(r"\bnpm\b", r"\bcurl\b", r"\bno browser\b"),
)


def skipped(report: Path) -> Iterator[tuple[str, str]]:
    """Yield name and reason of every skipped test in a JUnit report."""
    for case in ElementTree.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if skip is not None and skip.get("type") != "pytest.xfail":
            yield f"{case.get('classname')}::{case.get('name')}", skip.get("message") or ""


def judge_skips(report: Path) -> int:
    """Print the skipped tests; return 1 if one of them has no allowed reason, or if no test ran."""
    if not report.exists():
        print("pytest wrote no report")
        return 1
    num_tests = sum(1 for _ in ElementTree.parse(report).iter("testcase"))
    skips = list(skipped(report))
    unexpected = [(name, reason) for name, reason in skips if not any(re.search(part, reason) for part in ALLOWED)]
    print(f"{num_tests} tests, {len(skips)} skipped")
    for name, reason in skips:
        print(f"  {'UNEXPECTED ' if (name, reason) in unexpected else ''}{name}: {reason}")
    if num_tests == len(skips):
        print("no test ran")
        return 1
    return 1 if unexpected else 0


def end_processes(folder: str) -> None:
    """End the processes that work in this folder: nodes and the like, left by tests that were killed."""
    import psutil

    for process in psutil.process_iter():
        try:
            words, environ = process.cmdline(), process.environ()
            places = [*words, environ.get("TMPDIR", ""), process.cwd()]
        except psutil.Error:  # gone meanwhile, or of another user
            continue
        if any(folder in place for place in places) and process.pid not in {os.getpid(), os.getppid()}:
            print(f"ending what the tests left: process {process.pid}, {' '.join(words)[:100]}")
            process.kill()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["skips", report]:
            sys.exit(judge_skips(Path(report)))
        case ["end", folder]:
            end_processes(folder)
        case _:
            sys.exit("usage: after_tests.py skips REPORT | end FOLDER")
