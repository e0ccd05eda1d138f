"""Runs of an evaluation that the configuration names (``eval.runs``). Part of ``config.py``, which reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from lrem_os.config_fields import Section
from lrem_os.types import MODES

RUN_NAME = re.compile(r"[\w.+@%-]{1,80}")
"""What a run may be called: its name is a file's name and a column of a TREC file."""

REASON = "+reason"
ALIASES = ("direct", "reasoned", "routed")
"""The configured mode: without reasoning, with it, and as the router decides (``routed@30%``: with that budget)."""

CONFIGURED = "configured"
"""``route`` of a run that keeps the budget that is served."""

_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_OF_THE_CLUSTER = (
    "engine",
    "hosts",
    "user",
    "password",
    "token",
    "ca_file",
    "verify_tls",
    "timeout_s",
    "compress",
    "mode",
)
_SECRET = ("api_key",)


class NamedRun(Section):
    """How a named run differs from what is configured."""

    mode: Literal["bm25", "vector", "hybrid"] | None = Field(None, description="In place of search.mode.")
    reason: bool = Field(False, description="Whether every query is reasoned about.")
    route: str | None = Field(
        None, description="The router decides: configured, with the budget of route.*, or a share such as 30%."
    )
    search: dict[str, Any] = Field({}, description="Keys of search that decide the ranking, in place of its own.")
    reasoning: dict[str, Any] = Field({}, description="Keys of reasoning, in place of its own.")

    @field_validator("route")
    @classmethod
    def _check_route(cls, value: str | None) -> str | None:
        if value is not None and value != CONFIGURED:
            parse_share(value)
        return value

    @model_validator(mode="after")
    def _check(self) -> NamedRun:
        if self.reason and self.route is not None:
            raise ValueError("reason is true and route is set: with a route the router decides, keep one")
        if self.mode == "bm25" and self.route is not None:
            raise ValueError("route is set and mode is bm25: the router reads vectors")
        return self


def parse_share(text: str) -> float:
    """Return the share of the queries in [0, 1] that ``30%`` stands for.

    >>> parse_share("12.5%")
    0.125

    Raises:
        ValueError: It stands for none.
    """
    found = _SHARE.fullmatch(text.strip())
    share = float(found[1]) / 100 if found else 2.0
    if share > 1:
        raise ValueError(f"{text!r} is no share of the queries: write 0% to 100%, with the percent sign")
    return share


def check_name(name: str) -> str:
    """Return the name of a run. Raises ``ValueError`` for one that cannot be given."""
    if not RUN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a run: letters, digits and _ . + @ % - without blanks, 80 at most")
    if name.partition("@")[0] in ALIASES or name.removesuffix(REASON) in MODES:
        raise ValueError(f"{name!r} is the name of a run that there is without configuration: choose another")
    return name


def with_overrides(section: Section, written: Mapping[str, Any], where: str) -> Any:
    """Return a section of the configuration with some keys written anew, checked as the section is.

    Args:
        section: As configured.
        written: Key → value.
        where: Where they stand, for the complaint: ``eval.runs.NAME.search``.

    Raises:
        ValueError: A key or a value cannot be used; names it.
    """
    fields = type(section).model_fields
    closed = {*_OF_THE_CLUSTER, *_SECRET} & fields.keys()
    for key in written:
        if key not in fields or key in closed:
            why = "is the same for all runs" if key in closed else "is no key"
            allowed = ", ".join(name for name in fields if name not in closed)
            raise ValueError(f"{where}.{key} {why}; keys that a run may set: {allowed}")
    values = {name: getattr(section, name) for name in fields}
    try:
        return type(section).model_validate(values | dict(written))
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = str(error["loc"][0]) if error["loc"] else ""
        place = f"{where}.{key}" if key else where
        shown = f" is {written[key]!r:.100}" if key in written else ""
        raise ValueError(f"{place}{shown}: {str(error['msg']).removeprefix('Value error, ')}") from None


def check_runs(runs: Mapping[str, NamedRun], sections: Mapping[str, BaseModel]) -> None:
    """Raise ``ValueError`` for a run whose overrides cannot be used with the sections as they are.

    Args:
        runs: By name.
        sections: ``search`` and ``reasoning`` as configured.
    """
    for name, run in runs.items():
        for part in ("search", "reasoning"):
            section = sections[part]
            if isinstance(section, Section):
                with_overrides(section, getattr(run, part), f"eval.runs.{name}.{part}")
