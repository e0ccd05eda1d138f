from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, TrainingError
from lrem_os.train.construct.journal import Checkpoint, Journal

HEADER = {"inputs": {"log": "abc"}, "top_k": 50}


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER) as journal:
        assert journal.once("q1", "A1", lambda: "thought") == "thought"
        assert journal.once("q1", "A1", lambda: pytest.fail("again")) == "thought"
    with Journal(tmp_path / "j", HEADER) as journal:
        assert journal.once("q1", "A1", lambda: pytest.fail("again")) == "thought"
        assert journal.recall("q1", "A2") is None
        assert journal.recall("q2", "A1") is None


def test_a_step_that_failed_is_tried_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER) as journal:
        with pytest.raises(ZeroDivisionError):
            journal.once("q1", "A1", lambda: 1 // 0)
        assert journal.once("q1", "A1", lambda: "now") == "now"


def test_a_checkpoint_ends_a_window(tmp_path: Path) -> None:
    checkpoint = Checkpoint(64, {"out": 10}, {"written": 3})
    with Journal(tmp_path / "j", HEADER) as journal:
        journal.record("q1", "A1", "old")
        journal.commit(checkpoint)
        journal.record("q2", "A1", "new")
    with Journal(tmp_path / "j", HEADER) as journal:
        assert journal.checkpoint == checkpoint
        assert journal.recall("q1", "A1") is None
        assert journal.recall("q2", "A1") == "new"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 400))
def test_cut_at_any_byte_it_opens_with_the_whole_lines(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal(path, HEADER) as journal:
        journal.record("q1", "A1", "one")
        journal.record("q2", "A1", "two")
        journal.commit(Checkpoint(2, {}, {"written": 1}))
        journal.record("q3", "A1", "three")
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with Journal(path, HEADER) as journal:
        num_lines = whole[:size].count(b"\n")
        assert journal.recall("q2", "A1") == ("two" if num_lines == 3 else None)
        assert journal.checkpoint.position == (2 if num_lines >= 4 else 0)
        journal.record("q9", "A1", "more")
    with Journal(path, HEADER) as journal:  # and can be written to after that
        assert journal.recall("q9", "A1") == "more"


def test_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    Journal(tmp_path / "j", HEADER).__exit__(None, None, None)
    with pytest.raises(TrainingError, match="another top_k: 50, now 20") as caught:
        Journal(tmp_path / "j", HEADER | {"top_k": 20})
    assert "--restart" in str(caught.value.hint)
    with Journal(tmp_path / "j", HEADER | {"top_k": 20}, restart=True) as journal:
        assert journal.checkpoint == Checkpoint()


def test_a_run_at_work_keeps_others_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER) as journal:
        journal.record("q1", "A1", "one")
        for restart in (False, True):
            with pytest.raises(TrainingError, match="another run is writing"):
                Journal(tmp_path / "j", HEADER, restart=restart)
    with Journal(tmp_path / "j", HEADER) as journal:
        assert journal.recall("q1", "A1") == "one"


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER) as journal:
        journal.record("q1", "A1", "one")
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes() + b"garbage\n")
    with pytest.raises(DatasetError, match=r"j:3: the journal is damaged"):
        Journal(tmp_path / "j", HEADER)


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER) as journal:

        def work(name: str) -> None:
            for number in range(50):
                journal.once(f"{name}{number}", "A1", lambda: "x" * 200)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Journal(tmp_path / "j", HEADER) as journal:
        assert all(journal.recall(f"{name}{number}", "A1") for name in "abcd" for number in range(50))
