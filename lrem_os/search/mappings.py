"""Index settings and mapping, as plain values computed from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrem_os.config import CatalogSettings, IndexSettings
from lrem_os.errors import ConfigError
from lrem_os.search.fields import HASH_FIELD, text_field

_MAX_KEYWORD_CHARS = 8191  # Lucene's term limit of 32,766 bytes, at up to 4 bytes a character


def build_mapping(catalog: CatalogSettings, index: IndexSettings, dimension: int) -> dict[str, Any]:
    """Return the mapping without ``_meta``.

    Unmapped fields are stored and returned, not indexed (``dynamic: false``), so a catalog with thousands of
    attribute names cannot blow up the mapping.

    Source: OpenSearch 3.6 documentation, "k-NN vector" and "Flat object".
    """
    properties: dict[str, Any] = {}
    for name in catalog.keyword:
        properties[name] = _keyword()
    for name in catalog.number:
        properties[name] = {"type": "double"}
    for name in catalog.objects:
        properties[name] = {"type": "flat_object"}
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
    properties[index.vector_field] = _vector(index, dimension)
    return {"dynamic": False, "properties": properties}


def build_settings(index: IndexSettings) -> dict[str, Any]:
    """Return the index settings for the time after the load."""
    return {
        "index": {
            "knn": True,
            "number_of_shards": index.shards,
            "number_of_replicas": index.replicas,
            "refresh_interval": index.refresh_interval,
        }
    }


def build_index_body(
    catalog: CatalogSettings, index: IndexSettings, dimension: int, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body of ``PUT /{index}``; ``meta`` goes to ``_meta.lrem``."""
    mapping = build_mapping(catalog, index, dimension)
    return {"settings": build_settings(index), "mappings": {"_meta": {"lrem": dict(meta)}, **mapping}}


def _keyword() -> dict[str, Any]:
    return {"type": "keyword", "ignore_above": _MAX_KEYWORD_CHARS}


def _vector(index: IndexSettings, dimension: int) -> dict[str, Any]:
    # innerproduct on unit vectors is the cosine without dividing by norms; OpenSearch scores it 1 + ip for ip > 0
    field: dict[str, Any] = {"type": "knn_vector", "dimension": dimension, "space_type": "innerproduct"}
    if index.on_disk:
        return field | {"mode": "on_disk"}  # picks faiss, 32x compression and rescoring by itself
    # the engine is always named: the server's default (faiss) kills a node without native libraries
    parameters = {"m": index.m, "ef_construction": index.ef_construction}
    return field | {"method": {"name": "hnsw", "engine": index.engine, "parameters": parameters}}
