from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from lrem_os.model.contract import TokenContract

CONTRACT = TokenContract(
    model="m", revision="r", dimension=8, pooling="mean", max_tokens=16, special_tokens=("[CLS]", "[SEP]")
)
OTHER: dict[str, Any] = {
    "model": "n",
    "revision": "s",
    "dimension": 9,
    "pooling": "cls",
    "max_tokens": 17,
    "special_tokens": ("[SEP]", "[CLS]"),
    "query_prefix": "q: ",
    "item_prefix": "q: ",
    "lowercase": True,
    "padding_side": "left",
    "normalised": False,
    "prompt_version": 2,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TokenContract)])
def test_every_field_changes_the_fingerprint(field: str) -> None:
    changed = dataclasses.replace(CONTRACT, **{field: OTHER[field]})
    assert changed.fingerprint() != CONTRACT.fingerprint()


def test_no_two_changes_are_alike() -> None:
    changed = {dataclasses.replace(CONTRACT, **{key: value}).fingerprint() for key, value in OTHER.items()}
    assert len(changed) == len(OTHER)


def test_a_fingerprint_is_the_same_tomorrow() -> None:
    """Indices hold it: a change here makes every index in the world look foreign."""
    assert CONTRACT.fingerprint() == "d1d9a76048ea20c273b7a0991a0ef33d0fd493b0a40ca11c7ee766813832c6b9"


def test_the_identity_survives_json() -> None:
    assert json.loads(json.dumps(CONTRACT.identity)) == CONTRACT.identity
