"""Index settings and mapping, as plain values computed from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrem_os.config import CatalogSettings, IndexSettings
from lrem_os.errors import ConfigError
from lrem_os.search.dialect import MAX_KEYWORD_CHARS, dialect_of
from lrem_os.search.fields import HASH_FIELD, text_field
from lrem_os.types import Engine


def build_mapping(
    catalog: CatalogSettings, index: IndexSettings, dimension: int, *, engine: Engine = "opensearch"
) -> dict[str, Any]:
    """Return the mapping without ``_meta``, for one kind of server.

    Unmapped fields are stored and returned, not indexed (``dynamic: false``), so a catalog with thousands of
    attribute names cannot blow up the mapping.

    Source: OpenSearch 3.6 documentation, "k-NN vector" and "Flat object".
    """
    dialect = dialect_of(engine)
    properties: dict[str, Any] = {}
    for name in catalog.keyword:
        properties[name] = _keyword()
    for name in catalog.number:
        properties[name] = {"type": "double"}
    for name in catalog.objects:
        properties[name] = dict(dialect.object_field)
    for name in catalog.text:
        text: dict[str, Any] = {"type": "text", "analyzer": index.analyzer}
        if name in catalog.keyword:
            text["fields"] = {"keyword": _keyword()}
        properties[text_field(catalog, name)] = text
    properties[catalog.id] = {"type": "keyword"}  # equal scores are sorted by it
    properties[HASH_FIELD] = {"type": "keyword", "index": False, "doc_values": False, "store": True}
    if index.vector_field in properties:
        raise ConfigError(
            f"index.vector_field {index.vector_field!r} is a catalog field as well", hint="give it a name of its own"
        )
    properties[index.vector_field] = dialect.vector_field(index, dimension)
    return {"dynamic": False, "properties": properties}


def build_settings(index: IndexSettings, *, engine: Engine = "opensearch") -> dict[str, Any]:
    """Return the index settings for the time after the load."""
    return {
        "index": {
            **dialect_of(engine).index_settings,
            "number_of_shards": index.shards,
            "number_of_replicas": index.replicas,
            "refresh_interval": index.refresh_interval,
        }
    }


def build_index_body(
    catalog: CatalogSettings,
    index: IndexSettings,
    dimension: int,
    meta: Mapping[str, Any],
    *,
    engine: Engine = "opensearch",
) -> dict[str, Any]:
    """Return the body of ``PUT /{index}``; ``meta`` goes to ``_meta.lrem``."""
    mapping = build_mapping(catalog, index, dimension, engine=engine)
    return {"settings": build_settings(index, engine=engine), "mappings": {"_meta": {"lrem": dict(meta)}, **mapping}}


def _keyword() -> dict[str, Any]:
    return {"type": "keyword", "ignore_above": MAX_KEYWORD_CHARS}
