"""What a name on the command line stands for: a way to retrieve, a live service, or a run that lies in a file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from lrem_os.config_fields import without_userinfo
from lrem_os.config_runs import ALIASES, CONFIGURED, REASON, RUN_NAME, NamedRun, parse_share
from lrem_os.errors import RunError
from lrem_os.types import MODES, Mode

_TREC_SUFFIXES = (".trec", ".run", ".txt")
_SUFFIXES = (*_TREC_SUFFIXES, ".jsonl")
_KNOWN = (*MODES, *ALIASES, *(mode + REASON for mode in MODES))
_HINT = (
    f"there are {', '.join(MODES)}, each perhaps with {REASON}; {', '.join(ALIASES)} and routed@30%; names under"
    f" eval.runs in the configuration; run files, which end in {', '.join(_SUFFIXES)} or have a / in their path;"
    " and NAME=http://… for a service"
)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to be measured.

    Args:
        name: In tables, reports and file names.
        mode: How it is retrieved; none: the configured mode, or it is a file or a service.
        path: The file; empty for what is asked now.
        reason: Whether every query is reasoned about first.
        url: The service, or OpenSearch, that is asked over HTTP; empty for what is retrieved from here.
        routed: Whether the router decides which queries are reasoned about.
        share: Budget of the router, as a share of the queries; none: the configured budget, as it is served.
        search: Keys of ``search`` in place of the configured ones.
        reasoning: Keys of ``reasoning`` likewise.
    """

    name: str
    mode: Mode | None = None
    path: str = ""
    reason: bool = False
    url: str = ""
    routed: bool = False
    share: float | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    reasoning: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether it is retrieved from here: neither a file nor a service."""
        return not self.path and not self.url

    @property
    def may_have_traces(self) -> bool:
        """Whether its answers may come with routes and times: not from a file that is called as TREC runs are."""
        return not self.path.removesuffix(".gz").endswith(_TREC_SUFFIXES)


def parse_run_spec(text: str, named: Mapping[str, NamedRun] | None = None) -> RunSpec:
    """Return the run that a name stands for.

    A name of the configuration; a mode, perhaps with ``+reason``; ``direct``, ``reasoned``, ``routed``,
    ``routed@30%``; ``NAME=http://…``; ``NAME=FILE``; a file (it has a ``/``, or ends like a run file).

    Args:
        text: As written.
        named: ``eval.runs`` of the configuration.

    Raises:
        RunError: It is none of these.

    >>> parse_run_spec("hybrid").mode, parse_run_spec("vector+reason").reason
    ('hybrid', True)
    >>> parse_run_spec("routed@12.5%").share, parse_run_spec("routed").share
    (0.125, None)
    >>> parse_run_spec("runs/old.trec.gz").name, parse_run_spec("before=runs/bm25.trec").name
    ('old', 'before')
    >>> parse_run_spec("live=http://localhost:8099").url
    'http://localhost:8099'
    """
    text = text.strip()
    if named and text in named:
        return _from_settings(text, named[text])
    built_in = _built_in(text)
    if built_in is not None:
        return built_in
    if "://" in text and "=" not in text.partition("://")[0]:
        raise RunError(f"run {without_userinfo(text)!r} has no name", hint=f"write live={without_userinfo(text)}")
    name, equals, value = text.partition("=")
    if equals and name and value and "/" not in name:
        _check_name(name)
        return RunSpec(name, url=_url(name, value)) if "://" in value else RunSpec(name, path=value)
    if "/" in text or text.removesuffix(".gz").endswith(_SUFFIXES):
        return RunSpec(PurePath(text.removesuffix(".gz")).stem or text, path=text)
    near = difflib.get_close_matches(text, (*(named or ()), *_KNOWN), n=1)
    raise RunError(
        f"run {text!r} is no mode, no name of the configuration and no file"
        f"{f': do you mean {near[0]!r}?' if near else ''}",
        hint=_HINT,
    )


def parse_run_specs(texts: Sequence[str], named: Mapping[str, NamedRun] | None = None) -> tuple[RunSpec, ...]:
    """Return the runs, in order; see ``parse_run_spec``.

    Raises:
        RunError: None was given, one is unknown, or two have the same name (one would hide the other).
    """
    specs = tuple(parse_run_spec(text, named) for text in texts)
    if not specs:
        raise RunError("no run was given", hint=_HINT)
    check_unique(spec.name for spec in specs)
    return specs


def check_unique(names: Iterable[str]) -> None:
    """Raise unless every run has a name of its own, on file systems too that do not tell ``A`` from ``a``."""
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            other = seen[name.casefold()]
            alike = f"two runs are called {name!r}" if other == name else f"{other!r} and {name!r} are one file name"
            raise RunError(alike, hint="give one another name: other=path/to/file.trec")
        seen[name.casefold()] = name


def _built_in(text: str) -> RunSpec | None:
    for mode in MODES:
        if text in (mode, mode + REASON):
            return RunSpec(text, mode=mode, reason=text != mode)
    name, at, share = text.partition("@")
    if name not in ALIASES or "/" in text or "=" in text:
        return None
    if not at:
        return RunSpec(text, reason=text == "reasoned", routed=text == "routed")
    if name != "routed":
        raise RunError(f"run {text!r}: only routed has a budget", hint=f"write {name}, or routed@{share}")
    try:
        found = parse_share(share)
    except ValueError as exc:
        raise RunError(f"run {text!r}: {exc}", hint="for example routed@30%") from exc
    return RunSpec(f"routed@{found * 100:.10g}%", routed=True, share=found)


def _from_settings(name: str, run: NamedRun) -> RunSpec:
    return RunSpec(
        name,
        mode=run.mode,
        reason=run.reason,
        routed=run.route is not None,
        share=None if run.route in (None, CONFIGURED) else parse_share(run.route or ""),
        search=run.search,
        reasoning=run.reasoning,
    )


def _check_name(name: str) -> None:
    if not RUN_NAME.fullmatch(name):
        raise RunError(f"{name!r} is no name of a run", hint="letters, digits and _ . + @ % - without blanks")


def _url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_url = is_url and not parts.query and not parts.fragment and not any(map(str.isspace, text))
    except ValueError:  # a port that is none
        is_url = False
    if not is_url:
        raise RunError(
            f"run {name!r}: {without_userinfo(text)!r} is no address of a service",
            hint="for example live=http://localhost:8099; the index is index.name of the configuration",
        )
    return text.rstrip("/")
