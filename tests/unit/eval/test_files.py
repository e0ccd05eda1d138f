from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from lrem_os.config import EvalSettings
from lrem_os.errors import DatasetError, InputError, LremError, RunError, SearchUnavailable
from lrem_os.eval import report
from lrem_os.eval.files import Source, evaluate_files
from lrem_os.eval.result import EvalResult
from lrem_os.eval.runs import read_run
from lrem_os.eval.specs import RunSpec
from lrem_os.lines import claimed_folder
from lrem_os.types import Hit, Query, Ranking, Trace

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


def shop(spec: RunSpec, _queries: Sequence[Query]) -> Shop:
    return Shop(spec)


def closed(_spec: RunSpec, _queries: Sequence[Query]) -> Shop:
    raise AssertionError("a retriever was opened")


def evaluate(data: Path, runs: Sequence[str], source: Source | None = None, **options: object) -> EvalResult:
    defaults: dict[str, object] = {"queries": data / "q.tsv", "qrels": data / "qrels.txt"}
    given = {"settings": FAST, "measures": ["mrr@10"], **defaults, **options}
    return evaluate_files(runs, source or Source(shop), **given)  # type: ignore[arg-type]


def test_modes_and_files_side_by_side(data: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    result = evaluate(
        data,
        ["bm25", str(data / "old.trec"), "vector"],
        Source(shop, system=lambda: {"model": "fake:64"}, config_hash="abc"),
        baseline="old",
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
    assert result.card.config_hash == "abc"
    assert [step for step in progress if step[0] != "measuring"] == [("bm25", 2, 2), ("vector", 2, 2)]
    assert progress[-1][1] == progress[-1][2]


def test_retrieved_runs_are_saved_and_measure_the_same_from_the_file(data: Path) -> None:
    folder = data / "deep" / "runs"
    live = evaluate(data, ["bm25", "vector", str(data / "old.trec")], save_runs=folder)
    names = ["bm25.jsonl", "bm25.trec", "vector.jsonl", "vector.trec"]
    assert sorted(path.name for path in folder.iterdir()) == names
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
        source=Source(closed),
        settings=EvalSettings(bootstrap=100, top_k=1),  # the depth of runs that are asked for, not of files
    )
    assert result.runs["old"].overall["mrr@10"].mean == 0.5
    assert not (data / "runs").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"runs": ["bm25", "vectr"]}, RunError, "'vectr' is no mode"),
        ({"curve": "ndcg@10"}, RunError, "direct and reasoned is none of the runs"),
        ({"runs": ["direct", "reasoned"], "curve": "ndgc@10"}, InputError, "no measure is called"),
        ({"runs": ["direct", "reasoned"], "curve": "ndcg@500"}, InputError, "ndcg@500 looks at 500 results"),
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
        evaluate(data, **{"runs": ["bm25"], "source": Source(closed), **options})  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_id_with_a_blank_can_be_measured_but_not_saved(data: Path) -> None:
    assert evaluate(data, ["hybrid"]).runs["hybrid"].overall["mrr@10"].mean == 0.0
    with pytest.raises(RunError, match="the document id is 'my doc'") as caught:
        evaluate(data, ["hybrid"], save_runs=data / "runs")
    assert caught.value.hint is not None
    assert [path.name for path in (data / "runs").iterdir()] == ["hybrid.jsonl"]  # JSON can hold any id
    assert evaluate(data, [f"{data}/runs/hybrid.jsonl"]).runs["hybrid"].missing == ("q2",)


def test_a_cluster_that_fails_leaves_the_runs_before_it(data: Path) -> None:
    def open_retriever(spec: RunSpec, _queries: Sequence[Query]) -> Shop:
        if spec.mode == "vector":
            raise SearchUnavailable("no connection")
        return Shop(spec)

    with pytest.raises(SearchUnavailable):
        evaluate(data, ["bm25", "vector"], Source(open_retriever), save_runs=data / "runs")
    assert "bm25.trec" in [path.name for path in (data / "runs").iterdir()]
    assert "vector.trec" not in [path.name for path in (data / "runs").iterdir()]


