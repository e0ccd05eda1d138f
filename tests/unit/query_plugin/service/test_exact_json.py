from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.query_plugin.service.exact_json import NotReadable, depth, read, split_array, with_ext, write

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(VALUES)
def test_what_is_read_is_written_with_the_same_meaning(value: Any) -> None:
    assert json.loads(write(read(json.dumps(value).encode()))) == value


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1.10", "1e400", "1E-7", "18446744073709551616", "0.1000000000000000055511151231257827"],
)
def test_a_number_stays_as_it_was_written(number: str) -> None:
    data = f'{{"a":[{number}]}}'.encode()
    assert write(read(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1}x',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"/* x */ {}",
        b'{"a":"\x01"}',
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b"[" * 99_999,
    ],
)
def test_what_opensearch_would_refuse_is_not_read(data: bytes) -> None:
    with pytest.raises(NotReadable):
        read(data)


def test_half_a_surrogate_pair_is_not_written() -> None:
    with pytest.raises(NotReadable):
        write(read(b'{"a":"\\ud800"}'))


@pytest.mark.parametrize(("data", "deep"), [(b"1", 0), (b"{}", 1), (b'[{"a":[]}]', 3), (b'{"a":1,"b":{"c":[1]}}', 3)])
def test_depth_counts_objects_and_arrays(data: bytes, deep: int) -> None:
    assert depth(read(data)) == deep


def test_a_member_is_added_and_every_other_byte_stays() -> None:
    answer = b'{ "took" : 1.50,\n "hits": {"a": "\\u00e9\\/"}\n}\n'
    added = with_ext(answer, {"lrem": {"route": "direct"}})
    assert added == b'{ "took" : 1.50,\n "hits": {"a": "\\u00e9\\/"}\n,"ext":{"lrem":{"route":"direct"}}}\n'
    assert json.loads(added)["ext"] == {"lrem": {"route": "direct"}}
    assert with_ext(b"{}", {"a": 1}) == b'{"ext":{"a":1}}'


def test_what_is_under_ext_already_stays_there() -> None:
    answer = b'{"took":1.50,"ext":{"ubi":{"query_id":"7"}}}'
    assert with_ext(answer, {"lrem": 1}) == b'{"took":1.50,"ext":{"ubi":{"query_id":"7"},"lrem":1}}'
    below = b'{"hits":[{"ext":{"a":1}}]}'  # not at the top
    assert with_ext(below, {"lrem": 1}) == b'{"hits":[{"ext":{"a":1}}],"ext":{"lrem":1}}'


@pytest.mark.parametrize("data", [b"", b"took: 1\n", b"[1]", b'"ext"', b'{"ext":1}', b'{"a":"ext" "ext"}', b"{} x"])
def test_what_is_no_object_is_left_alone(data: bytes) -> None:
    assert with_ext(data, {"lrem": 1}) == data


@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=3), max_size=4), st.integers(0, 2)
)
def test_an_array_is_split_without_a_loss(rows: list[Any], indent: int) -> None:
    data = json.dumps({"took": [1, {"responses": 2}], "responses": rows, "z": 1}, indent=indent or None).encode()
    parts = split_array(data, "responses")
    assert parts is not None
    before, elements, after = parts
    assert [json.loads(element) for element in elements] == rows
    assert json.loads(before + b",".join(elements) + after) == json.loads(data)
    assert all(element in data for element in elements)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"a":1}', b'{"responses":1}', b'{"responses":[1', b'{"a" 1}', b"\xff"]
)
def test_no_array_is_found_where_there_is_none(data: bytes) -> None:
    assert split_array(data, "responses") is None
