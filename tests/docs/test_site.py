"""The documentation site builds without a warning, every link in it leads somewhere, its figures can be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from tests.fakes.scripts import load_script

ROOT = Path(__file__).parents[2]
FIGURES: ModuleType = load_script("scripts/figures.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI and readers build it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Links(HTMLParser):
    """The links, sources and anchors of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag in ("a", "link") and (link := values.get("href")):
            self.links.append(link)
        if source := values.get("src"):
            self.links.append(source)
        if tag in ("script", "img", "link") and (source := values.get("src") or values.get("href")):
            self.loaded.append(source)


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    # reports/ holds pages of their own, with a test of their own; 404.html is served at any address
    built = [page for page in site.rglob("*.html") if "reports" not in page.parts and page.name != "404.html"]
    pages = {page: Links(page) for page in built}
    assert len(pages) > 30
    wrong = []
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                wrong.append(f"{page.relative_to(site)}: {link}")
    assert wrong == []


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = {source for page in site.rglob("*.html") if "reports" not in page.parts for source in Links(page).loaded}
    assert [source for source in loaded if urlsplit(source).netloc] == []


def test_the_python_reference_has_signatures(site: Path) -> None:
    page = (site / "python" / "index.html").read_text("utf-8")
    for name in ("load_settings", "ingest_catalog", "search", "open_retriever", "load_embedder", "evaluate"):
        assert re.search(rf'id="[\w.]+\.{name}"', page), name


def test_every_figure_is_drawn_anew_and_shown() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert {path.stem for path in FIGURES.FIGURES.glob("*.svg")} == set(FIGURES.ALL)
    for name, draw in FIGURES.ALL.items():
        assert (FIGURES.FIGURES / f"{name}.svg").read_text("utf-8") == draw(), "run scripts/figures.py"
        assert f"figures/{name}.svg)" in pages


@pytest.mark.parametrize("name", FIGURES.ALL)
def test_a_figure_keeps_its_texts_inside(name: str) -> None:
    root = ElementTree.fromstring(FIGURES.ALL[name]())
    width, height = map(int, root.attrib["viewBox"].split()[2:])
    boxes = [
        tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
        if "edge" in box.attrib.get("class", "")
    ]
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, wide = float(text.attrib["x"]), float(text.attrib["y"]), len(text.text or "") * FIGURES.CHARACTER
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.attrib["text-anchor"]]
        assert left >= 0, text.text
        assert left + wide <= width, text.text
        assert 10 <= y <= height - 4, text.text
        around = [box for box in boxes if box[0] < x < box[0] + box[2] and box[1] < y < box[1] + box[3]]
        assert all(box[0] <= left and left + wide <= box[0] + box[2] for box in around), text.text


@pytest.mark.parametrize("colours", [FIGURES.LIGHT, FIGURES.DARK])
@pytest.mark.parametrize("ink", ["ink", "soft", "first", "second"])
@pytest.mark.parametrize("ground", ["ground", "box", "ours", "warm"])
def test_texts_stand_out_from_their_ground(colours: dict[str, str], ink: str, ground: str) -> None:
    if ink in ("first", "second") and ground != "ground":
        return  # these stand beside curves alone
    light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def luminance(colour: str) -> float:
    """Return the relative luminance as WCAG 2 has it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
