from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lrem_os.config import EvalSettings
from lrem_os.errors import DatasetError, InputError, LremError, RunError, SearchUnavailable
from lrem_os.eval.evaluate import EvalResult
from lrem_os.eval.files import evaluate_files
from lrem_os.eval.runs import read_run
from lrem_os.eval.specs import RunSpec
from lrem_os.types import Hit, Query, Ranking

FAST = EvalSettings(bootstrap=100)


class Shop:
    """Answers a query with the documents that its run knows for the text."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        known = {
            "bm25": {"bag": ("x", "a")},
            "vector": {"bag": ("a", "x"), "sofa": ("c",)},
            "hybrid": {"bag": ("my doc",)},
            "vector+reason": {"bag": ("a",), "sofa": ("c",)},
        }
        return [
            Ranking(
                tuple(
                    Hit(doc_id, 1.0 / rank) for rank, doc_id in enumerate(known[self.spec.name].get(query.text, ()), 1)
                )
            )
            for query in queries
        ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "q.tsv").write_text("q1\tbag\nq2\tsofa\n")
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\nq2 0 c 1\n")
    (tmp_path / "old.trec").write_text("q1 Q0 a 1 2.0 old\nq2 Q0 x 1 1.0 old\n")
    return tmp_path


def evaluate(data: Path, runs: Sequence[str], **options: object) -> EvalResult:
    defaults: dict[str, object] = {"queries": data / "q.tsv", "qrels": data / "qrels.txt", "open_retriever": Shop}
    return evaluate_files(runs, **{"settings": FAST, "measures": ["mrr@10"], **defaults, **options})  # type: ignore[arg-type]


def test_modes_and_files_side_by_side(data: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    result = evaluate(
        data,
        ["bm25", str(data / "old.trec"), "vector"],
        baseline="old",
        system=lambda: {"model": "fake:64"},
        on_progress=lambda *report: progress.append(report),
    )
    assert {name: run.overall["mrr@10"].mean for name, run in result.runs.items()} == {
        "bm25": 0.25,
        "old": 0.5,
        "vector": 1.0,
    }
    assert list(result.runs) == ["bm25", "old", "vector"]
    assert result.runs["vector"].difference["mrr@10"].mean == 0.5
    assert result.runs["bm25"].missing == ("q2",)
    assert list(result.card.checksums) == ["queries", "qrels", "run old"]
    assert all(value.startswith("sha256:") for value in result.card.checksums.values())
    assert result.card.system == {"model": "fake:64"}
    assert progress == [("bm25", 2, 2), ("vector", 2, 2), ("measuring", 0, 1), ("measuring", 1, 1)]


def test_retrieved_runs_are_saved_and_measure_the_same_from_the_file(data: Path) -> None:
    folder = data / "deep" / "runs"
    live = evaluate(data, ["bm25", "vector", str(data / "old.trec")], save_runs=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["bm25.trec", "vector.trec"]
    assert [hit.doc_id for hit in read_run(folder / "vector.trec")["q1"].hits] == ["a", "x"]
    saved = evaluate(data, [f"{folder}/bm25.trec", f"{folder}/vector.trec"])
    for name in ("bm25", "vector"):
        assert saved.runs[name].overall == live.runs[name].overall
        assert saved.runs[name].missing == live.runs[name].missing


def test_only_files_need_no_retriever_and_save_nothing(data: Path) -> None:
    result = evaluate(
        data,
        [str(data / "old.trec")],
        save_runs=data / "runs",
        open_retriever=lambda mode: pytest.fail("opened"),
        settings=EvalSettings(bootstrap=100, top_k=1),  # the depth of runs that are asked for, not of files
    )
    assert result.runs["old"].overall["mrr@10"].mean == 0.5
    assert not (data / "runs").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"runs": ["bm25", "vectr"]}, RunError, "'vectr' is no mode"),
        ({"runs": ["bm25", "bm25"]}, RunError, "two runs are called 'bm25'"),
        ({"runs": ["bm25", "./nowhere.trec"]}, DatasetError, "nowhere.trec: cannot read it"),
        ({"measures": ["ndgc@10"]}, InputError, "no measure is called"),
        ({"measures": ["recall@1000"]}, InputError, "recall@1000 looks at 1000 results, but only 100 are asked for"),
        ({"baseline": "vector"}, RunError, "the baseline 'vector' is none of the runs"),
        ({"queries": "/nowhere"}, DatasetError, "/nowhere: cannot read it"),
        ({"qrels": "/nowhere"}, DatasetError, "/nowhere: cannot read it"),
        ({"min_grade": 2}, InputError, "no query has a judgment of grade 2"),
        ({"save_runs": "/dev/null/runs"}, RunError, "cannot make the folder /dev/null/runs"),
    ],
)
def test_what_is_wrong_is_found_before_a_retriever_is_opened(
    data: Path, options: dict[str, object], error: type[LremError], message: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate(data, **{"runs": ["bm25"], "open_retriever": lambda mode: pytest.fail("opened"), **options})  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_id_with_a_blank_can_be_measured_but_not_saved(data: Path) -> None:
    assert evaluate(data, ["hybrid"]).runs["hybrid"].overall["mrr@10"].mean == 0.0
    with pytest.raises(RunError, match="the document id is 'my doc'") as caught:
        evaluate(data, ["hybrid"], save_runs=data / "runs")
    assert caught.value.hint is not None
    assert list((data / "runs").iterdir()) == []


def test_a_cluster_that_fails_leaves_the_runs_before_it(data: Path) -> None:
    def open_retriever(spec: RunSpec) -> Shop:
        if spec.mode == "vector":
            raise SearchUnavailable("no connection")
        return Shop(spec)

    with pytest.raises(SearchUnavailable):
        evaluate(data, ["bm25", "vector"], save_runs=data / "runs", open_retriever=open_retriever)
    assert [path.name for path in (data / "runs").iterdir()] == ["bm25.trec"]


def test_a_reasoned_run_is_a_run_of_its_own(data: Path) -> None:
    opened: list[RunSpec] = []
    result = evaluate(
        data,
        ["vector", "vector+reason"],
        baseline="vector",
        save_runs=data / "runs",
        open_retriever=lambda spec: opened.append(spec) or Shop(spec),
    )
    assert [(spec.mode, spec.reason) for spec in opened] == [("vector", False), ("vector", True)]
    assert result.runs["vector+reason"].overall["mrr@10"].mean == 1.0
    assert sorted(path.name for path in (data / "runs").iterdir()) == ["vector+reason.trec", "vector.trec"]
