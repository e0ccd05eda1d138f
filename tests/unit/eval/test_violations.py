from __future__ import annotations

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile
from lrem_os.eval.violations import parse_violations


def lines(text: str) -> DataFile:
    return DataFile("v.jsonl", "", tuple(enumerate(text.split("\n"), 1)))


def test_under_either_name_and_with_an_empty_list() -> None:
    text = '{"qid": "q1", "ids": ["a", 7, "a"]}\n{"query_id": 2, "doc_ids": []}'
    assert parse_violations(lines(text)) == {"q1": {"a", "7"}, "2": frozenset()}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{"qid": "q1", "ids": ["a"]}\n{"qid": ', 2, "broken JSON"),
        ('["q1"]', 1, "no qid or query_id in the line"),
        ('{"qid": "q1"}', 1, "no ids or doc_ids in the line"),
        ('{"qid": "q1", "ids": "a"}', 1, "ids is 'a': want a list of document ids"),
        ('{"qid": "q1", "ids": [null]}', 1, "None is no id"),
        ('{"qid": "", "ids": []}', 1, "'' is no id"),
        ('{"qid": "q1", "ids": []}\n{"qid": "q1", "ids": ["a"]}', 2, "query 'q1' comes twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        parse_violations(lines(text))
    assert str(caught.value).startswith(f"v.jsonl:{line}: ")
    assert message in str(caught.value)
