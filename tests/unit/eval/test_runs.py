from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import DatasetError, RunError
from lrem_os.eval.datasets import DataFile
from lrem_os.eval.runs import collect_run, format_run, parse_run, read_run, strict, write_run
from lrem_os.types import Hit, LegScore, Query, Ranking, Trace

SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-12, -1.0, 1e-45, 1e38, -1e38]),
    st.floats(-1e38, 1e38, allow_nan=False),
)
DOC_IDS = st.text(min_size=1, max_size=5)
COLUMN_IDS = DOC_IDS.filter(lambda text: not any(char.isspace() for char in text))


def rankings(ids: st.SearchStrategy[str] = DOC_IDS) -> st.SearchStrategy[Ranking]:
    return st.dictionaries(ids, SCORES, max_size=12).map(
        lambda scores: Ranking(tuple(Hit(doc_id, score) for doc_id, score in scores.items()))
    )


def ranking(*pairs: tuple[str, float]) -> Ranking:
    return Ranking(tuple(Hit(doc_id, score) for doc_id, score in pairs))


def doc_ids(of: Ranking) -> list[str]:
    return [hit.doc_id for hit in of.hits]


def lines(text: str) -> DataFile:
    return DataFile("run.trec", "", tuple(enumerate(text.split("\n"), 1)))


@given(rankings(), st.randoms())
def test_strict_orders_by_score_then_id_whatever_the_order_of_insertion(given_ranking: Ranking, random) -> None:
    shuffled = list(given_ranking.hits)
    random.shuffle(shuffled)
    result = strict(Ranking(tuple(shuffled)))
    assert result == strict(given_ranking)
    assert doc_ids(result) == [h.doc_id for h in sorted(given_ranking.hits, key=lambda h: (-h.score, h.doc_id))]


@given(rankings())
def test_strict_scores_strictly_decrease_in_32_bits_and_stay_where_they_were(given_ranking: Ranking) -> None:
    result = strict(given_ranking)
    scores = np.array([hit.score for hit in result.hits])
    narrow = scores.astype(np.float32)
    assert (narrow == scores).all()
    assert (narrow[1:] < narrow[:-1]).all()
    before = {hit.doc_id: hit.score for hit in given_ranking.hits}
    for hit in result.hits:  # 12 hits: at most 12 float32 steps of 2**-23, or of the smallest number
        assert math.isclose(hit.score, before[hit.doc_id], rel_tol=3e-6, abs_tol=1e-43)
    assert strict(result) == result


def test_strict_keeps_everything_but_the_scores() -> None:
    hit = Hit("a", 1.0, {"title": "bag"}, {"bm25": LegScore(1, 3.0)})
    whole = Ranking((hit,), total=9, took_ms=2.5, reason_ms=3.0, trace=Trace("reasoned", ("bag",), latency_ms=4.0))
    assert strict(whole) == whole


@pytest.mark.parametrize(
    ("hits", "message"),
    [
        ((("a", 1.0), ("b", math.nan)), "document 'b' has score nan"),
        ((("a", math.inf),), "document 'a' has score inf"),
        ((("a", -math.inf),), "document 'a' has score -inf"),
        ((("a", 1e39),), "document 'a' has score 1e+39"),
        ((("a", 2.0), ("a", 1.0)), "document 'a' comes twice"),
        ((("", 2.0),), "empty id"),
    ],
)
def test_a_ranking_that_cannot_be_measured_is_refused(hits: Sequence[tuple[str, float]], message: str) -> None:
    with pytest.raises(RunError, match="run 'bm25', query 'q1': ") as caught:
        strict(ranking(*hits), run="bm25", query_id="q1")
    assert message in str(caught.value)


@given(st.dictionaries(COLUMN_IDS, rankings(COLUMN_IDS), max_size=4))
def test_trec_round_trip(run: dict[str, Ranking]) -> None:
    text = format_run("bm25", run)
    if not text:
        assert not any(found.hits for found in run.values())
        return
    file = DataFile("run.trec", "", tuple(enumerate(text.removesuffix("\n").split("\n"), 1)))
    expected = {qid: strict(found) for qid, found in run.items() if found.hits}
    assert {qid: found.hits for qid, found in parse_run(file).items()} == {q: r.hits for q, r in expected.items()}


def test_the_file_is_what_trec_tools_read() -> None:
    run = {"q2": ranking(("d9", 0.1)), "q1": ranking(("d2", 1.0), ("d1", 1.0), ("d3", 2.5)), "q3": Ranking(())}
    assert format_run("bm25", run) == (
        "q1 Q0 d3 1 2.5 bm25\nq1 Q0 d1 2 1.0 bm25\nq1 Q0 d2 3 0.99999994 bm25\nq2 Q0 d9 1 0.1 bm25\n"
    )


