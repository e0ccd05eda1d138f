"""What ``lrem_os`` promises: the names, and how they are called. A change here is a change for every user.

``scripts/regen`` writes the snapshot again.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path

import pytest

import lrem_os

SNAPSHOT = Path(__file__).parent / "golden" / "public_api.txt"


def describe(name: str) -> str:
    """Return a name with its signature, as a line of the snapshot."""
    value = getattr(lrem_os, name)
    if inspect.isfunction(value):
        return re.sub(r"<function .*? at 0x\w+>", "...", f"{name}{inspect.signature(value)}")
    return f"{name}: {type(value).__name__}"


@pytest.mark.parametrize("name", lrem_os.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(lrem_os, name) is not None


def test_golden_public_api() -> None:
    found = "".join(f"{describe(name)}\n" for name in lrem_os.__all__)
    if os.environ.get("LREM_OS_REGEN"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(lrem_os.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    declared = [alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(filter(None, declared)) == sorted(name for name in lrem_os.__all__ if not name.startswith("__"))


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lrem_os.nothing  # type: ignore[attr-defined]
    assert dir(lrem_os) == sorted(lrem_os.__all__)