def test_a_reasoned_run_is_a_run_of_its_own(data: Path) -> None:
    opened: list[RunSpec] = []
    result = evaluate(
        data,
        ["vector", "vector+reason"],
        Source(lambda spec, _queries: opened.append(spec) or Shop(spec)),  # type: ignore[func-returns-value]
        baseline="vector",
        save_runs=data / "runs",
    )
    assert [(spec.mode, spec.reason) for spec in opened] == [("vector", False), ("vector", True)]
    assert result.runs["vector+reason"].overall["mrr@10"].mean == 1.0
    names = [path.name for path in (data / "runs").iterdir() if path.suffix == ".trec"]
    assert sorted(names) == ["vector+reason.trec", "vector.trec"]


class Served:
    """Answers like a service: direct finds the bag at once and the sofa second, reasoned the sofa too; counts calls."""

    def __init__(self, name: str, dies_after: int = 10**9) -> None:
        self.name, self.dies_after, self.asked = name, dies_after, []  # type: tuple[str, int, list[str]]

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        found = []
        for query in queries:
            if len(self.asked) >= self.dies_after:
                raise SearchUnavailable("the cluster is gone")
            self.asked.append(query.query_id)
            is_reasoned = self.name == "reasoned" or (self.name == "routed@50%" and query.query_id == "q2")
            ids = ("c",) if query.query_id == "q2" and is_reasoned else ("x", "c") if query.query_id == "q2" else ("a",)
            trace = Trace(
                route="reasoned" if is_reasoned else "direct",
                keywords=("sofa bed",) if is_reasoned else (),
                reasoning_tokens=40 if is_reasoned else 0,
                latency_ms=300.0 if is_reasoned else 20.0,
                reason_ms=240.0 if is_reasoned else 0.0,
                score=math.nan if self.name != "routed@50%" else 0.9 if query.query_id == "q2" else 0.1,
            )
            found.append(Ranking(tuple(Hit(one, 1.0 / rank) for rank, one in enumerate(ids, 1)), trace=trace))
        return found


def test_traces_cost_and_curve_come_from_the_runs_and_again_from_the_files(data: Path) -> None:
    names = ["direct", "reasoned", "routed@50%"]
    settings = EvalSettings(bootstrap=100, gpu_hour_price=3.6, currency="EUR")
    live = evaluate(
        data,
        names,
        Source(lambda spec, _queries: Served(spec.name)),
        curve="mrr@10",
        save_runs=data / "runs",
        settings=settings,
    )
    routed = live.runs["routed@50%"].cost
    assert routed is not None
    assert (routed["reasoned_share"], routed["reasoning_tokens_per_query"]) == (0.5, 20.0)
    assert routed["price_per_1000"] == {"value": pytest.approx(0.12), "currency": "EUR", "per_gpu_hour": 3.6}
    assert routed["by_route"]["reasoned"]["p50"] == 300.0
    assert live.curve is not None
    assert (live.curve["direct"], live.curve["reasoned"]) == (0.75, 1.0)
    assert live.curve["area"]["router"] == 1.0  # the sofa first, as the oracle would
    again = evaluate(
        data,
        [f"{data}/runs/{name}.jsonl" for name in names],
        Source(closed),
        curve="mrr@10",
        settings=settings,
    )
    assert again.curve == live.curve
    assert {name: run.cost for name, run in again.runs.items()} == {name: run.cost for name, run in live.runs.items()}
    assert again.runs["reasoned"].overall == live.runs["reasoned"].overall


def test_scores_for_the_curve_are_asked_for_where_no_run_has_any(data: Path) -> None:
    source = Source(
        lambda spec, _queries: Served(spec.name),
        scores=lambda queries: {query.query_id: float(query.query_id == "q1") for query in queries},
    )
    result = evaluate(data, ["direct", "reasoned"], source, curve="mrr@10")
    assert result.curve is not None
    assert result.curve["points"]["router"][10] == pytest.approx({"share": 0.5, "mean": 0.75, "low": 0.75, "high": 1.0})
    with pytest.raises(RunError, match="router score"):
        evaluate(data, ["direct", "reasoned"], Source(lambda spec, _queries: Served(spec.name)), curve="mrr@10")


