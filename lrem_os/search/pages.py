"""All documents that match a query, page by page, from one consistent view (a point in time)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from opensearchpy import OpenSearch

from lrem_os.errors import SearchError
from lrem_os.search.client import engine_of, server_version, translate_errors
from lrem_os.search.dialect import dialect_of

_KEEP_ALIVE = "5m"


def read_pages(
    client: OpenSearch, index: str, query: Mapping[str, Any], *, fields: list[str], time_field: str, page: int = 5000
) -> Iterator[list[dict[str, Any]]]:
    """Yield the sources of all documents that match, oldest first.

    Source: OpenSearch 3.x, "Point in Time" and "Paginate results", ``search_after``.

    Args:
        client: The connection.
        index: Name, alias or pattern.
        query: What must match.
        fields: What is fetched of each document; nothing else leaves the cluster.
        time_field: What they are sorted by.
        page: Documents a request.

    Raises:
        SearchError: The index is not there, or OpenSearch cannot answer.
    """
    dialect = dialect_of(engine_of(client))
    with translate_errors():
        tie = dialect.tie_breaker(server_version(client))
        view = dialect.open_view(client, index, _KEEP_ALIVE)
    body: dict[str, Any] = {
        "size": page,
        "query": dict(query),
        "_source": fields,
        "track_total_hits": False,
        "sort": [{time_field: "asc"}, {tie: "asc"}],
    }
    try:
        while True:
            with translate_errors():
                answer = client.search(body=body | {"pit": {"id": view, "keep_alive": _KEEP_ALIVE}})
            hits = answer["hits"]["hits"]
            if not hits:
                return
            view = answer.get("pit_id", view)
            yield [hit["_source"] for hit in hits]
            body["search_after"] = hits[-1]["sort"]
    finally:
        with suppress(SearchError), translate_errors():  # it ends by itself in the end; the first error matters
            dialect.close_view(client, view)
