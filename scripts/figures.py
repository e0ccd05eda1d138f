"""Draw the figures of docs/concepts.md: ``python scripts/figures.py`` writes docs/figures/*.svg.

Boxes, arrows and words, placed by hand; one chart, from the committed result of a benchmark. Every figure has a ground
of its own and follows the reader's colour scheme, so it can be read on a light page and on a dark one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
SHARES = (0, 10, 20, 30, 50)  # per cent, on the axis of the budget
CHARACTER = 6.9  # pixels of the mean character at 13 px; a test holds texts to their boxes with it
LIGHT = {"ground": "#f6f8fa", "ink": "#1f2328", "soft": "#57606a", "line": "#6e7781", "box": "#ffffff"} | {
    "ours": "#ddf4ff",
    "warm": "#fff1d6",
    "first": "#0757ba",
    "second": "#a33c00",
}
DARK = {"ground": "#161b22", "ink": "#e6edf3", "soft": "#9ea7b3", "line": "#8b949e", "box": "#21262d"} | {
    "ours": "#12324f",
    "warm": "#4a3413",
    "first": "#79b8ff",
    "second": "#ffa657",
}


@dataclass(frozen=True, slots=True)
class Box:
    """A box with centred lines of text; the first is bold. ``kind`` is one of box, ours and warm."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    kind: str = "box"

    def svg(self) -> str:
        """Return it drawn."""
        top = self.y + self.height / 2 - 9 * (len(self.lines) - 1) + 4.5
        texts = "".join(
            words(self.x + self.width // 2, round(top + 18 * number), line, "strong" if number == 0 else "")
            for number, line in enumerate(self.lines)
        )
        shape = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8"'
        return f'<rect class="{self.kind} edge" {shape}/>{texts}'


def words(x: int, y: int, text: str, style: str = "", anchor: str = "middle") -> str:
    """Return a line of text."""
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def arrow(*points: tuple[int, int], dashed: bool = False) -> str:
    """Return a line through the points, with a head at the last."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="arrow{" dashed" if dashed else ""}" points="{path}" marker-end="url(#head)"/>'


def figure(width: int, height: int, title: str, *parts: str) -> str:
    """Return a whole SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style(LIGHT)}\n"
        f"@media (prefers-color-scheme: dark) {{\n{_style(DARK)}\n}}\n"
        "text { font: 13px Helvetica, Arial, sans-serif; }\n.strong { font-weight: bold; }\n"
        ".small { font-size: 12px; }\n"
        ".arrow, .curve { fill: none; stroke-width: 1.6; }\n.dashed { stroke-dasharray: 5 4; }\n"
        ".curve { stroke-width: 2.4; }\n"
        "</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>\n'
        f'<rect class="ground" width="{width}" height="{height}" rx="12"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _style(colours: dict[str, str]) -> str:
    c = colours
    return "\n".join(
        [
            *(f".{name} {{ fill: {c[name]}; }}" for name in ("ground", "box", "ours", "warm")),
            f"text {{ fill: {c['ink']}; }} .soft {{ fill: {c['soft']}; }} .tip {{ fill: {c['line']}; }}",
            f".edge, .arrow, .axis {{ stroke: {c['line']}; }}",
            *(f".{name} {{ stroke: {c[name]}; }} .of-{name} {{ fill: {c[name]}; }}" for name in ("first", "second")),
        ]
    )


def reasoning() -> str:
    """Draw reasoning-then-embedding."""
    return figure(
        *(820, 300, "A query is embedded alone, and again together with the keywords of a reasoning"),
        Box(10, 120, 215, 60, ("query", "what do I put under a hot pot")).svg(),
        Box(260, 30, 170, 60, ("embedder", "query alone"), "ours").svg(),
        Box(260, 210, 170, 60, ("reasoner", "a small language model"), "warm").svg(),
        Box(480, 210, 150, 60, ("keywords", "trivet, pot stand")).svg(),
        Box(480, 120, 150, 60, ("embedder", "query + keywords"), "ours").svg(),
        Box(680, 75, 120, 60, ("vector", "weighted mean")).svg(),
        arrow((225, 140), (242, 140), (242, 60), (260, 60)),
        arrow((225, 160), (242, 160), (242, 240), (260, 240)),
        arrow((430, 240), (480, 240)),
        arrow((555, 210), (555, 180)),
        arrow((430, 60), (740, 60), (740, 75)),
        arrow((630, 150), (740, 150), (740, 135)),
        arrow((225, 150), (480, 150)),
        words(590, 50, "the direct vector: always made", "small soft"),
        words(440, 290, "several short samples; silence is an answer", "small soft"),
    )


