from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from lrem_os.errors import GenerationError, QueryError, RequestRejected, SearchUnavailable
from lrem_os.train.construct import judge as judges
from lrem_os.train.construct.endpoint import Endpoint, NoAnswer
from lrem_os.train.construct.judge import ANNOTATED, GRADED, EndpointJudge, parse_score
from lrem_os.train.construct.lines import QueryLine, read_queries
from lrem_os.train.construct.lrem import LremRecipe
from lrem_os.train.construct.run import Files, Run
from lrem_os.train.construct.teacher import Teacher
from lrem_os.train.data import read_training_queries
from tests.fakes.openai_server import FakeOpenAI, Fault, when
from tests.unit.train.construct.shop import TinyRetriever, item_text, process_all

Open = Callable[..., Endpoint]

KEYWORDS = {
    "la mer dupe": "La Mer, Winona, moisturiser, barrier cream, barrier creams",
    "lactose free latte": "oat milk, soy drink",
    "tote": "none",
    "blue canvas tote": "cotton",
}


def model(grades: Mapping[tuple[str, str], int]) -> Callable[[str, int], str]:
    """Return a teacher and a judge in one: keywords by the script, grades by query and first word of the product."""

    def write(text: str, _sample: int) -> str:
        query = re.search(r"Query: (.*)", text)
        assert query is not None
        if "Analysis:" in text:
            return KEYWORDS[query[1]]
        if product := re.search(r"Product:\n(\w+)", text):
            return f"Query first. <score>{grades.get((query[1], product[1]), 0)}</score>"
        return f"they want what goes with {query[1]}"

    return write


def recipe(endpoint: Endpoint, retriever: Any = None, **values: Any) -> LremRecipe:
    defaults = {"judge": EndpointJudge(endpoint), "item_text": item_text, "top_k": 3}
    return LremRecipe(Teacher(endpoint), retriever or TinyRetriever(), **(defaults | values))


def make(made: LremRecipe, tmp_path: Path, *queries: Any, name: str = "out") -> Any:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(query) + b"\n" for query in queries))
    return process_all(Run(read_queries(log), made.process, made.header), Files(tmp_path / f"{name}.jsonl"))


QUERIES = [{"qid": f"q{number}", "query": query, "type": "t"} for number, query in enumerate(KEYWORDS, 1)]


