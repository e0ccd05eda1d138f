from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config import CatalogSettings, IndexSettings
from lrem_os.errors import ConfigError
from lrem_os.search.mappings import build_index_body, build_mapping, build_settings


def mapping(index: IndexSettings | None = None, **catalog: Any) -> dict[str, Any]:
    return build_mapping(CatalogSettings(**catalog), index or IndexSettings(), 8)


def test_the_default_mapping() -> None:
    text = {"type": "text", "analyzer": "english"}
    keyword = {"type": "keyword", "ignore_above": 8191}
    both = text | {"fields": {"keyword": keyword}}
    assert mapping() == {
        "dynamic": False,
        "properties": {
            "id": {"type": "keyword"},
            "title": text,
            "brand": both,
            "category": both,
            "description": text,
            "price": {"type": "double"},
            "attributes": {"type": "flat_object"},
            "attributes_text": text,
            "lrem_hash": {"type": "keyword", "index": False, "doc_values": False, "store": True},
            "lrem_vector": {
                "type": "knn_vector",
                "dimension": 8,
                "space_type": "innerproduct",
                "method": {"name": "hnsw", "engine": "lucene", "parameters": {"m": 16, "ef_construction": 100}},
            },
        },
    }


@settings(deadline=None)
@given(st.sampled_from(["lucene", "faiss"]), st.booleans(), st.integers(2, 100), st.integers(2, 500))
def test_the_engine_is_always_named(engine: Any, on_disk: bool, m: int, ef_construction: int) -> None:
    """The server's own default kills a node without native libraries."""
    if on_disk and engine == "lucene":
        return
    vector = mapping(IndexSettings(engine=engine, on_disk=on_disk, m=m, ef_construction=ef_construction))["properties"][
        "lrem_vector"
    ]
    if on_disk:
        assert vector["mode"] == "on_disk"
        assert "method" not in vector
    else:
        assert vector["method"]["engine"] == engine
        assert vector["method"]["parameters"] == {"m": m, "ef_construction": ef_construction}
        assert "mode" not in vector


def test_a_vector_field_that_is_a_catalog_field_is_refused() -> None:
    for name in ("title", "price", "attributes_text", "id", "lrem_hash"):
        with pytest.raises(ConfigError, match="is a catalog field as well"):
            mapping(IndexSettings(vector_field=name))


def test_fields_of_the_configuration_are_mapped() -> None:
    properties = mapping(
        IndexSettings(analyzer="german", vector_field="v"),
        id="sku",
        title="name",
        text={"name": 1.0, "specs": 1.0},
        keyword=("shop",),
        number=("weight", "stock"),
        objects=("specs", "hidden"),
    )["properties"]
    assert {name: field["type"] for name, field in properties.items()} == {
        "sku": "keyword",
        "name": "text",
        "specs": "flat_object",
        "specs_text": "text",
        "hidden": "flat_object",
        "shop": "keyword",
        "weight": "double",
        "stock": "double",
        "lrem_hash": "keyword",
        "v": "knn_vector",
    }
    assert properties["name"]["analyzer"] == "german"


def test_the_settings_are_those_for_after_the_load() -> None:
    index = IndexSettings(shards=3, replicas=2, refresh_interval="30s")
    assert build_settings(index) == {
        "index": {"knn": True, "number_of_shards": 3, "number_of_replicas": 2, "refresh_interval": "30s"}
    }


def test_the_body_holds_settings_mapping_and_note() -> None:
    body = build_index_body(CatalogSettings(), IndexSettings(), 8, {"format": 1})
    assert body["mappings"]["_meta"] == {"lrem": {"format": 1}}
    assert body["mappings"]["dynamic"] is False
    assert body["settings"] == build_settings(IndexSettings())
