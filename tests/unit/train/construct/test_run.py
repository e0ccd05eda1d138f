from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import GenerationError, TrainingError
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.lines import Unusable
from lrem_os.train.construct.run import Failure, Files, Outcome, Run
from tests.unit.train.construct.shop import read

HEADER = {"top_k": 1}


class Killed(BaseException):
    pass


class Squares:
    """Writes the square of even numbers, fails on multiples of five, and dies after so many steps."""

    def __init__(self, die_after: int = 10**9) -> None:
        self.left, self.computed = die_after, Counter[int]()

    def __call__(self, window: Sequence[int], journal: Journal) -> Outcome:
        outcome = Outcome()
        for number in window:
            square = journal.once(str(number), "square", lambda number=number: self._square(number))
            if number % 5 == 0:
                outcome.failures.append(Failure(number, str(number), "", "square", "a multiple of five"))
            elif number % 2 == 0:
                outcome.rows.append({"qid": str(number), "square": square})
                outcome.counts["even"] += 1
        return outcome

    def _square(self, number: int) -> int:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.computed[number] += 1
        return number * number


def run(process: Squares, *, window: int = 4, limit: int | None = None, inputs: Sequence[object] = range(1, 31)) -> Run:
    return Run(inputs, process, HEADER, limit, window=window)


def test_rows_failures_and_counts(tmp_path: Path) -> None:
    files = Files(tmp_path / "new" / "out.jsonl")
    inputs = [1, 2, Unusable(3, "is broken", "text"), Unusable(4, "again", duplicate=True), 4, 5]
    counts = run(Squares(), inputs=inputs).write(files)
    assert read(files.out) == [{"qid": "2", "square": 4}, {"qid": "4", "square": 16}]
    assert counts == {"read": 6, "unusable": 1, "duplicate": 1, "failed": 1, "written": 2, "even": 2}
    assert [(row["line"], row["step"], row["error"]) for row in read(files.failed)] == [
        (3, "read", "is broken"),
        (5, "square", "a multiple of five"),
    ]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30), st.integers(1, 9))
def test_killed_anywhere_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, die_after: int, window: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    whole = Files(folder / "whole.jsonl")
    expected = run(Squares(), window=window).write(whole)

    files, first, second = Files(folder / "out.jsonl"), Squares(die_after), Squares()
    if die_after < 30:
        with pytest.raises(Killed):
            run(first, window=window).write(files)
        with files.out.open("ab") as out:
            out.write(b'{"torn')  # what a kill leaves behind the last checkpoint
    else:
        run(first, window=window).write(files)
    assert run(second, window=window).write(files) == expected
    assert files.out.read_bytes() == whole.out.read_bytes()
    assert files.failed.read_bytes() == whole.failed.read_bytes()
    assert max((first.computed + second.computed).values()) == 1  # nothing was paid for twice


def test_a_limit_can_be_raised(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    assert run(Squares(), limit=6).write(files)["read"] == 6
    second = Squares()
    assert run(second).write(files)["read"] == 30
    assert set(second.computed) == set(range(7, 31))
    assert [row["qid"] for row in read(files.out)] == [str(n) for n in range(2, 31, 2) if n % 5]


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    counts = run(Squares()).write(files)
    assert run(Squares(die_after=0)).write(files) == counts


def test_output_of_unknown_origin_is_left_alone(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    files.out.write_text("mine\n")
    with pytest.raises(TrainingError, match="no journal"):
        run(Squares()).write(files)
    assert files.out.read_text() == "mine\n"
    run(Squares()).write(files, restart=True)
    assert read(files.out)[0] == {"qid": "2", "square": 4}


def test_output_that_was_cut_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    run(Squares()).write(files)
    files.out.write_bytes(files.out.read_bytes()[:-5])
    with pytest.raises(TrainingError, match="shorter than the journal says"):
        run(Squares()).write(files)


def test_when_nothing_works_no_input_is_blamed(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    with pytest.raises(GenerationError, match="all of the first 2 inputs failed"):
        run(Squares(), inputs=[5, 10, Unusable(3, "bad"), 15, 2], window=3).write(files)
    assert run(Squares(), inputs=[5, 10, Unusable(3, "bad"), 15, 2], window=5).write(files)["failed"] == 3


def test_windows_without_rows_do_not_move_the_end(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    run(Squares(), inputs=[2, 4], window=1).write(files)
    with files.out.open("ab") as out:
        out.write(b"x" * 100)
    run(Squares(), inputs=[2, 4, 1, 3], window=1).write(files)
    run(Squares(), inputs=[2, 4, 1, 3, 6], window=1).write(files)
    assert [row["qid"] for row in read(files.out)] == ["2", "4", "6"]


def test_the_output_is_named_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not named \.jsonl"):
        Files(tmp_path / "out.txt")
