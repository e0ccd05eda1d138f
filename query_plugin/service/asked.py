"""What a request asks of us beside the search: in its body (``ext.lrem``), its URL (``lrem.route=…``) or its headers.

The body wins over the URL, and the URL over the headers (``x-lrem-route: …``). All of it is taken out before OpenSearch
sees the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

from lrem_os.query_plugin.engine.reading import RouteName
from lrem_os.query_plugin.service.exact_json import Number
from lrem_os.query_plugin.service.problems import Problem, bad_request

Params = Sequence[tuple[str, str]]

_ROUTES: Mapping[str, Literal["auto", "direct", "reasoned"]] = {
    "auto": "auto",
    "direct": "direct",
    "reasoned": "reasoned",
}
_YES_OR_NO = {"true": True, "false": False}
_LONGEST_WAIT_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How one search is to be read.

    Args:
        route: ``auto``: as the router decides.
        keywords: Whether keywords of a reasoning enter the text legs.
        report: Whether the answer tells under ``ext.lrem`` what was done.
        deadline_s: How long to wait for reasoning; ``None``: as configured.
    """

    route: RouteName = "auto"
    keywords: bool = True
    report: bool = True
    deadline_s: float | None = None

    def changed(self, values: Mapping[str, Any], where: str) -> Asked:
        """Return the same with what a request says.

        Args:
            values: By name: ``route``, ``keywords``, ``report``, ``deadline_ms``.
            where: Put before the name in the complaint.

        Raises:
            Problem: A name or a value is unknown.
        """
        asked = self
        for name, value in values.items():
            text = str(value).lower()
            if name == "route" and text in _ROUTES:
                asked = replace(asked, route=_ROUTES[text])
            elif name == "keywords" and text in _YES_OR_NO:
                asked = replace(asked, keywords=_YES_OR_NO[text])
            elif name == "report" and text in _YES_OR_NO:
                asked = replace(asked, report=_YES_OR_NO[text])
            elif name == "deadline_ms" and (wait_ms := _milliseconds(value)) is not None:
                asked = replace(asked, deadline_s=wait_ms / 1000)
            else:
                raise bad_request(
                    f"[{where}{name}] is [{str(value)[:50]}]; known are route (auto, direct, reasoned), keywords and"
                    f" report (true, false), deadline_ms (0 to {_LONGEST_WAIT_MS:g})"
                )
        return asked


def from_headers(asked: Asked, headers: Mapping[str, str]) -> Asked:
    """Return what the headers ask for. Raises ``Problem``."""
    names = ("route", "keywords", "report", "deadline_ms")
    values = {name: headers.get(f"x-lrem-{name.replace('_', '-')}") for name in names}
    return asked.changed({name: value for name, value in values.items() if value is not None}, "x-lrem-")


def from_params(asked: Asked, params: Params) -> tuple[Asked, Params]:
    """Return what the URL asks for, and the parameters that are OpenSearch's. Raises ``Problem``."""
    ours = {name.removeprefix("lrem."): value for name, value in params if name.startswith("lrem.")}
    return asked.changed(ours, "lrem."), [(name, value) for name, value in params if not name.startswith("lrem.")]


def from_body(asked: Asked, body: dict[str, Any]) -> tuple[Asked, dict[str, Any]]:
    """Return what ``ext.lrem`` asks for, and the body without it. Raises ``Problem``."""
    ext = body.get("ext")
    if not isinstance(ext, dict) or "lrem" not in ext:
        return asked, body
    ours = ext["lrem"]
    if not isinstance(ours, dict):
        raise bad_request("[ext.lrem] must be an object")
    rest = {key: value for key, value in ext.items() if key != "lrem"}
    whole = {key: value for key, value in body.items() if key != "ext"} | ({"ext": rest} if rest else {})
    return asked.changed(ours, "ext.lrem."), whole


def check_index(expression: str, allowed: Iterable[str]) -> None:
    """Raise unless every index that an expression could mean is allowed.

    >>> check_index("products,shop-*", ("products", "shop*"))
    >>> check_index("shop*", ("shop-1",))
    Traceback (most recent call last):
    lrem_os.query_plugin.service.problems.Problem: [shop*] is not among the indices that this service may search

    Args:
        expression: As it stands in a path or in a header of ``_msearch``: names, wildcards and exclusions.
        allowed: Names, in which ``*`` stands for anything.
    """
    patterns = tuple(allowed)
    for part in expression.split(","):
        # a wildcard asked for stands for itself here: only a pattern's own wildcard covers it
        if not any(_covers(pattern, part.removeprefix("-")) for pattern in patterns):
            raise Problem(
                403,
                "index_not_allowed_exception",
                f"[{part[:200]}] is not among the indices that this service may search",
            )


def encode_index(expression: str) -> str:
    """Return an index expression as one segment of a path: what was checked is what is sent."""
    return quote(expression, safe="*,-_.~")


def _covers(pattern: str, name: str) -> bool:
    """Return whether a pattern matches; written out, because ``fnmatch`` knows more than the one wildcard."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if ":" in name and ":" not in pattern and pattern != "*":  # another cluster's: `shop*` means indices of this one
        return False
    if not name.startswith(first):
        return False
    at = len(first)
    for piece in rest[:-1]:
        found = name.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= at


def _milliseconds(value: Any) -> float | None:
    if not isinstance(value, Number | str | int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number <= _LONGEST_WAIT_MS else None
