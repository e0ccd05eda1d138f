from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.config_fields import MASK
from lrem_os.search.ml_commons.bodies import (
    connector_body,
    holds,
    ingest_pipeline_body,
    is_ours,
    model_body,
    same_key,
    search_pipeline_body,
    with_key,
)
from lrem_os.search.ml_commons.cluster import masked
from tests.fakes.ml_commons import WANTED

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_no_text_of_a_query_can_name_a_parameter_of_ours() -> None:
    body = connector_body(WANTED)
    assert "parameters" not in body
    assert body["actions"][0]["request_body"].count("${parameters.") == 2  # the texts and their type


def test_a_connector_is_known_again_by_its_key_and_never_shows_it() -> None:
    body = with_key(connector_body(WANTED), "secret")
    assert body["credential"] == {"key": "secret"}
    assert same_key(body["description"], "secret")
    assert not same_key(body["description"], "Secret")
    assert not same_key(body["description"], None)
    shown = masked(body)
    assert shown is not None
    assert shown["credential"] == {"key": MASK}
    assert "secret" not in str(shown)
    assert with_key(connector_body(WANTED), "secret")["description"] != body["description"], "the mark is salted"


def test_a_service_without_keys_gets_a_placeholder() -> None:
    body = with_key(connector_body(WANTED), None)
    assert body["credential"]["key"]
    assert same_key(body["description"], None)
    assert not same_key(body["description"], "secret")


@settings(max_examples=10)  # scrypt is slow on purpose
@given(st.text(min_size=1), st.text(min_size=1))
def test_another_key_is_another_key(one: str, other: str) -> None:
    body = with_key(connector_body(WANTED), one.encode("utf-8", "replace").decode())
    assert same_key(body["description"], other.encode("utf-8", "replace").decode()) == (
        one.encode("utf-8", "replace") == other.encode("utf-8", "replace")
    )


def test_descriptions_hold_only_what_ml_commons_accepts() -> None:
    safe = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,!?():@-_'/\"")
    for body in (with_key(connector_body(WANTED), "k"), model_body(WANTED, "g", "c")):
        assert set(body["description"]) <= safe
        assert is_ours(body)
    for body in (search_pipeline_body(WANTED, "m"), ingest_pipeline_body(WANTED, "m", "title")):
        assert is_ours(body)
    assert not is_ours({})


def test_the_model_says_that_queries_are_not_passages() -> None:
    config = model_body(WANTED, "g", "c")["model_config"]
    assert config["additional_config"]["is_asymmetric"] is True
    assert config["embedding_dimension"] == 8


def test_the_search_pipeline_is_about_our_field_alone() -> None:
    (enricher,) = search_pipeline_body(WANTED, "m")["request_processors"]
    assert enricher == {"neural_query_enricher": {"neural_field_default_id": {"v": "m"}}}


@given(VALUES)
def test_everything_holds_itself(value: Any) -> None:
    assert holds(value, value)


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=4), st.text(min_size=4, max_size=5), VALUES)
def test_more_is_still_held_and_less_is_not(value: dict[str, Any], extra: str, more: Any) -> None:
    assert holds(value | {extra: more}, value)
    assert not holds({key: one for key, one in value.items() if key != next(iter(value))}, value)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [({"a": [1, 2]}, {"a": [1]}), ({"a": {"b": 1}}, {"a": {"b": 2}}), ([], {}), ("x", ["x"]), ({"a": None}, {"a": {}})],
)
def test_a_difference_is_found(found: Any, wanted: Any) -> None:
    assert not holds(found, wanted)
