from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, RunError
from lrem_os.eval.answers import open_answers
from lrem_os.eval.datasets import read_file
from lrem_os.eval.runs import parse_run, read_run
from lrem_os.types import Hit, Query, Ranking, Trace

KEY = {"config": "abc", "index": {"name": "products-v1", "written": 3}}
TRACE = Trace("reasoned", ("pot stand", "trivet"), ("probe_timeout",), 42, 123.5, 100.25, 0.75)
ANSWER = Ranking((Hit("b c", 2.5), Hit("ü\u2028", 1.0)), total=7, took_ms=3.0, trace=TRACE)
QUERY = Query("q1", "what do I put under a hot pot")


def written(path: Path, *answers: tuple[Query, Ranking]) -> Path:
    kept = open_answers(path / "run.jsonl", "run", KEY)
    kept.add(answers)
    return path / "run.jsonl"


def test_what_is_added_is_there_for_who_goes_on_and_for_who_measures(tmp_path: Path) -> None:
    path = written(tmp_path, (QUERY, ANSWER), (Query("q2", "x"), Ranking(())))
    kept = open_answers(path, "run", KEY)
    assert kept.get(QUERY) == ANSWER
    assert kept.get(Query("q1", "another text")) is None
    assert kept.get(Query("q3", "x")) is None
    run = read_run(path)
    assert run["q1"] == ANSWER
    assert run["q2"].hits == ()
    assert "hot pot" not in path.read_text(encoding="utf-8")  # what was typed is not kept


def test_nan_survives(tmp_path: Path) -> None:
    path = written(tmp_path, (QUERY, Ranking((), trace=Trace("direct"))))
    trace = read_run(path)["q1"].trace
    assert trace is not None
    assert math.isnan(trace.latency_ms)
    assert math.isnan(trace.score)
    assert trace.route == "direct"


@pytest.mark.parametrize(
    ("name", "key"),
    [("run", {**KEY, "config": "abd"}), ("other", KEY), ("run", {})],
)
def test_another_key_begins_anew(tmp_path: Path, name: str, key: dict[str, object]) -> None:
    path = written(tmp_path, (QUERY, ANSWER))
    assert open_answers(path, name, key).known == {}
    assert len(path.read_bytes().splitlines()) == 1


def test_fresh_begins_anew(tmp_path: Path) -> None:
    path = written(tmp_path, (QUERY, ANSWER))
    assert open_answers(path, "run", KEY, fresh=True).known == {}
    assert open_answers(path, "run", KEY).known == {}


@given(st.integers(0, 10_000))
def test_a_file_torn_anywhere_keeps_the_whole_lines(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    pairs = [(Query(f"q{at}", f"text {at}"), ANSWER) for at in range(4)]
    path = written(folder, *pairs)
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    kept = open_answers(path, "run", KEY)
    whole = max(0, data[: cut % len(data)].count(b"\n") - 1)  # but for the first line, which is no answer
    assert list(kept.known) == [f"q{at}" for at in range(whole)]
    kept.add([pair for pair in pairs if kept.get(pair[0]) is None])
    assert {query_id: one.hits for query_id, one in read_run(path).items()} == {
        query.query_id: ANSWER.hits for query, _ in pairs
    }


def test_the_last_answer_of_a_query_counts_and_a_torn_end_is_passed_over(tmp_path: Path) -> None:
    newer = Ranking((Hit("z", 9.0),), total=1)
    path = written(tmp_path, (QUERY, ANSWER), (QUERY, newer))
    path.write_bytes(path.read_bytes() + b'{"qid":"q2","text_ha')
    assert {query_id: one.hits for query_id, one in read_run(path).items()} == {"q1": newer.hits}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"qid": "q1"}', "run.jsonl:2: is no answer of a run"),
        ('{"qid": "q1", "text_hash": "", "total": 0, "took_ms": 0, "trace": null, "hits": [["a"]]}', "no answer"),
        ("[]", "is no answer of a run"),
        ("nonsense}", "is no answer of a run"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    with pytest.raises(DatasetError) as caught:
        open_answers(path, "run", KEY)
    assert message in str(caught.value)
    path.write_bytes(path.read_bytes() + b'{"qid": "q2"}\n')
    with pytest.raises(DatasetError, match="is no answer of a run"):
        read_run(path)


def test_scores_that_no_run_can_have_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, (QUERY, ANSWER))
    path.write_text(path.read_text(encoding="utf-8").replace("2.5", "1e300"), encoding="utf-8")
    with pytest.raises(RunError, match="want a finite number"):
        read_run(path)


def test_other_json_is_no_run(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"qid": "q1", "query": "bag"}\n')
    with pytest.raises(DatasetError, match="is no file of answers") as caught:
        parse_run(read_file(path))
    assert "TREC" in (caught.value.hint or "")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        open_answers(tmp_path / "nowhere" / "run.jsonl", "run", KEY)
