"""The judging page in a real browser: five queries judged with the keyboard, taken back, resumed, exported, scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrem_os.config import Settings
from lrem_os.side_by_side import make_sheet, score_sheets
from tests.fakes.browser import Page
from tests.fakes.eval_report import SCRIPT

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
JUDGING = "!document.getElementById('judging').hidden"
LEFT = "[...document.querySelectorAll('#left .title')].map((one) => one.textContent)"
PLACE = "document.getElementById('place').textContent"


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Six queries, of which both runs answer one alike; old-run finds what is called bad, new-run what is good."""
    queries, old, new, products = [], [], [], []
    for idx in range(6):
        queries.append({"qid": f"q{idx}", "query": f"query {idx} {SCRIPT}", "type": "even" if idx % 2 == 0 else "odd"})
        for side, lines in (("bad", old), ("good", new)):
            side = "good" if idx == 5 else side
            lines.append(f"q{idx} Q0 {side}{idx} 1 9 x\n")
        for side in ("bad", "good"):
            products.append(
                {"id": f"{side}{idx}", "title": f"{side} product {idx}{SCRIPT}", "brand": "Acme", "price": 9.5}
            )
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in products))
    (tmp_path / "old-run.trec").write_text("".join(old))
    (tmp_path / "new-run.trec").write_text("".join(new))
    made = make_sheet(
        Settings(),
        runs=[str(tmp_path / "old-run.trec"), str(tmp_path / "new-run.trec")],
        queries=tmp_path / "q.jsonl",
        catalog=tmp_path / "catalog.jsonl",
        out=tmp_path / "sheet.html",
    )
    assert (made.num_pairs, made.num_same, made.num_unknown) == (5, 1, 0)
    return made.page


def begin(page: Page, sheet: Path, judge: str, **options: int | str) -> None:
    page.open(sheet, **options)  # type: ignore[arg-type]
    page.js("document.getElementById('judge').value = ''")
    for key in judge:
        page.press(key)
    page.press("Enter")
    page.until(JUDGING)


def vote_for(page: Page, word: str) -> None:
    page.press("1" if page.js(LEFT)[0].startswith(word) else "3")


def exported(page: Page, folder: Path, count: int) -> list[Path]:
    """Export with the key and return what was downloaded so far."""
    page.press("e")
    for _ in range(1000):
        found = sorted(folder.glob("*.json"))
        if len(found) == count:
            return found
        page.js("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError(f"{list(folder.iterdir())} are not {count} files")


def test_judging_by_keyboard_from_start_to_score(page: Page, sheet: Path, tmp_path: Path) -> None:
    begin(page, sheet, "Ann")
    assert page.js(PLACE) == "1 of 5"
    assert page.js("document.querySelector('#left .facts').textContent") == "Acme · price 9.5"
    for _ in range(3):
        vote_for(page, "good")
    page.press("2")
    assert page.js(PLACE) == "5 of 5"
    page.press("u")
    assert page.js(PLACE) == "4 of 5"
    vote_for(page, "bad")
    page.press("0")
    page.until("!document.getElementById('done').hidden")
    assert page.js("document.getElementById('tally').textContent") == "5 queries: 4 decided, 1 without a decision."
    (file,) = exported(page, tmp_path / "downloads", 1)
    score = score_sheets([file], key=tmp_path / "sheet.key.json")
    assert score.runs == ("old-run", "new-run")
    assert (score.overall.good, score.overall.same, score.overall.bad) == (3, 0, 1)
    assert score.overall.gsb == pytest.approx(2 / (4 + 4 / 5))  # the query answered alike weighs what the five shown do
    assert (score.judges, score.skipped, score.unjudged) == ({"Ann": 4}, 1, 1)
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "blob:"))] == []


def test_a_closed_page_goes_on_where_it_was(page: Page, sheet: Path, tmp_path: Path) -> None:
    begin(page, sheet, "Ann")
    page.press("1")
    page.press("3")
    page.open(sheet)
    assert "2 decisions of Ann" in page.js("document.getElementById('kept').textContent")
    page.press("Enter")
    page.until(JUDGING)
    assert page.js(PLACE) == "3 of 5"
    begin(page, sheet, "Ben")  # another judge begins anew
    assert page.js(PLACE) == "1 of 5"
    begin(page, sheet, "Ann")
    assert page.js(PLACE) == "3 of 5"


def test_two_judges_agree(page: Page, sheet: Path, tmp_path: Path) -> None:
    for count, judge in enumerate(("Ann", "Ben"), 1):
        begin(page, sheet, judge)
        for word in ("good", "good", "bad", "good", "good"):
            vote_for(page, word)
        files = exported(page, tmp_path / "downloads", count)
    score = score_sheets(files, key=tmp_path / "sheet.key.json")
    assert score.agreement == 1.0
    assert (score.overall.good, score.overall.same, score.overall.bad) == (8, 0, 2)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_is_blind_and_fits(page: Page, sheet: Path, width: int, scheme: str) -> None:
    begin(page, sheet, "Ann", width=width, scheme=scheme)
    assert page.js(OVERFLOW) == 0
    everything = page.js("document.documentElement.outerHTML")
    assert "old-run" not in everything
    assert "new-run" not in everything
    assert page.js("document.querySelectorAll('script').length") == 2
    assert SCRIPT in page.js("document.getElementById('query').textContent")
    sides = {page.js(LEFT)[0].split()[0]}
    for _ in range(4):
        page.press("2")
        sides.add(page.js(LEFT)[0].split()[0])
    assert sides == {"good", "bad"}  # no run has a side of its own
    assert page.complaints == []
