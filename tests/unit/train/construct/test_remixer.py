from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import ConfigError
from lrem_os.train.construct.endpoint import Endpoint
from lrem_os.train.construct.judge import ANNOTATED, EndpointJudge
from lrem_os.train.construct.lines import Unusable
from lrem_os.train.construct.remixer import RemixRecipe, draw_wish, fitting, query_messages
from lrem_os.train.construct.run import Files, Run
from lrem_os.train.construct.settings import RemixSettings, read_settings
from lrem_os.train.data import read_training_queries
from tests.fakes.openai_server import FakeOpenAI, Fault, when
from tests.unit.train.construct.shop import TinyRetriever, document, item_text, process_all

Open = Callable[..., Endpoint]
SETTINGS = RemixSettings(types={"qa": "Write a question."}, min_chars=1)

WRITTEN = {
    "Oat": '"drink without milk\nfrom cows"',
    "Red": "leather handbag",
    "Winona": "sea",
    "Soy": "vegan drink not milk",
}
SCORES = {
    ("drink without milk from cows", "Soy"): 5,
    ("drink without milk from cows", "Whole"): 1,
    ("leather handbag", "Blue"): 3,
    ("vegan drink not milk", "Oat"): 4,
}


def model(text: str, _sample: int) -> str:
    product = re.search(r"(?:Product:|a shop:)\s+(\w+)", text)
    assert product is not None
    if "Here is a product of a shop" in text:
        return WRITTEN[product[1]]
    query = re.search(r"Query:\n(.*)\n", text)
    assert query is not None
    return f"Analysis. <score>{SCORES.get((query[1], product[1]), 2)}</score>"


def make(endpoint: Endpoint, files: Files, *items: Any, settings: RemixSettings = SETTINGS) -> Any:
    recipe = RemixRecipe(endpoint, TinyRetriever(), EndpointJudge(endpoint, ANNOTATED), item_text, settings)
    return process_all(Run(fitting(items, settings), recipe.process, recipe.header), files)


def test_from_items_to_annotated_queries(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model
    files = Files(tmp_path / "remix.jsonl")
    items = [document(doc_id, line=line) for line, doc_id in enumerate(("p5", "p3", "p1", "p6"), 1)]
    rows, counts, failures = make(open_endpoint(), files, *items)
    by_id = {row["qid"]: row for row in rows}
    oat = by_id["remix-p5"]
    assert (oat["query"], oat["type"]) == ("drink without milk from cows", "qa")  # quotes and line breaks are gone
    assert oat["positives"] == {"p6": 2}
    assert "p7" in oat["violates"]
    assert "p5" not in {*oat["positives"], *oat["violates"]}  # its own source is never an answer
    assert by_id["remix-p6"]["positives"] == {"p5": 2}
    # "leather handbag" finds p4 alone beside its source: nothing negative; "sea" finds nothing
    assert set(by_id) == {"remix-p5", "remix-p6"}
    assert (counts["no_negative"], counts["no_positive"], counts["queries"], counts["written"]) == (1, 1, 4, 2)
    assert failures == []
    assert read_training_queries(files.out)[0].negatives == tuple(oat["violates"])


def test_only_so_many_candidates(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model
    settings = SETTINGS.model_copy(update={"candidates": 1})
    _, counts, _ = make(open_endpoint(), Files(tmp_path / "r.jsonl"), document("p5"), settings=settings)
    assert counts["candidates"] == 1


def test_what_fails_is_named(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = model
    server.fault = when("Red leather", Fault(400, message="no bags"))
    _, counts, failures = make(
        open_endpoint(), Files(tmp_path / "r.jsonl"), document("p5"), document("p3", line=2), Unusable(3, "broken", "x")
    )
    assert (counts["failed"], counts["unusable"]) == (1, 1)
    assert {(row["line"], row["qid"], row["step"]) for row in failures} == {(2, "remix-p3", "query"), (3, "", "read")}


def test_a_query_that_was_cut_is_no_query(server: FakeOpenAI, open_endpoint: Open, tmp_path: Path) -> None:
    server.write = lambda text, sample: "word " * 300 if "p3" in text else model(text, sample)
    items = [document("p5"), document("p3", "p3 is long", 2)]
    _, counts, failures = make(open_endpoint(max_tokens=100), Files(tmp_path / "r.jsonl"), *items)
    assert counts["failed"] == 1
    assert "raise the limit of tokens" in failures[0]["error"]


def test_the_draw_follows_the_papers_weights_and_the_id_alone() -> None:
    settings = RemixSettings()
    wishes = [draw_wish(f"d{number}", settings) for number in range(4000)]
    assert wishes[:10] == [draw_wish(f"d{number}", settings) for number in range(10)]
    lengths, education = (Counter(getattr(wish, name) for wish in wishes) for name in ("length", "education"))
    for drawn, weights in ((lengths, settings.lengths), (education, settings.education)):
        for name, weight in weights.items():
            assert drawn[name] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.03)
    assert settings.lengths == {
        "less than 100": 1,
        "100 to 200": 2,
        "200 to 300": 3,
        "300 to 400": 3,
        "400 to 500": 2,
        "at least 500": 1,
    }
    assert settings.education == {"high school": 1, "college": 2, "phd": 2}
    assert len({draw_wish("d1", RemixSettings(seed=seed)) for seed in range(20)}) > 1


def test_items_too_short_and_too_long_are_left_out() -> None:
    settings = RemixSettings(min_chars=10, max_chars=20)
    found = list(fitting([document("a", "x" * size, size) for size in (9, 10, 20, 21)], settings))
    assert [isinstance(one, Unusable) for one in found] == [True, False, False, True]


def test_braces_in_a_product_are_only_braces() -> None:
    [message] = query_messages(document("a", "a {length} of {rope}"), SETTINGS)
    assert "a {length} of {rope}" in message["content"]
    assert "Write a question." in message["content"]


def test_settings_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "remix.yaml"
    path.write_text("lengths: {3 to 8: 1}\ncandidates: 20\n")
    assert read_settings(path, RemixSettings).lengths == {"3 to 8": 1}
    assert read_settings(None, RemixSettings) == RemixSettings()
    for text, reason in (
        ("candidate: 1", "candidate"),
        ("education: {phd: -1}", "education.phd"),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            read_settings(path, RemixSettings)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path / "absent", RemixSettings)


@pytest.mark.parametrize("field", ["lengths", "education", "types"])
def test_weights_that_draw_nothing_are_refused(field: str) -> None:
    for value in ({}, {"a": 0}) if field != "types" else ({},):
        with pytest.raises(ValueError, match=field):
            RemixSettings(**{field: value})