def query() -> str:
    """Draw the way of a query through the service."""
    return figure(
        *(860, 330, "The way of a query through lrem-os serve"),
        Box(20, 60, 110, 60, ("client", "any language")).svg(),
        '<rect class="box edge" x="160" y="20" width="530" height="200" rx="12"/>',
        words(425, 42, "lrem-os serve", "strong"),
        Box(180, 60, 110, 60, ("embed", "direct vector"), "ours").svg(),
        Box(325, 60, 130, 60, ("route", "score and budget"), "ours").svg(),
        Box(325, 150, 130, 56, ("reason", "within a deadline"), "warm").svg(),
        Box(540, 60, 130, 60, ("write the body", "knn for neural"), "ours").svg(),
        Box(720, 60, 120, 60, ("OpenSearch", "2.19 or newer")).svg(),
        Box(180, 150, 110, 56, ("cache", "shared or own")).svg(),
        arrow((130, 90), (180, 90)),
        arrow((290, 90), (325, 90)),
        arrow((455, 90), (540, 90)),
        arrow((390, 120), (390, 150)),
        arrow((455, 178), (605, 178), (605, 120)),
        arrow((670, 90), (720, 90)),
        arrow((290, 170), (325, 170)),
        arrow((325, 188), (290, 188)),
        words(497, 82, "most", "small soft"),
        words(530, 170, "some", "small soft"),
        arrow((780, 120), (780, 270), (75, 270), (75, 120)),
        words(
            425, 262, "the answer as OpenSearch gave it, with ext.lrem: route, keywords, what was missing", "small soft"
        ),
        words(425, 306, "a body without a neural clause of ours passes through, byte for byte", "small soft"),
    )


def ladder() -> str:
    """Draw what a query falls back to."""
    return figure(
        *(820, 200, "What a query falls back to when something is missing"),
        Box(20, 60, 210, 80, ("reasoned", "vector of query and keywords", "keywords in the text leg"), "warm").svg(),
        Box(305, 60, 210, 80, ("direct", "vector of the query alone"), "ours").svg(),
        Box(590, 60, 210, 80, ("words", "text search over the fields")).svg(),
        arrow((230, 100), (305, 100)),
        arrow((515, 100), (590, 100)),
        words(267, 45, "reasoner late, failing, hung, overloaded", "small soft"),
        words(553, 45, "embedder late, failing, hung", "small soft"),
        words(410, 175, "each step down is told in ext.lrem.degraded and counted in /metrics", "small soft"),
    )


def ingest() -> str:
    """Draw ingest and the versions of an index."""
    return figure(
        *(860, 300, "Ingest: from a file to a version of the index behind an alias"),
        Box(20, 40, 120, 70, ("catalog", "JSONL, CSV,", "Parquet")).svg(),
        Box(180, 40, 140, 70, ("first pass", "last good row", "of every id"), "ours").svg(),
        Box(360, 40, 140, 70, ("look up", "same hash?", "leave it"), "ours").svg(),
        Box(540, 40, 120, 70, ("embed", "a window,", "by length"), "ours").svg(),
        Box(700, 40, 140, 70, ("bulk", "slower when the", "cluster says so"), "ours").svg(),
        *(arrow((x, 75), (x + 40, 75)) for x in (140, 320, 500, 660)),
        Box(180, 190, 140, 60, ("dead letters", "file, line, reason")).svg(),
        arrow((250, 110), (250, 190), dashed=True),
        Box(700, 190, 140, 60, ("products-v2", "filling"), "warm").svg(),
        arrow((770, 110), (770, 190)),
        Box(520, 190, 140, 60, ("products-v1", "searched")).svg(),
        Box(360, 190, 120, 60, ("products", "the alias")).svg(),
        arrow((480, 220), (520, 220)),
        arrow((420, 250), (420, 275), (770, 275), (770, 250), dashed=True),
        words(590, 268, "one request at the end, when v2 is complete", "small soft"),
    )


def budget() -> str:
    """Draw what a budget of reasoning is worth, from the result of benchmarks/router."""
    result = json.loads((ROOT / "benchmarks" / "results" / "router.json").read_text("utf-8"))["log"]["budgets"]
    names = {"router": ("curve first", "of-first"), "random": ("curve second dashed", "of-second")}
    left, bottom, wide, high, top = 70, 270, 470, 220, 1.6
    parts = [f'<path class="arrow axis" d="M{left},{bottom - high} V{bottom} H{left + wide}"/>']
    for value in (0.0, 0.5, 1.0, 1.5):
        parts.append(words(left - 10, round(bottom - high * value / top) + 4, f"{value:.1f}", "small soft", "end"))
    for share in SHARES:
        parts.append(words(left + round(wide * share / 50), bottom + 20, f"{share} %", "small soft"))
    for name, (line, label) in names.items():
        points = [(0, 0.0)] + [
            (int(share.rstrip("%")), value["share_of_gain"][0])
            for share, value in result[name].items()
            if int(share.rstrip("%")) <= SHARES[-1]
        ]
        path = " ".join(f"{left + wide * share / 50:.0f},{bottom - high * gain / top:.0f}" for share, gain in points)
        last = points[-1][1]
        parts.append(f'<polyline class="{line}" points="{path}"/>')
        parts.append(words(left + wide + 10, round(bottom - high * last / top) + 4, name, f"strong {label}", "start"))
    return figure(
        *(
            660,
            320,
            "Share of the gain of reasoning about everything, by the share of the queries that is reasoned about",
        ),
        words(70, 26, "share of what reasoning about everything gains", "small soft", "start"),
        words(305, 312, "share of the queries that is reasoned about (retail, 120 judged queries)", "small soft"),
        *parts,
    )


ALL = {"reasoning": reasoning, "query": query, "ladder": ladder, "ingest": ingest, "budget": budget}

if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    for name, draw in ALL.items():
        (FIGURES / f"{name}.svg").write_text(draw(), encoding="utf-8")