def test_from_queries_to_triples(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model({("la mer dupe", "Winona"): 2, ("lactose free latte", "Oat"): 1})
    rows, counts, failures = make(recipe(open_endpoint()), tmp_path, *QUERIES, {"qid": "q5"})
    assert rows == [
        # "La Mer" overlaps the query, "barrier creams" is there already: A3
        {
            "qid": "q1",
            "type": "t",
            "query": "la mer dupe",
            "cot": "Winona, moisturiser, barrier cream",
            "positives": {"p1": 2},
        },
        {
            "qid": "q2",
            "type": "t",
            "query": "lactose free latte",
            "cot": "oat milk, soy drink",
            "positives": {"p5": 1},
        },
    ]
    assert counts["reasoned"] == 3
    assert counts["no_keywords"] == 1  # "tote": nothing to add
    assert counts["no_difference"] == 1  # "blue canvas tote": cotton finds nothing new
    assert counts["written"] == 2
    assert counts["judged"] == counts["candidates"] > counts["relevant"] == 2
    assert [(row["line"], row["step"]) for row in failures] == [(5, "read")]
    [first, second] = read_training_queries(tmp_path / "out.jsonl")  # what the training reads
    assert (first.reasoning, first.positives) == ("Winona, moisturiser, barrier cream", {"p1": 2})
    assert second.negatives == ()


def test_both_prompts_are_asked_and_the_second_sees_the_first(
    server: FakeOpenAI, open_endpoint: Open, tmp_path: Path
) -> None:
    server.write = model({("la mer dupe", "Winona"): 2})
    retriever = TinyRetriever()
    make(recipe(open_endpoint(), retriever), tmp_path, QUERIES[0])
    a1, a2, *judged = [call.texts[0] for call in server.calls]
    assert "yoga pants" in a1  # the four types of queries
    assert "they want what goes with la mer dupe" in a2
    assert all("Query: la mer dupe\n" in text and "barrier cream)" not in text for text in judged)
    assert retriever.asked == ["la mer dupe", "la mer dupe (Winona, moisturiser, barrier cream)"]


def test_reasoning_that_came_along_needs_no_teacher_but_the_rules(tmp_path: Path) -> None:
    made = LremRecipe(Teacher(banned=("ceramides",)), TinyRetriever(), None, item_text, 3)
    line = {"qid": "q1", "query": "la mer dupe", "cot": "la mer, winona, Winona, with ceramides"}
    rows, counts, failures = make(made, tmp_path, line, {"qid": "q2", "query": "hat"})
    assert rows == [{"qid": "q1", "type": "", "query": "la mer dupe", "cot": "winona", "positives": {"p1": 1}}]
    assert [(row["qid"], row["query"], row["step"]) for row in failures] == [("q2", "hat", "teacher")]
    assert "judged" not in counts


def test_products_judged_not_relevant_are_kept_only_if_wanted(
    server: FakeOpenAI, open_endpoint: Open, tmp_path: Path
) -> None:
    server.write = model({("lactose free latte", "Oat"): 2})
    [without], _, _ = make(recipe(open_endpoint()), tmp_path, QUERIES[1], name="without")
    [with_them], _, _ = make(recipe(open_endpoint(), keep_negatives=True), tmp_path, QUERIES[1], name="with")
    assert without["positives"] == with_them["positives"] == {"p5": 2}
    assert "violates" not in without
    assert set(with_them["violates"]) == {"p6", "p7"}


def test_a_query_without_anything_relevant_is_dropped(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model({})
    rows, counts, failures = make(recipe(open_endpoint()), tmp_path, QUERIES[0])
    assert (rows, failures, counts["no_relevant"]) == ([], [], 1)


def test_a_query_the_teacher_fails_on_is_named(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model({("lactose free latte", "Oat"): 2})
    server.fault = when("Query: la mer", Fault(400, message="this was too much"))
    rows, counts, failures = make(recipe(open_endpoint()), tmp_path, *QUERIES[:2])
    assert [row["qid"] for row in rows] == ["q2"]
    assert counts["failed"] == 1
    [failure] = failures
    assert (failure["qid"], failure["step"]) == ("q1", "teacher")
    assert "this was too much" in failure["error"]


def test_a_grade_that_is_missing_spoils_its_product_alone(
    server: FakeOpenAI, open_endpoint: Open, tmp_path: Path
) -> None:
    script = model({("lactose free latte", "Oat"): 2})
    server.write = lambda text, sample: "I cannot say" if "Product:\nSoy" in text else script(text, sample)
    only_soy = {"qid": "q9", "query": "hat", "cot": "soy"}
    [row], counts, failures = make(recipe(open_endpoint()), tmp_path, QUERIES[1], only_soy)
    assert (row["qid"], row["positives"]) == ("q2", {"p5": 2})
    assert (counts["judged"], counts["judge_failed"]) == (2, 2)
    assert counts["failed"] == 1  # q9, of which nothing is left
    assert [(failure["qid"], failure["error"][:7]) for failure in failures] == [("q2", "1 of 3 "), ("q9", "1 of 1 ")]


def test_a_query_that_cannot_be_searched_does_not_spoil_its_window(
    server: FakeOpenAI, open_endpoint: Open, tmp_path: Path
) -> None:
    server.write = model({("lactose free latte", "Oat"): 2})

    def refuse(text: str) -> Exception | None:
        return RequestRejected("too many clauses") if "la mer" in text else None

    rows, _, failures = make(recipe(open_endpoint(), TinyRetriever(refuse=refuse)), tmp_path, *QUERIES[:2])
    assert [row["qid"] for row in rows] == ["q2"]
    assert [(row["qid"], row["step"], row["error"]) for row in failures] == [("q1", "retrieve", "too many clauses")]


def test_a_cluster_that_is_gone_ends_the_run(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model({})
    gone = TinyRetriever(refuse=lambda _text: SearchUnavailable("no connection"))
    with pytest.raises(SearchUnavailable):
        make(recipe(open_endpoint(), gone), tmp_path, *QUERIES[:2])
    num_asked = len(server.calls)
    make(recipe(open_endpoint()), tmp_path, *QUERIES[:2])  # and the teacher is not asked again
    assert not any("Analysis:" in call.texts[0] for call in server.calls[num_asked:])


def test_other_prompts_or_models_are_another_run(server: FakeOpenAI, open_endpoint: Open) -> None:
    one, two = recipe(open_endpoint()).header, recipe(open_endpoint(model="other")).header
    assert one["teacher"]["prompts"] == ["lrem-reason-1", "lrem-extract-1"]
    assert one["judge"]["prompts"] == ["relevance-1"]
    assert one != two
    assert recipe(open_endpoint(), judge=None).header["judge"] == {"model": "none: unjudged"}


@pytest.mark.parametrize("text", ["none at all", "<score>3</score>", "<score>x</score>", "score: 2"])
def test_a_score_off_the_scale_is_none(text: str) -> None:
    with pytest.raises(NoAnswer):
        parse_score(text, GRADED)


def test_the_scale_of_the_remixer() -> None:
    assert {score: ANNOTATED.grades[score] for score in range(1, 6)} == {1: 0, 2: 0, 3: 1, 4: 2, 5: 2}
    assert parse_score("<SCORE> 5 </SCORE>", ANNOTATED) == 5


def test_a_long_product_is_cut_for_the_judge(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model({})
    retriever = TinyRetriever({"p1": "Winona " + "cream " * 5000})
    make(recipe(open_endpoint(), retriever), tmp_path, QUERIES[0])
    judged = [call.texts[0] for call in server.calls if "Product:" in call.texts[0]]
    assert judged
    assert all(len(text) < judges.MAX_ITEM_CHARS + 1000 for text in judged)


def test_queries_of_another_error_are_named_too(tmp_path: Path) -> None:
    made = LremRecipe(
        Teacher(), TinyRetriever(refuse=lambda text: QueryError("blank") if "hat" in text else None), None, item_text, 3
    )
    lines = [QueryLine("a", "hat", "", "wool", 1), QueryLine("b", "la mer dupe", "", "winona", 2)]
    rows, _, failures = process_all(Run(lines, made.process, made.header), Files(tmp_path / "o.jsonl"))
    assert [row["qid"] for row in rows] == ["b"]
    assert [row["error"] for row in failures] == ["blank"]


def test_nothing_at_all_works(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.fault = lambda _call: Fault(500)
    with pytest.raises(GenerationError, match="all of the first 2 inputs failed"):
        make(recipe(open_endpoint()), tmp_path, *QUERIES[:2])
