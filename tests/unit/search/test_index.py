from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import IndexMismatch
from lrem_os.search.index import (
    IndexState,
    build_meta,
    check_fingerprint,
    check_mapping,
    fingerprint,
    index_identity,
    mapping_hash,
    next_name,
)

IDENTITY = index_identity({"model": "m", "revision": "1", "dimension": 8}, ("title", "brand"))
MAPPING = {"properties": {"title": {"type": "text"}}}


def state(meta: dict[str, Any] | None = None, name: str = "shop-v1") -> IndexState:
    return IndexState(name, frozenset({"shop"}), meta or {}, 1, {})


def test_the_identity_holds_all_that_decides_a_vector() -> None:
    assert IDENTITY == {
        "model": "m",
        "revision": "1",
        "dimension": 8,
        "embedded_fields": ["title", "brand"],
        "text_template": "fields-1",
    }


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.integers(0, 2**53) | st.text() | st.none(), max_size=6))
def test_the_fingerprint_does_not_depend_on_order(identity: dict[str, Any]) -> None:
    assert fingerprint(identity) == fingerprint(dict(reversed(identity.items())))
    assert len(fingerprint(identity)) == 16


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "n"}, "model: m in the index, n now"),
        ({"revision": None}, "revision: 1 in the index, nothing now"),
        ({"dimension": 16}, "dimension: 8 in the index, 16 now"),
        ({"pooling": "cls"}, "pooling: nothing in the index, cls now"),
        ({"embedded_fields": ["brand", "title"]}, "embedded_fields: ['title', 'brand'] in the index"),
        ({"text_template": "fields-2"}, "text_template: fields-1 in the index, fields-2 now"),
        ({"model": "n", "revision": "2"}, "model: m in the index, n now; revision: 1 in the index, 2 now"),
    ],
)
def test_any_difference_is_refused_and_named(change: dict[str, Any], told: str) -> None:
    built = state(build_meta(IDENTITY, MAPPING, building=False))
    check_fingerprint(built, IDENTITY)
    with pytest.raises(IndexMismatch) as caught:
        check_fingerprint(built, IDENTITY | change)
    assert told in str(caught.value)
    assert "--recreate" in (caught.value.hint or "")


def test_an_index_that_says_nothing_is_refused() -> None:
    with pytest.raises(IndexMismatch, match="not made by lrem-os"):
        check_fingerprint(state(), IDENTITY)


def test_another_mapping_is_refused() -> None:
    built = state(build_meta(IDENTITY, MAPPING, building=False))
    check_mapping(built, {"properties": {"title": {"type": "text"}}})
    with pytest.raises(IndexMismatch, match="mapping of index 'shop-v1' differs"):
        check_mapping(built, {"properties": {"title": {"type": "keyword"}}})
    assert mapping_hash({"a": 1, "b": 2}) == mapping_hash({"b": 2, "a": 1})


def test_what_the_note_says() -> None:
    assert not state(build_meta(IDENTITY, MAPPING, building=False)).is_building
    assert state(build_meta(IDENTITY, MAPPING, building=True)).is_building
    assert not state(build_meta(IDENTITY, MAPPING, building=True)).is_loading
    assert state({"restore": {}}).is_loading


@pytest.mark.parametrize(
    ("existing", "name"),
    [([], "shop-v1"), (["shop-v1"], "shop-v2"), (["shop-v1", "shop-v9"], "shop-v10"), (["shop-v99"], "shop-v100")],
)
def test_the_next_version(existing: list[str], name: str) -> None:
    assert next_name("shop", [state(name=one) for one in existing]) == name
