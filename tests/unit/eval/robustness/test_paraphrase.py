from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from lrem_os.errors import DatasetError, GenerationError
from lrem_os.eval.robustness.paraphrase import Paraphrases, build_prompt, parse_answer

MODEL = {"model": "m", "temperature": 0.7}


class Writer:
    """Answers every prompt in a way of its own, and notes what it was asked."""

    def __init__(self, answer: str | None = "couch {seed}", fail_after: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answer, self._fail_after = answer, fail_after

    def __call__(self, prompts: Sequence[str], seed: int) -> list[str | None]:
        if self._fail_after is not None and len(self.asked) >= self._fail_after:
            raise GenerationError("the server is gone")
        self.asked += [(prompt, seed) for prompt in prompts]
        return [None if self._answer is None else self._answer.format(seed=seed) for _ in prompts]


def test_what_was_answered_once_is_not_asked_again(tmp_path: Path) -> None:
    first = Writer()
    found = Paraphrases(first, MODEL, tmp_path / "p.jsonl").of(["red sofa", "blue sofa", "red sofa"], 5)
    assert found == {"red sofa": "couch 5", "blue sofa": "couch 5"}
    assert first.asked == [(build_prompt("red sofa"), 5), (build_prompt("blue sofa"), 5)]
    second = Writer("other")
    again = Paraphrases(second, MODEL, tmp_path / "p.jsonl")
    assert again.of(["red sofa", "blue sofa"], 5) == found
    assert second.asked == []
    assert again.of(["red sofa"], 27) == {"red sofa": "other"}  # another seed
    other_model = Paraphrases(Writer("third"), MODEL | {"model": "n"}, tmp_path / "p.jsonl")
    assert other_model.of(["red sofa"], 5) == {"red sofa": "third"}


def test_what_is_unusable_is_not_asked_again_and_what_was_refused_is(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    assert Paraphrases(Writer("RED sofa"), MODEL, path).of(["red sofa"], 5) == {}
    silent = Writer()
    assert Paraphrases(silent, MODEL, path).of(["red sofa"], 5) == {}
    assert silent.asked == []
    assert Paraphrases(Writer(None), MODEL, path).of(["lamp"], 5) == {}
    assert Paraphrases(Writer("a light"), MODEL, path).of(["lamp"], 5) == {"lamp": "a light"}


def test_a_run_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    texts = [f"query {number}" for number in range(80)]
    first = Writer(fail_after=32)
    with pytest.raises(GenerationError):
        Paraphrases(first, MODEL, tmp_path / "p.jsonl").of(texts, 5)
    with (tmp_path / "p.jsonl").open("ab") as file:
        file.write(b'{"key": "half a li')
    second = Writer()
    assert len(Paraphrases(second, MODEL, tmp_path / "p.jsonl").of(texts, 5)) == 80
    assert len(first.asked) + len(second.asked) == 80
    assert all(orjson.loads(line)["prompt"] for line in (tmp_path / "p.jsonl").read_bytes().splitlines())


def test_a_cache_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"query": "red sofa"}\n')
    with pytest.raises(DatasetError, match=r"p\.jsonl:1: no paraphrase"):
        Paraphrases(Writer(), MODEL, tmp_path / "p.jsonl")


def test_nothing_is_kept_without_a_place() -> None:
    assert Paraphrases(Writer(), MODEL, None).of(["red sofa"], 5) == {"red sofa": "couch 5"}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("couch, red", "couch, red"),
        ('"red couch"', "red couch"),
        ("New query:  red   couch \nI kept the colour.", "red couch"),
        ("<think>a sofa is a couch</think>\nred couch", "red couch"),
        ("a sofa is a couch</think>\nred couch", "red couch"),
        ("<think>never ends", None),
        ("", None),
        ("Red  SOFA", None),
        ("Sure! " + "Here is a rewritten query that keeps the meaning. " * 5, None),
    ],
)
def test_what_is_taken_from_an_answer(answer: str, wanted: str | None) -> None:
    assert parse_answer(answer, "red sofa") == wanted
