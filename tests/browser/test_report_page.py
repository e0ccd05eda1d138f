"""The report page in a real browser: with the network off, in both colour schemes, on a screen and on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.eval.html.render import render_report
from tests.fakes.browser import Page
from tests.fakes.eval_report import SCRIPT, eval_report

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHOWN = "[...document.querySelectorAll('#movers tbody tr')].filter((row) => row.checkVisibility())"

# Colours of every piece of text and of what stands behind it, as WCAG 2.2 computes their contrast (SC 1.4.3).
LOW_CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const rgb = parse(getComputedStyle(at).backgroundColor);
      if (rgb.length < 4 || rgb[3] > 0.99) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("option, script")) continue;
    const [one, two] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${node.className}: ${walker.currentNode.textContent.trim()}`);
  }
  return low;
})()"""


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(render_report(eval_report()), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_and_asks_nothing_of_a_network(page: Page, report_file: Path, scheme: str, width: int) -> None:
    page.open(report_file, width=width, scheme=scheme)
    assert page.js(OVERFLOW) == 0
    assert page.complaints == []
    assert page.requests == [report_file.resolve().as_uri()]
    assert page.js("document.querySelector('h1').innerText") == "bm25 · direct · reasoned · routed@30%"
    for name in ("summary", "slices", "deltas", "moved", "curve", "latency", "robustness", "card"):
        height = page.js(f"document.getElementById('{name}').getBoundingClientRect().height")
        assert height > 100, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Page, report_file: Path, scheme: str) -> None:
    page.open(report_file, scheme=scheme)
    assert page.js(LOW_CONTRAST) == []


def test_the_two_schemes_are_two(page: Page, report_file: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.open(report_file, scheme=scheme)
        grounds.append(page.js("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]


def test_the_table_sorts_by_keyboard(page: Page, report_file: Path) -> None:
    page.open(report_file)
    head = "document.querySelector('#movers th:nth-child(2)')"
    values = f"{SHOWN}.map((row) => parseFloat(row.cells[1].dataset.value))"
    page.js(f"{head}.querySelector('button').focus()")
    page.press("Enter")
    falling = page.js(values)
    assert page.js(f"{head}.getAttribute('aria-sort')") == "descending"
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > 0 > falling[-1]
    page.press("Enter")
    assert page.js(values) == sorted(falling)
    assert page.js(f"{head}.getAttribute('aria-sort')") == "ascending"


def test_the_table_filters_and_says_how_much_is_left(page: Page, report_file: Path) -> None:
    page.open(report_file)
    assert page.js("document.getElementById('shown').textContent") == "60 of 60"
    page.js("document.getElementById('find').focus()")
    for key in "soup":
        page.press(key)
    texts = page.js(f"{SHOWN}.map((row) => row.cells[0].textContent)")
    assert texts
    assert all("soup" in text for text in texts)
    assert page.js("document.getElementById('shown').textContent") == f"{len(texts)} of 60"
    only = "document.getElementById('only-run')"
    page.js(f"{only}.value = '2', {only}.dispatchEvent(new Event('input'))")
    assert set(page.js(f"{SHOWN}.map((row) => row.cells[4].innerText)")) == {"reasoned"}


def test_another_measure_is_shown_where_it_is_chosen(page: Page, report_file: Path) -> None:
    page.open(report_file)
    shown = "[...document.querySelectorAll('#slices caption')].filter((one) => one.checkVisibility())"
    captions = f"{shown}.map((one) => one.innerText)"
    assert page.js(captions) == ["By query type: ndcg@10", "By route: ndcg@10"]
    page.js("document.getElementById('m1').focus()")
    page.js("document.getElementById('m1').click()")
    assert page.js(captions) == ["By query type: hitrate@10", "By route: hitrate@10"]
    assert set(page.js(f"{SHOWN}.map((row) => row.dataset.m)")) == {"1"}


def test_it_says_everything_without_scripts(page: Page, report_file: Path) -> None:
    page.open(report_file, script=False)
    page.call("Emulation.setScriptExecutionDisabled", value=False)  # for the questions, not for the page
    assert page.js("document.getElementById('tools').hidden") is True
    assert page.js(f"{SHOWN}.length") == 60
    assert "0.434" in page.js("document.getElementById('summary').innerText")


def test_what_comes_from_outside_stays_text(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(render_report(eval_report(hostile=SCRIPT)), encoding="utf-8")
    page.open(file)
    assert "owned" not in page.js("document.title").replace(SCRIPT, "")
    assert page.js("document.querySelectorAll('script').length") == 1
    assert SCRIPT in page.js("document.getElementById('movers').textContent")
    assert SCRIPT in page.js("document.querySelector('h1').textContent")
    assert page.complaints == []
    assert page.js(OVERFLOW) == 0


def test_a_script_that_gets_in_is_not_run(page: Page, report_file: Path) -> None:
    text = report_file.read_text(encoding="utf-8")
    report_file.write_text(
        text.replace("</main>", f"{SCRIPT}<img src=x onerror=\"document.title='owned'\"></main>"), encoding="utf-8"
    )
    page.open(report_file)
    assert page.js("document.title") == "Evaluation of bm25, direct, reasoned, routed@30%"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_one_run_alone_makes_a_page(page: Page, tmp_path: Path) -> None:
    report = eval_report(("bm25",), baseline=None, measures=("ndcg@10",), num_queries=1)
    report |= {"curve": None, "robustness": None}
    report["runs"]["bm25"] |= {"cost": None, "traces": {}, "weighted": {}}
    file = tmp_path / "small.html"
    file.write_text(render_report(report), encoding="utf-8")
    page.open(file, width=400)
    assert page.complaints == []
    assert page.js(OVERFLOW) == 0
    assert page.js("[...document.querySelectorAll('section')].map((one) => one.id)") == ["summary", "slices", "card"]