def many(data: Path, num: int = 40) -> Path:
    (data / "q.tsv").write_text("".join(f"q{at}\tquery {at}\n" for at in range(1, num + 1)))
    return data


def test_a_killed_evaluation_goes_on_where_it_was(data: Path) -> None:
    many(data)
    first, second = Served("direct", dies_after=33), Served("direct")
    with pytest.raises(SearchUnavailable):
        evaluate(data, ["direct"], Source(lambda _spec, _queries: first), save_runs=data / "runs")
    path = data / "runs" / "direct.jsonl"
    path.write_bytes(path.read_bytes() + b'{"qid":"q33","hits":[["a",1')  # and the kill tore a line
    result = evaluate(data, ["direct"], Source(lambda _spec, _queries: second), save_runs=data / "runs")
    assert second.asked == [f"q{at}" for at in range(33, 41)]
    whole = evaluate(data, ["direct"], Source(lambda spec, _queries: Served(spec.name)))
    assert result.runs["direct"].overall == whole.runs["direct"].overall
    assert any("32 of 40 answers were kept from before" in note for note in result.card.notes)
    assert path.read_text().count("\n") == 41  # the run's own line and forty answers


def test_answers_that_are_there_need_no_retriever_unless_all_is_asked_anew(data: Path) -> None:
    evaluate(data, ["direct"], Source(lambda spec, _queries: Served(spec.name)), save_runs=data / "runs")
    evaluate(data, ["direct"], Source(closed), save_runs=data / "runs")
    asked = Served("direct")
    evaluate(data, ["direct"], Source(lambda _spec, _queries: asked), save_runs=data / "runs", fresh=True)
    assert asked.asked == ["q1", "q2"]


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"config": "b", "index": {"written": 7}}},
        {"source": {"config": "a", "index": {"written": 8}}},
        {"settings": EvalSettings(bootstrap=100, top_k=50)},
    ],
)
def test_answers_of_another_configuration_index_or_depth_are_not_used(data: Path, change: dict[str, object]) -> None:
    def source(key: object, served: Served) -> Source:
        return Source(lambda _spec, _queries: served, key=lambda _spec, _queries: key)  # type: ignore[arg-type, return-value]

    key = {"config": "a", "index": {"written": 7}}
    evaluate(data, ["direct"], source(key, Served("direct")), save_runs=data / "runs")
    asked = Served("direct")
    options = {name: value for name, value in change.items() if name != "source"}
    evaluate(data, ["direct"], source(change.get("source", key), asked), save_runs=data / "runs", **options)
    assert asked.asked == ["q1", "q2"]


def test_a_log_that_has_grown_or_changed_is_asked_only_about_what_is_new(data: Path) -> None:
    evaluate(data, ["direct"], Source(lambda spec, _queries: Served(spec.name)), save_runs=data / "runs", limit=1)
    (data / "q.tsv").write_text("q2\tsofa\nq1\tanother bag\nq3\tlamp\n")
    asked = Served("direct")
    evaluate(data, ["direct"], Source(lambda _spec, _queries: asked), save_runs=data / "runs")
    assert asked.asked == ["q2", "q1", "q3"]  # q1 has another text now, and the two others are new
    again = Served("direct")
    (data / "q.tsv").write_text("q4\tlamp\nq2\tsofa\n")
    evaluate(data, ["direct"], Source(lambda _spec, _queries: again), save_runs=data / "runs")
    assert again.asked == ["q4"]


def test_a_service_is_asked_again_once_all_is_answered_but_a_killed_run_goes_on(data: Path) -> None:
    many(data)
    runs = ["live=http://localhost:8099"]
    first, second, third = Served("direct", dies_after=20), Served("direct"), Served("direct")
    with pytest.raises(SearchUnavailable):
        evaluate(data, runs, Source(lambda _spec, _queries: first), save_runs=data / "runs")
    evaluate(data, runs, Source(lambda _spec, _queries: second), save_runs=data / "runs")
    evaluate(data, runs, Source(lambda _spec, _queries: third), save_runs=data / "runs")
    assert (len(second.asked), len(third.asked)) == (24, 40)


