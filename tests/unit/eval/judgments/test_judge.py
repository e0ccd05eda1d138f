from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, ModelError
from lrem_os.eval.judgments.judge import AnswerCache, Pair, count_open, estimate_tokens, judge_pairs, parse_grade

PAIRS = [Pair(f"q{number}", f"query {number}", "d1", f"item {{query}} {number}") for number in range(4)]
MODEL = {"model": "m", "temperature": 0}


class Model:
    """Answers with the length of the prompt, and fails on demand."""

    def __init__(self, answer: str = "2", fail_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.answer, self.fail_after = answer, fail_after

    def __call__(self, prompts: Sequence[str], answered: Callable[[str, str], None]) -> Mapping[str, str]:
        for prompt in prompts:
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise ModelError("the server is gone")
            self.asked.append(prompt)
            answered(prompt, self.answer)
        return {}


def judge(path: Path, model: Model, pairs: Sequence[Pair] = PAIRS, name: str = "m") -> dict[str, dict[str, int]]:
    with AnswerCache(path, MODEL | {"model": name}) as cache:
        return judge_pairs(pairs, model, cache).grades


def test_every_pair_gets_its_grade_and_texts_stay_what_they_are(tmp_path: Path) -> None:
    model = Model()
    assert judge(tmp_path / "a.jsonl", model) == {f"q{number}": {"d1": 2} for number in range(4)}
    assert "Query: query 3\n\nProduct:\nitem {query} 3\n" in model.asked[3]


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    first, second = Model(), Model("3")
    assert judge(tmp_path / "a", first, PAIRS[:2]) == judge(tmp_path / "a", second, PAIRS[:2])
    assert second.asked == []
    judge(tmp_path / "a", second)
    assert len(second.asked) == 2
    twice = [PAIRS[0], Pair("other", PAIRS[0].query, "d9", PAIRS[0].item)]
    third = Model()
    assert judge(tmp_path / "b", third, twice) == {"q0": {"d1": 2}, "other": {"d9": 2}}
    assert len(third.asked) == 1


def test_another_model_is_asked_again(tmp_path: Path) -> None:
    judge(tmp_path / "a", Model("1"))
    model = Model("3")
    assert judge(tmp_path / "a", model, name="another")["q0"] == {"d1": 3}
    assert judge(tmp_path / "a", model)["q0"] == {"d1": 1}


def test_a_run_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        judge(tmp_path / "a", Model("1", fail_after=2))
    model = Model("3")
    assert [docs["d1"] for docs in judge(tmp_path / "a", model).values()] == [1, 1, 3, 3]
    assert len(model.asked) == 2


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 1000))
def test_a_torn_last_line_is_asked_again(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cache") / "a"
    judge(path, Model("1"), PAIRS[:2])
    data = path.read_bytes()
    start = data.index(b"\n") + 1
    path.write_bytes(data[: start + cut % (len(data) - start)])
    model = Model("1")
    judge(path, model, PAIRS[:2])
    assert model.asked == [PAIRS[1].prompt]
    assert path.read_bytes() == data


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"key": "x", "answer": "1"}\nnonsense\n{"key": "y", "answer": "1"}\n')
    with pytest.raises(DatasetError, match=r"a:2: is no line of a judge's cache"):
        AnswerCache(path, MODEL)


def test_two_runs_do_not_write_one_cache(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a", MODEL), pytest.raises(DatasetError, match="another run is writing this cache"):
        AnswerCache(tmp_path / "a", MODEL)
    with AnswerCache(tmp_path / "a", MODEL):
        pass


def test_an_answer_without_a_grade_is_told_and_not_asked_again(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a", MODEL) as cache:
        report = judge_pairs(PAIRS[:1], Model("I cannot\nsay"), cache)
    assert (report.grades, report.ungraded, report.failed) == ({}, (("q0", "d1", "I cannot say"),), ())
    model = Model()
    judge(tmp_path / "a", model, PAIRS[:1])
    assert model.asked == []


def test_a_question_that_got_no_answer_is_told_and_asked_again(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a", MODEL) as cache:
        report = judge_pairs(PAIRS[:2], lambda prompts, _answered: {prompts[0]: "413: too long"}, cache)
        assert report.failed == (("q0", "d1", "413: too long"), ("q1", "d1", "no answer"))
        assert [pair.query_id for pair in count_open(PAIRS[:2], cache)] == ["q0", "q1"]


def test_the_cache_says_what_was_asked(tmp_path: Path) -> None:
    judge(tmp_path / "a", Model("Grade: 3"), PAIRS[:1])
    row = json.loads((tmp_path / "a").read_text())
    key = row.pop("key")
    assert len(key) == 32
    assert row == {
        "qid": "q0",
        "doc_id": "d1",
        "answer": "Grade: 3",
        "grade": 3,
        "prompt": "grade-1",
        "model": "m",
        "temperature": 0,
    }


GRADES = {
    "3": 3,
    " 0\n": 0,
    "Grade: 2": 2,
    "**1**": 1,
    '{"grade": 2}': 2,
    '{\n "grade" : 0 }': 0,
    "The grade is 2.": 2,
    "3 3": 3,
    "<think>maybe 3</think>\n1": 1,
    "At first I would grade: 3, but it is an accessory.</think>\n0": 0,
}
GRADES |= {"0-3: grade 1, no, Grade: 2": 2, "It is 2, so grade: **3**": 3}
NO_GRADES = ("4", "12", "2.5", "", "<think>3 or", "q3", "2/3", "0, 1", "Grade (0, 1, 2 or 3)", "Grade: 0, 1, 2 or 3")


@pytest.mark.parametrize(("answer", "grade"), [*GRADES.items(), *((answer, None) for answer in NO_GRADES)])
def test_grades_in_answers(answer: str, grade: int | None) -> None:
    assert parse_grade(answer) == grade


def test_tokens_are_estimated() -> None:
    tokens = estimate_tokens(PAIRS, max_tokens=16)
    assert tokens["completion_tokens_at_most"] == 64
    assert 4 * 90 < tokens["prompt_tokens"] < 4 * 300