@pytest.mark.parametrize("bad", ["my doc", "a\tb", "a\u00a0b", "a\u2028b", "a\nb", "", "\ud800"])
def test_an_id_that_a_trec_file_cannot_hold_is_refused(bad: str) -> None:
    with pytest.raises(RunError, match="the query id is "):
        format_run("bm25", {bad: Ranking(())})
    with pytest.raises(RunError, match="the name of the run is "):
        format_run(bad, {})
    with pytest.raises(RunError, match=r"the document id is |empty id"):
        format_run("bm25", {"q1": ranking((bad, 1.0))})


def test_a_file_is_read_as_trec_eval_reads_it() -> None:
    # the rank column is not looked at, ties go by id descending, and 1.00000000001 is 1.0 in 32 bits
    text = "q1 Q0 a 1 1.00000000001 x\nq1\tQ0\tb\t2\t1.0\tx\nq2 Q0 a 1 5 x\n q1 Q0 c 9 3e0 x"
    run = parse_run(lines(text))
    assert doc_ids(run["q1"]) == ["c", "b", "a"]
    assert [hit.score for hit in run["q1"].hits] == [3.0, 1.0, float(np.nextafter(np.float32(1), np.float32(0)))]
    assert run["q1"].total == 3
    assert doc_ids(run["q2"]) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 a 1 2.0 x\nq1 Q0 a 2 1.0 x", "run.trec:2: document 'a' comes twice for query 'q1'"),
        ("q1 Q0 a 1 nan x", "run.trec:1: score 'nan': want a finite number"),
        ("q1 Q0 a 1 -Infinity x", "run.trec:1: score '-Infinity': want a finite number"),
        ("q1 Q0 a 1 1e300 x", "run.trec:1: score '1e300': want a finite number"),
        ("q1 Q0 a 1 high x", "run.trec:1: score 'high' is no number"),
        ("q1 Q0 a 1 2.0", "run.trec:1: 5 columns: want 6"),
        ("q1 Q0 my doc 1 2.0 x", "run.trec:1: 7 columns: want 6"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        parse_run(lines(text))
    assert str(caught.value).startswith(message)


def test_write_and_read(tmp_path: Path) -> None:
    run = {"q1": ranking(("b", 2.0), ("ü", 1.0))}
    write_run(tmp_path / "bm25.trec", "bm25", run)
    assert list(read_run(tmp_path / "bm25.trec")["q1"].hits) == [Hit("b", 2.0), Hit("ü", 1.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["bm25.trec"]


def test_a_refused_run_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "bm25.trec"
    write_run(path, "bm25", {"q1": ranking(("a", 2.0))})
    with pytest.raises(RunError):
        write_run(path, "bm25", {"q1": ranking(("my doc", 2.0))})
    assert doc_ids(read_run(path)["q1"]) == ["a"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"bm25\.trec: cannot be written: "):
        write_run(tmp_path / "file" / "bm25.trec", "bm25", {})
    with pytest.raises(DatasetError, match="No such file"):
        read_run(tmp_path / "nowhere.trec")


class Scripted:
    """A retriever that answers with what it was given."""

    def __init__(self, answers: dict[str, Ranking]) -> None:
        self.answers = answers
        self.batches: list[int] = []

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        self.batches.append(len(queries))
        return [self.answers[query.text] for query in queries if query.text in self.answers]


def test_collect_run_asks_in_batches_and_keeps_answers_with_their_queries() -> None:
    queries = [Query(f"q{n}", f"text {n}") for n in range(70)]
    retriever = Scripted({f"text {n}": ranking((f"d{n}", 1.0)) for n in range(70)})
    progress: list[tuple[str, int, int]] = []
    run = collect_run(
        lambda: retriever, queries, top_k=5, name="bm25", on_progress=lambda *report: progress.append(report)
    )
    assert {qid: doc_ids(found) for qid, found in run.items()} == {f"q{n}": [f"d{n}"] for n in range(70)}
    assert sum(retriever.batches) == 70
    assert len(retriever.batches) > 1
    assert progress[-1] == ("bm25", 70, 70)
    assert len(progress) == len(retriever.batches)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "run 'bm25': 0 rankings came back for 1 queries"),
        ({"bag": ranking(("a", 3.0), ("b", 2.0), ("c", 1.0))}, "3 hits came back, 2 were asked for"),
        ({"bag": ranking(("a", 1.0), ("b", 2.0))}, r"'a' \(1.0\) stands above 'b' \(2.0\)"),
        ({"bag": ranking(("a", math.nan), ("b", 2.0))}, "document 'a' has score nan"),
        ({"bag": ranking(("a", 1.0), ("a", 1.0))}, "document 'a' comes twice"),
    ],
)
def test_a_retriever_that_breaks_its_contract_is_refused(answers: dict[str, Ranking], message: str) -> None:
    with pytest.raises(RunError, match=message):
        collect_run(lambda: Scripted(answers), [Query("q1", "bag")], top_k=2, name="bm25")