def test_a_service_is_asked_again_about_all_when_the_queries_have_grown(data: Path) -> None:
    runs, asked = ["live=http://localhost:8099"], Served("direct")
    evaluate(data, runs, Source(lambda _spec, _queries: Served("direct")), save_runs=data / "runs", limit=1)
    evaluate(data, runs, Source(lambda _spec, _queries: asked), save_runs=data / "runs")
    assert asked.asked == ["q1", "q2"]


def test_a_kill_leaves_no_run_of_another_configuration(data: Path) -> None:
    def keyed(model: str, served: Served) -> Source:
        return Source(lambda _spec, _queries: served, lambda _spec, _queries: {"model": model})

    many(data)
    folder = data / "runs"
    evaluate(data, ["direct"], keyed("old", Served("direct")), save_runs=folder)
    with pytest.raises(SearchUnavailable):
        evaluate(data, ["direct"], keyed("new", Served("direct", dies_after=20)), save_runs=folder)
    assert [path.name for path in folder.iterdir()] == ["direct.jsonl"]
    evaluate(data, ["direct"], keyed("new", Served("direct")), save_runs=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["direct.jsonl", "direct.trec"]


def test_two_evaluations_do_not_write_into_one_folder(data: Path) -> None:
    folder = data / "runs"
    with (
        claimed_folder(folder, hint="wait"),
        pytest.raises(RunError, match=f"writing into the folder {folder}") as found,
    ):
        evaluate(data, ["direct"], Source(closed), save_runs=folder)
    assert found.value.hint == "wait for it, or save the runs elsewhere"
    evaluate(data, ["direct"], Source(lambda _spec, _queries: Served("direct")), save_runs=folder)


def test_a_limit_takes_the_first_queries_and_says_so(data: Path) -> None:
    result = evaluate(data, ["bm25"], limit=1)
    assert (result.card.num_queries, result.card.num_extra_judged) == (1, 0)
    assert result.card.notes == ("only the first 1 of 2 queries were taken (--limit)",)
    assert evaluate(data, ["bm25"], limit=2).card.notes == ()


def test_cutoffs_stand_for_the_standard_measures_and_deepen_the_runs(data: Path) -> None:
    depths: list[int] = []

    class Deep(Shop):
        def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
            depths.append(top_k)
            return super().retrieve(queries, top_k=top_k)

    result = evaluate(data, ["bm25"], Source(lambda spec, _queries: Deep(spec)), cutoffs=(10, 6000))
    assert set(depths) == {6000}
    assert result.card.measures == (
        *("ndcg@10", "hitrate@10", "precision@10", "map@10", "mrr@10", "success@10", "judged@10"),
        *("ndcg@6000", "hitrate@6000", "precision@6000", "map@6000", "mrr@6000", "success@6000", "judged@6000"),
    )
    assert any("bm25 holds at most 2 results a query: ndcg@10" in note for note in report.notes(result))


def test_violations_add_their_measure_and_their_checksum(data: Path) -> None:
    (data / "v.jsonl").write_text('{"qid": "q1", "ids": ["x"]}\n')
    result = evaluate(data, ["bm25", "vector"], violations=data / "v.jsonl")
    assert result.card.measures == ("mrr@10", "violation@10")
    assert [run.per_query["q1"]["violation@10"] for run in result.runs.values()] == [0.5, 0.5]
    assert "violation@10" not in result.runs["bm25"].per_query["q2"]
    assert "violations" in result.card.checksums
    given = {"violations": data / "v.jsonl", "measures": ["violation@1"]}
    assert evaluate(data, ["bm25"], **given).card.measures == ("violation@1",)
    with pytest.raises(InputError, match="violation@k needs to know which documents break"):
        evaluate(data, ["bm25"], Source(closed), measures=["violation@1"])
    (data / "v.jsonl").write_text('{"qid": "Q1", "ids": ["x"]}\n')
    with pytest.raises(InputError, match=r"none of the 2 queries that count has an entry .* 'q1', the violations 'Q1'"):
        evaluate(data, ["bm25"], Source(closed), violations=data / "v.jsonl")
