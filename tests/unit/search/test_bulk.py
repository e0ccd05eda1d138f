from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import SearchError
from lrem_os.search.bulk import BulkItem, bulk_batches, bulk_item, sort_outcome
from lrem_os.types import Document

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def document(doc_id: str, **source: Any) -> Document:
    return Document(doc_id, "text", source, "f00d", "c.jsonl", 1)


def item(doc_id: str, size: int = 10) -> BulkItem:
    return BulkItem(document(doc_id), b"x" * size)


def test_an_item_is_two_lines_of_json() -> None:
    made = bulk_item(document("a", title="x\ny\u2028z", price=1.5), np.array([0.5, -1], dtype=np.float32), "vec")
    action, body, rest = made.payload.split(b"\n")
    assert orjson.loads(action) == {"index": {"_id": "a"}}
    assert orjson.loads(body) == {"title": "x\ny\u2028z", "price": 1.5, "vec": [0.5, -1.0], "lrem_hash": "f00d"}
    assert rest == b""


def test_fields_of_ours_win_over_fields_of_the_catalog() -> None:
    """An export of an index can be ingested again."""
    made = bulk_item(document("a", vec=[9], lrem_hash="old"), np.array([1], dtype=np.float32), "vec")
    body = orjson.loads(made.payload.split(b"\n")[1])
    assert body == {"vec": [1.0], "lrem_hash": "f00d"}


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(FLOATS, min_size=1, max_size=20))
def test_ids_and_vectors_survive_to_the_bit(doc_id: str, values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    lines = bulk_item(document(doc_id), vector, "vec").payload.split(b"\n")
    assert len(lines) == 3
    assert orjson.loads(lines[0])["index"]["_id"] == doc_id
    assert np.array(orjson.loads(lines[1])["vec"], dtype=np.float32).tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("sizes", "max_docs", "max_bytes", "batches"),
    [
        ([], 2, 100, []),
        ([10] * 5, 2, 100, [2, 2, 1]),
        ([10] * 5, 10, 30, [3, 2]),
        ([10, 100, 10], 10, 30, [1, 1, 1]),
        ([100], 10, 30, [1]),
        ([15, 15, 15], 10, 30, [2, 1]),
    ],
)
def test_batches_keep_within_both_limits(sizes: list[int], max_docs: int, max_bytes: int, batches: list[int]) -> None:
    made = list(
        bulk_batches((item(str(n), size) for n, size in enumerate(sizes)), max_docs=max_docs, max_bytes=max_bytes)
    )
    assert [len(batch) for batch in made] == batches


@settings(deadline=None)
@given(st.lists(st.integers(1, 50)), st.integers(1, 5), st.integers(1, 100))
def test_batches_hold_everything_in_order(sizes: list[int], max_docs: int, max_bytes: int) -> None:
    items = [item(str(number), size) for number, size in enumerate(sizes)]
    batches = list(bulk_batches(items, max_docs=max_docs, max_bytes=max_bytes))
    assert [one for batch in batches for one in batch] == items
    for batch in batches:
        assert 1 <= len(batch) <= max_docs
        assert len(batch) == 1 or sum(len(one.payload) for one in batch) <= max_bytes


def answer(*statuses: int) -> dict[str, Any]:
    results = [{"index": {"status": status}} for status in statuses]
    for status, result in zip(statuses, results, strict=True):
        if status >= 300:
            result["index"]["error"] = {"type": "kind", "reason": f"because {status}"}  # type: ignore[assignment]
    return {"errors": any(status >= 300 for status in statuses), "items": results}


def test_each_item_ends_as_its_status_says() -> None:
    statuses = (200, 201, 400, 404, 409, 413, 429, 500, 502, 503, 504)
    batch = [item(str(status)) for status in statuses]
    outcome = sort_outcome(batch, answer(*statuses))
    assert [one.document.doc_id for one in outcome.done] == ["200", "201"]
    assert [one.document.doc_id for one in outcome.again] == ["429", "502", "503", "504"]
    assert [(one.document.doc_id, reason) for one, reason in outcome.refused] == [
        (str(status), f"kind: because {status}") for status in (400, 404, 409, 413, 500)
    ]


def test_no_errors_all_done() -> None:
    batch = [item("a"), item("b")]
    assert sort_outcome(batch, answer(201, 200)).done == batch


def test_a_refusal_without_an_explanation_is_a_refusal() -> None:
    outcome = sort_outcome([item("a")], {"errors": True, "items": [{"index": {"status": 400}}]})
    assert [reason for _, reason in outcome.refused] == ["error: "]


@pytest.mark.parametrize("wrong", [{}, {"errors": False}, answer(200), answer(200, 200, 200), {"items": []}])
def test_an_answer_about_other_documents_is_no_answer(wrong: dict[str, Any]) -> None:
    with pytest.raises(SearchError, match="documents of 2"):
        sort_outcome([item("a"), item("b")], wrong)
