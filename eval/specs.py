"""What a name on the command line stands for: a mode to be asked now, or a run that lies in a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lrem_os.errors import RunError
from lrem_os.types import MODES, Mode

_REASON = "+reason"
_SUFFIXES = (".trec", ".run", ".txt")
_NAMES = (*MODES, *(mode + _REASON for mode in MODES))


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to be measured.

    Args:
        name: In tables and reports.
        mode: How it is retrieved; none for a file.
        path: The TREC file; empty for a mode.
        reason: Whether every query is reasoned about first.
    """

    name: str
    mode: Mode | None = None
    path: str = ""
    reason: bool = False


def parse_run_spec(text: str) -> RunSpec:
    """Return the run: a mode, perhaps with ``+reason``; a path (it has a ``/`` or ends like a run file); ``name=path``.

    Raises:
        RunError: It is neither.

    >>> parse_run_spec("hybrid")
    RunSpec(name='hybrid', mode='hybrid', path='', reason=False)
    >>> parse_run_spec("runs/old.trec.gz")
    RunSpec(name='old', mode=None, path='runs/old.trec.gz', reason=False)
    >>> parse_run_spec("vector+reason").reason, parse_run_spec("before=runs/bm25.trec").name
    (True, 'before')
    """
    text = text.strip()
    for mode in MODES:
        if text in (mode, mode + _REASON):
            return RunSpec(text, mode=mode, reason=text != mode)
    name, equals, path = text.partition("=")
    if equals and name and path and "/" not in name:
        return RunSpec(name, path=path)
    if "/" in text or text.removesuffix(".gz").endswith(_SUFFIXES):
        return RunSpec(PurePath(text.removesuffix(".gz")).stem or text, path=text)
    near = difflib.get_close_matches(text, _NAMES, n=1)
    raise RunError(
        f"run {text!r} is no mode and no file{f': do you mean {near[0]!r}?' if near else ''}",
        hint=f"modes are {', '.join(MODES)}, each perhaps with {_REASON}; "
        f"a TREC run file ends in {', '.join(_SUFFIXES)} or has a / in its path",
    )


def parse_run_specs(texts: Sequence[str]) -> tuple[RunSpec, ...]:
    """Return the runs, in order.

    Raises:
        RunError: None was given, one is unknown, or two have the same name (one would hide the other).
    """
    specs = tuple(parse_run_spec(text) for text in texts)
    if not specs:
        raise RunError("no run was given", hint=f"modes are {', '.join(MODES)}")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"two runs are called {name!r}", hint="give one another name: other=path/to/file.trec")
    return specs
