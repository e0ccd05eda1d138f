"""Which model the vectors of every index are from, as the cluster says it, and whether the service knows that model.

Looked up every second while searches come. Nobody depends on the answer being fresh: a vector is sent under the names
of the indices that it fits (``guarded.py``), so an alias that moves meanwhile costs a second request and never a wrong
vector.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.wire import Answer
from lrem_os.search.index import model_fingerprint

Ask = Callable[[str, str], Awaitable[Answer]]
"""Path and query of a GET to OpenSearch, with the service's own credentials. May raise ``Problem``."""

_FRESH_S = 1.0
_STALE_S = 5.0  # what nobody asked about for longer is looked up before a search, not beside it
_PATIENCE_S = 1.0  # of a search, with a look that is under way
_LOOK_S = 2.0  # how long one may take
_INDEX = re.compile(rb'"_index"\s*:\s*"([^"]*)"')
_QUERY = (
    "ignore_unavailable=true&allow_no_indices=true&expand_wildcards=all"
    "&filter_path=*.aliases,*.settings.index.uuid,*.mappings._meta.lrem.identity"
)
_log = logging.getLogger("lrem_os.serve")


@dataclass(frozen=True, slots=True)
class Seen:
    """One index.

    Args:
        aliases: That lead to it.
        model: Fingerprint of the model that its vectors are from; empty where lrem-os did not make it.
    """

    aliases: frozenset[str]
    model: str


@dataclass(frozen=True, slots=True)
class Targets:
    """What an index expression leads to.

    Args:
        holders: By the fingerprint of each model to ask, the indices that hold vectors of it, searched or not.
        expected: The indices that are searched.
    """

    holders: Mapping[str, tuple[str, ...]]
    expected: frozenset[str]

    def met(self, answer: bytes) -> bool:
        """Return whether all hits are from indices that were expected."""
        return all(name.decode() in self.expected for name in set(_INDEX.findall(answer)))


class Versions:
    """What is known of the indices. Belongs to one event loop.

    Args:
        ask: Sends requests.
        patterns: What may be searched: names and aliases, in which ``*`` stands for anything.
        known: Fingerprints of the models that the service has.
        configured: The one among them that indices get that lrem-os did not make.
        now: Seconds, of a clock that never goes back.
    """

    def __init__(
        self,
        ask: Ask,
        patterns: Sequence[str],
        known: Collection[str],
        configured: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._known, self._configured, self._now = ask, frozenset(known), configured, now
        local = [pattern for pattern in patterns if ":" not in pattern]
        names = dict.fromkeys(name for one in local for name in ((one,) if "*" in one else (one, f"{one}-v*")))
        self._path = "/" + quote(",".join(names), safe="*,-_.~")
        self._seen: dict[str, Seen] = {}
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def targets(self, expression: str) -> Targets | None:
        """Return what an expression leads to; ``None`` where nothing it leads to was made by lrem-os.

        Args:
            expression: Of a path or of a header of ``_msearch``; empty: all.
        """
        if ":" in expression:  # another cluster's indices: nothing is known of them
            return None
        age_s = self._now() - self._looked_at
        if age_s > _FRESH_S:
            looking = self._start()
            if age_s > _STALE_S:
                await asyncio.wait({looking}, timeout=_PATIENCE_S)
        if not any(seen.model for seen in self._seen.values()):
            return None
        searched = _reached(expression, self._seen)
        models = dict.fromkeys(self._model_of(self._seen[name]) for name in sorted(searched))
        holders = {
            model: tuple(sorted(name for name, seen in self._seen.items() if self._model_of(seen) == model))
            for model in models
            if model in self._known
        }
        return Targets(holders, frozenset(searched))

    async def look(self) -> None:
        """Look up anew; a cluster that does not answer is not waited for."""
        await asyncio.wait({self._start(again=True)}, timeout=_PATIENCE_S)

    async def aclose(self) -> None:
        """End what is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _model_of(self, seen: Seen) -> str:
        return seen.model or self._configured

    def _start(self, *, again: bool = False) -> asyncio.Task[None]:
        before = self._looking
        if before is None or before.done():
            before = None
        elif not again:
            return before
        self._looking = asyncio.ensure_future(self._look(before))
        return self._looking

    async def _look(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # it may have been answered before what we want to see happened
            await asyncio.gather(before, return_exceptions=True)
        try:
            answer = await asyncio.wait_for(self._ask(self._path, _QUERY), _LOOK_S)
            if answer.status >= 300:
                raise Problem(answer.status, "index_lookup", f"status {answer.status}")
            self._seen = {name: _read(body) for name, body in orjson.loads(answer.body).items()}
        except (Problem, TimeoutError, orjson.JSONDecodeError) as exc:  # what was seen before is still the best guess
            _log.warning("the models of the indices could not be looked up: %r", exc)
        self._looked_at = self._now()


def _read(body: Mapping[str, Any]) -> Seen:
    identity = body.get("mappings", {}).get("_meta", {}).get("lrem", {}).get("identity")
    return Seen(frozenset(body.get("aliases", {})), model_fingerprint(identity) if identity else "")


def _reached(expression: str, seen: Mapping[str, Seen]) -> set[str]:
    """Return the indices that an expression leads to, perhaps more: all, where it cannot be told."""
    found: set[str] = set()
    for part in expression.split(","):
        pattern = re.compile(".*".join(re.escape(piece) for piece in part.split("*")))
        hit = {name for name, one in seen.items() if any(map(pattern.fullmatch, (name, *one.aliases)))}
        if not hit and not part.startswith("-"):
            return set(seen)
        found |= hit
    return found
