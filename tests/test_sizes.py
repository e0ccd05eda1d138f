"""Small files and functions: the budget is 400 and 50 lines, the limit 600 and 80."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE_BUDGET, MODULE_LIMIT = 400, 600
FUNCTION_BUDGET, FUNCTION_LIMIT = 50, 80

FILES = [
    path
    for folder in ("lrem_os", "ingest", "query_plugin", "eval", "benchmarks", "scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def function_lengths(source: str) -> dict[str, int]:
    """Return the lines of every function, without decorators."""
    return {
        f"{node.name}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_size(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    num_lines, functions = len(source.splitlines()), function_lengths(source)
    over_budget = {name: lines for name, lines in functions.items() if lines > FUNCTION_BUDGET}
    if num_lines > MODULE_BUDGET or over_budget:
        print(f"{path.relative_to(ROOT)}: {num_lines} lines; long functions: {over_budget}")
    assert num_lines <= MODULE_LIMIT
    assert {name: lines for name, lines in functions.items() if lines > FUNCTION_LIMIT} == {}


def test_lengths_are_counted() -> None:
    assert function_lengths("def f():\n" + "    x = 1\n" * 80) == {"f:1": 81}
