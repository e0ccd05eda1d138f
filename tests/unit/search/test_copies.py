from __future__ import annotations

from typing import Any

import pytest

from lrem_os.errors import SearchError, SearchRejected
from lrem_os.search.copies import _check_copied, copied_body


def test_what_is_the_server_s_own_is_not_copied() -> None:
    body = {
        "aliases": {"products": {}},
        "mappings": {"_meta": {"lrem": {"fingerprint": "x"}}, "properties": {"title": {"type": "text"}}},
        "settings": {
            "index": {
                "uuid": "u",
                "version": {"created": "1"},
                "creation_date": "1",
                "provided_name": "products-v1",
                "blocks": {"write": "true"},
                "number_of_shards": "2",
                "number_of_replicas": "1",
                "knn": "true",
                "analysis": {"analyzer": {"mine": {"tokenizer": "standard"}}},
            }
        },
    }
    assert copied_body(body) == {
        "mappings": body["mappings"],
        "settings": {
            "index": {
                "number_of_shards": "2",
                "number_of_replicas": 0,
                "auto_expand_replicas": False,
                "knn": "true",
                "analysis": {"analyzer": {"mine": {"tokenizer": "standard"}}},
            }
        },
    }


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ({"error": {"type": "index_not_found_exception", "reason": "no such index"}}, SearchError, "no such index"),
        ({"response": {"total": 9, "created": 4, "failures": []}}, SearchError, "only 4 of 9 .* it was stopped"),
        (
            {
                "response": {
                    "total": 9,
                    "created": 4,
                    "failures": [{"status": 429, "cause": {"type": "busy", "reason": "r"}}],
                }
            },
            SearchRejected,
            "busy: r",
        ),
        (
            {
                "response": {
                    "total": 9,
                    "created": 8,
                    "failures": [{"status": 400, "cause": {"type": "bad", "reason": "r"}}],
                }
            },
            SearchError,
            "bad: r",
        ),
    ],
)
def test_a_copy_that_is_not_whole_is_told(found: dict[str, Any], error: type[SearchError], message: str) -> None:
    with pytest.raises(error, match=message):
        _check_copied(found, "products-v1")
