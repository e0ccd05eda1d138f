"""Which search an event belongs to: remembered where this service answered it, looked up where another one did."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import orjson

from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.ubi_records import QUERIES
from lrem_os.query_plugin.service.wire import Answer

_REMEMBERED = 10_000  # searches; some hundred bytes each

Send = Callable[[str, str, bytes], Awaitable[Answer]]
"""Method, path and JSON to OpenSearch, with the service's own credentials. May raise ``Problem``."""


class Searches:
    """What is known of searches, by their id.

    Args:
        send: Reaches OpenSearch.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._known: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    def remember(self, query_id: str, told: Mapping[str, Any]) -> None:
        """Keep ``lrem`` of a search; the oldest is forgotten."""
        self._known[query_id] = told
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def known(self, query_id: object) -> Mapping[str, Any] | None:
        """Return what is remembered of a search."""
        return self._known.get(query_id) if isinstance(query_id, str) else None

    async def find(self, query_ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """Return what the cluster has of these searches; where it does not answer, nothing."""
        wanted = sorted({query_id for query_id in query_ids if query_id not in self._known})
        found = {query_id: self._known[query_id] for query_id in query_ids if query_id in self._known}
        if not wanted:
            return found
        body = {"size": len(wanted), "_source": ["query_id", "lrem"], "query": {"terms": {"query_id": wanted}}}
        with contextlib.suppress(Problem, ValueError, KeyError, TypeError):  # what answered may be no OpenSearch
            answer = await self._send("POST", f"/{QUERIES}/_search", orjson.dumps(body))
            hits = orjson.loads(answer.body)["hits"]["hits"]
            found |= {hit["_source"]["query_id"]: hit["_source"]["lrem"] for hit in hits if "lrem" in hit["_source"]}
        return found
