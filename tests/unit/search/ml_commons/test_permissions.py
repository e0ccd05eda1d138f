from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.search.ml_commons.permissions import (
    ENDPOINTS,
    PRIVATE,
    PRIVATE_ENDPOINTS,
    ClusterSettings,
    Note,
    endpoint_regex,
    is_private_host,
    lacking,
    noted,
    read_note,
    to_restore,
)

URL = "http://10.0.0.7:8099/v1/embeddings"
OURS = r"^http://10\.0\.0\.7:8099/.*$"
THEIRS = r"^https://api\.example\.org/.*$"


def in_force(**values: object) -> ClusterSettings:
    names = {"endpoints": ENDPOINTS, "private": PRIVATE, "private_endpoints": PRIVATE_ENDPOINTS}
    return ClusterSettings({}, {names[key]: value for key, value in values.items()})


def test_what_is_allowed_already_is_left_alone() -> None:
    assert lacking(in_force(endpoints=[r"^http://10\..*"], private="true"), URL, Note()) == {}
    assert lacking(in_force(endpoints=r"^http://10\..*", private="true"), URL, Note()) == {}
    assert lacking(None, URL, Note()) == {}, "who may not read the settings is told by the cluster itself"


def test_what_is_missing_is_named_with_its_value() -> None:
    assert lacking(in_force(endpoints=[THEIRS], private="false"), URL, Note()) == {
        ENDPOINTS: [THEIRS, OURS],
        PRIVATE: True,
    }
    assert lacking(in_force(), URL, Note()) == {ENDPOINTS: [OURS], PRIVATE: True}


def test_a_public_address_needs_no_private_one() -> None:
    assert lacking(in_force(), "https://8.8.8.8/v1/embeddings", Note()) == {ENDPOINTS: [r"^https://8\.8\.8\.8/.*$"]}


def test_the_list_of_private_endpoints_counts_where_there_is_one() -> None:
    trusted = {"endpoints": [".*"], "private": "true"}
    assert lacking(in_force(**trusted, private_endpoints=[]), URL, Note()) == {}
    needed = lacking(in_force(**trusted, private_endpoints=[THEIRS]), URL, Note())
    assert needed == {PRIVATE_ENDPOINTS: [THEIRS, OURS]}


def test_a_pattern_that_only_java_knows_is_left_to_the_cluster() -> None:
    assert lacking(in_force(endpoints=[r"^\p{Alpha}+://.*$"], private="true"), URL, Note()) == {}


def test_an_entry_of_ours_for_an_old_address_is_replaced() -> None:
    old = endpoint_regex("http://10.0.0.6:8099")
    settings = in_force(endpoints=[THEIRS, old], private="true")
    assert lacking(settings, URL, Note(added=[old]))[ENDPOINTS] == [THEIRS, OURS]


@given(st.sampled_from(["http", "https"]), st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True), st.integers(1, 65535))
def test_our_entry_trusts_this_server_and_no_other(scheme: str, host: str, port: int) -> None:
    pattern = endpoint_regex(f"{scheme}://{host}:{port}/v1/embeddings")
    assert re.fullmatch(pattern, f"{scheme}://{host}:{port}/v1/embeddings")
    assert not re.fullmatch(pattern, f"{scheme}://x{host}:{port}/v1/embeddings")
    assert not re.fullmatch(pattern, f"{scheme}://{host}:{port}1/v1/embeddings")


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("no-such-host.invalid", True),
    ],
)
def test_private_hosts(host: str, is_private: bool) -> None:
    assert is_private_host(host) is is_private


def cycle(settings: ClusterSettings, needed: dict[str, object]) -> tuple[Note, ClusterSettings]:
    """Note, then set."""
    note = read_note(noted(Note(), settings, needed, URL).described())
    return note, ClusterSettings({**settings.persistent, **needed}, {**settings.effective, **needed})


def test_what_was_set_is_taken_back() -> None:
    before = in_force(endpoints=[THEIRS], private="false")
    note, after = cycle(before, lacking(before, URL, Note()))
    assert note.is_pending
    assert lacking(after, URL, note) == {}
    assert to_restore(note, after) == {ENDPOINTS: None, PRIVATE: None}


def test_a_list_that_somebody_had_set_comes_back() -> None:
    before = ClusterSettings({ENDPOINTS: [THEIRS]}, {ENDPOINTS: [THEIRS], PRIVATE: "true"})
    note, after = cycle(before, lacking(before, URL, Note()))
    assert to_restore(note, after) == {ENDPOINTS: [THEIRS]}


def test_what_others_added_since_stays() -> None:
    before = in_force(endpoints=[THEIRS], private="true")
    note, after = cycle(before, lacking(before, URL, Note()))
    later = ClusterSettings({ENDPOINTS: [*after.persistent[ENDPOINTS], "^https://other/.*$"]}, {})
    assert to_restore(note, later) == {ENDPOINTS: [THEIRS, "^https://other/.*$"]}
    reset_by_hand = ClusterSettings({}, before.effective)
    assert to_restore(note, reset_by_hand) == {}


def test_a_description_without_a_note_or_with_half_of_one_is_no_error() -> None:
    assert read_note("lrem-os connect: vectors") == Note()
    assert read_note("lrem-os connect: x (note eyJi)") == Note()
    assert read_note(Note().described()) == Note()
