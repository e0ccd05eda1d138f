from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lrem_os.errors import EmbeddingError, GenerationError, LremError
from lrem_os.query_plugin.engine.calls import Embedded, Thought, checked_vector, embed_each, reason_each
from lrem_os.types import Reasoned, Reasoning, Vectors

UNIT = np.array([0.6, 0.8], np.float32)


def same(vector: Any) -> Any:
    return vector


SAYS = (Reasoning(("trivet",)), Reasoning())


def embed(texts: Sequence[str]) -> Vectors:
    if any("refused" in text for text in texts):
        raise EmbeddingError("a text is refused")
    rows = np.tile(UNIT, (len(texts), 1))
    rows[["NaN" in text for text in texts]] = math.nan
    return rows


def kinds(answers: Sequence[Any]) -> list[str]:
    return [type(answer).__name__ for answer in answers]


def test_one_bad_row_is_one_bad_answer() -> None:
    assert kinds(embed_each(embed, lambda: 2, same)(["a", "NaN", "b"])) == ["ndarray", "EmbeddingError", "ndarray"]


def test_a_text_that_spoils_its_batch_spoils_it_alone() -> None:
    assert kinds(embed_each(embed, lambda: 2, same)(["a", "refused", "b"])) == ["ndarray", "EmbeddingError", "ndarray"]
    with pytest.raises(EmbeddingError):
        embed_each(embed, lambda: 2, same)(["refused"])


def test_a_model_that_fails_as_a_whole_is_asked_once() -> None:
    calls: list[int] = []

    def fail(texts: Sequence[str]) -> Vectors:
        calls.append(len(texts))
        raise GenerationError("down")

    with pytest.raises(GenerationError):
        embed_each(fail, lambda: 2, same)(["a", "b", "c"])
    assert calls == [3]


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((2, 2)), np.ones(2), np.float32(1)])
def test_the_wrong_shape_is_no_answer(rows: Any) -> None:
    with pytest.raises(EmbeddingError, match="shape"):
        embed_each(lambda texts: rows, lambda: 2, same)(["a"])


@pytest.mark.parametrize("row", [[math.nan, 0], [math.inf, 0], [0, 0], [3, 4], [1e30, 1e30]])
def test_what_is_no_unit_vector_is_an_error(row: list[float]) -> None:
    with np.errstate(over="ignore"):
        assert isinstance(checked_vector(np.array(row, np.float32)), EmbeddingError)


def test_a_vector_does_not_keep_its_batch() -> None:
    [vector] = embed_each(embed, lambda: 2, same)(["a"])
    assert not isinstance(vector, LremError)
    assert vector.base is None


class Thinker:
    dimension = 2

    def __init__(self, reasonings: Sequence[Any], vectors: Any) -> None:
        self.found = Reasoned(vectors, tuple(reasonings))

    def embed_reasoned(self, queries: Sequence[str]) -> Reasoned:
        return self.found


def test_thoughts_without_keywords_have_no_vector_of_their_own() -> None:
    nothing = (Reasoning(), Reasoning())
    thinker = Thinker([SAYS, nothing], np.stack([UNIT, UNIT * math.nan]))
    first, second = reason_each(thinker)(["a", "b"])  # type: ignore[arg-type]
    assert isinstance(first, Thought)
    assert first.embedded is not None
    assert first.embedded.vector.tolist() == UNIT.tolist()
    assert first.keywords == ("trivet",)
    assert second == Thought(None, nothing)


def test_what_is_sent_are_the_shortest_decimals_of_the_same_numbers() -> None:
    vector = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    kept = Embedded.of(vector)
    assert kept.decimals.astype(np.float32).tobytes() == vector.tobytes()
    assert [str(value) for value in kept.decimals] == [str(value) for value in vector]


@pytest.mark.parametrize(
    ("reasonings", "vectors"),
    [
        ([SAYS], np.stack([UNIT, UNIT])),
        ([SAYS, SAYS], UNIT[None]),
        ([SAYS, SAYS], np.ones((2, 3), np.float32)),
        ([], np.empty((0, 2), np.float32)),
    ],
)
def test_wrong_counts_are_no_answer(reasonings: Sequence[Any], vectors: Any) -> None:
    with pytest.raises(GenerationError, match="for 2 queries"):
        reason_each(Thinker(reasonings, vectors))(["a", "b"])  # type: ignore[arg-type]


def test_garbage_of_one_query_is_its_own() -> None:
    thinker = Thinker([SAYS, ("trivet",), SAYS, ()], np.stack([UNIT, UNIT, UNIT * math.nan, UNIT]))
    answers = reason_each(thinker)(["a", "b", "c", "d"])  # type: ignore[arg-type]
    assert kinds(answers) == ["Thought", "GenerationError", "EmbeddingError", "GenerationError"]
