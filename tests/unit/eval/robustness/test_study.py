from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lrem_os.errors import RunError, SearchUnavailable
from lrem_os.eval.measures import parse_measure
from lrem_os.eval.robustness import tables
from lrem_os.eval.robustness.perturb import MISSPELLING, ORDER
from lrem_os.eval.robustness.study import Asker, Kept, Plan, Study, run_study, study_dict
from lrem_os.types import Hit, Query, Ranking, Trace

QUERIES = [Query("q1", "red running shoes"), Query("q2", "portable camping stove"), Query("q3", "sofa")]
QRELS = {"q1": {"shoes": 2}, "q2": {"stove": 1}, "q3": {"sofa": 1}}
NOUNS = ("shoes", "stove", "sofa")


class Exact:
    """Finds a product when the query holds its very name; goes the way of its first letter."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._fail_after = fail_after

    def retrieve(self, queries: Sequence[Query], *, top_k: int) -> list[Ranking]:
        if self._fail_after is not None and len(self.asked) >= self._fail_after:
            raise SearchUnavailable("gone")
        self.asked += [query.text for query in queries]
        return [self._answer(query.text.split()) for query in queries]

    def _answer(self, words: Sequence[str]) -> Ranking:
        found = [noun for noun in NOUNS if noun in words]
        return Ranking(tuple(Hit(noun, 1.0) for noun in found), trace=Trace("reasoned" if words[0] < "q" else "direct"))


class Deaf(Exact):
    """Finds nothing, whatever is asked."""

    def _answer(self, words: Sequence[str]) -> Ranking:
        return Ranking(())


PLAN = Plan(
    {"misspelling": lambda _queries, _seed: MISSPELLING, "order": lambda _queries, _seed: ORDER},
    parse_measure("ndcg@10"),
    seeds=(5, 27),
    resamples=200,
)


def study(retrievers: Mapping[str, Exact], kept: Kept | None = None, plan: Plan = PLAN) -> Study:
    return run_study(
        tuple(retrievers),
        QUERIES,
        QRELS,
        plan,
        open_retriever=lambda name: retrievers[name],
        kept=kept or Kept(),
    )


def test_every_variant_is_asked_once_and_the_losses_add_up() -> None:
    exact = Exact()
    found = study({"exact": exact})
    assert len(exact.asked) == 3 * (1 + 2 * 2)
    assert exact.asked[:3] == [query.text for query in QUERIES]
    misspelt = found.families["misspelling"]
    lost = [
        sum(noun not in text.split() for text, noun in zip(exact.asked[first : first + 3], NOUNS, strict=True)) / 3
        for first in (3, 6)
    ]
    assert misspelt.runs["exact"].clean == 1
    assert misspelt.runs["exact"].drop_rate == pytest.approx(sum(lost) / 2)
    assert misspelt.changed == 1
    assert sum(misspelt.ways.values()) == 6
    order = found.families["order"]
    assert order.runs["exact"].drop_rate == 0
    assert order.changed == pytest.approx(2 / 3)  # one word has no order
    assert order.worst["exact"] == []


def test_the_queries_that_lost_most_are_shown_as_they_were_asked() -> None:
    found = study({"exact": Exact()}).families["misspelling"].worst["exact"]
    for row in found:
        assert row["clean"] == 1
        assert row["perturbed"] == 0
        assert row["asked"] != row["query"]
        assert row["seed"] in (5, 27)
    assert found


def test_a_route_changes_where_the_first_letter_does() -> None:
    found = study({"exact": Exact(), "deaf": Deaf()})
    assert found.families["order"].routes["deaf"] == (0, 0)
    value = study_dict(found)
    changed, known = found.families["order"].routes["exact"]
    assert known == 6
    assert value["routes"]["order"] == {"exact": changed / 6}
    assert value["route_changes"]["order"] == changed / 6
    assert value["families"]["order"]["deaf"]["clean"] == 0


def test_one_route_cannot_change() -> None:
    value = study_dict(study({"deaf": Deaf()}))
    assert value["route_changes"] == {}
    assert value["routes"] == {"misspelling": {}, "order": {}}


def test_a_study_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path, key=lambda _name: {"index": "v1"})
    broken = Exact(fail_after=9)
    with pytest.raises(SearchUnavailable):
        study({"exact": broken}, kept)
    assert len(broken.asked) == 9
    rest = Exact()
    found = study({"exact": rest}, kept)
    assert len(rest.asked) == 15 - 9
    assert study_dict(found) == study_dict(study({"exact": Exact()}))
    nobody = Exact(fail_after=0)
    assert study_dict(study({"exact": nobody}, kept)) == study_dict(found)  # all is there: nobody is asked


def test_answers_of_another_index_or_depth_or_none_are_asked_again(tmp_path: Path) -> None:
    study({"exact": Exact()}, Kept(tmp_path, key=lambda _name: {"index": "v1"}))
    for kept, plan in (
        (Kept(tmp_path, key=lambda _name: {"index": "v2"}), PLAN),
        (Kept(tmp_path, key=lambda _name: {"index": "v2"}, fresh=True), PLAN),
        (Kept(tmp_path, key=lambda _name: {"index": "v2"}), replace(PLAN, measure=parse_measure("ndcg@5"))),
    ):
        again = Exact()
        study({"exact": again}, kept, plan)
        assert len(again.asked) == 15


def test_progress_counts_up_to_all_queries_of_a_run() -> None:
    told: list[tuple[str, int, int]] = []
    run_study(
        ("exact",),
        QUERIES,
        QRELS,
        PLAN,
        open_retriever=lambda _name: Exact(),
        kept=Kept(),
        on_progress=lambda *step: told.append(step),
    )
    assert [done for _, done, _ in told] == [3, 6, 9, 12, 15]
    assert {total for *_, total in told} == {15}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asker = Asker("exact", lambda _name: Exact(), Kept(tmp_path / "file" / "x"), top_k=10, total=3, on_progress=None)
    with pytest.raises(RunError, match="cannot make the folder"):
        asker.ask("clean", QUERIES)


def test_a_redacted_study_names_no_query() -> None:
    value = study_dict(study({"exact": Exact()}), redact=True)
    assert "worst" in value
    assert "camping" not in str(value)
    assert "q1" not in str(value)


def test_tables_and_markdown() -> None:
    value = study_dict(study({"exact": Exact(), "deaf": Deaf()}))
    value["poisoning"] = {
        "injected": 10,
        "attack_success": {"exact": {"@5": 0.5, "@10": 0.5}, "deaf": {"@5": 0.0, "@10": 0.0}},
        "by_kind": {"copied": {"exact": {"@5": 0.25, "@10": 0.5}}},
    }
    drops, routes, attacks = tables.tables(value)
    assert drops.columns == ("family", "exact", "deaf")
    assert drops.rows[0] == ("clean", "1.000", "0.000")
    assert drops.rows[2] == ("order", "0.0 ± 0.0 % [0.0, 0.0]", "–")
    assert routes.columns == ("family", "exact")
    assert attacks.rows[0] == ("all", "@5", "50.0%", "0.0%")
    assert attacks.rows[2] == ("copied", "@5", "25.0%", "–")
    text = tables.to_markdown(value)
    assert "| misspelling |" in text
    assert "### Greatest losses" in text
    assert "order: 67% of the queries were changed (exchange 4); the others count as they are" in text
    only = tables.to_markdown({"families": {}, "poisoning": value["poisoning"], "notes": ["live: not attacked"]})
    assert "drop" not in only
    assert only.rstrip().endswith("- live: not attacked")
