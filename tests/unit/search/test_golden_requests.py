"""Request bodies, whole, against committed files; ``scripts/regen`` writes them again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import CatalogSettings, IndexSettings, SearchSettings
from lrem_os.search.filters import build_filter
from lrem_os.search.requests import SearchSetup, build_body, build_leg_bodies, widen
from lrem_os.types import Mode

GOLDEN = Path(__file__).parents[2] / "golden" / "requests"
CATALOG = CatalogSettings()
FILTER = build_filter(["brand=Sony|Bose", "price<50"], CATALOG)
VECTOR = [0.6, -0.8, 0.0]
TEXT = "red leather handbag"


RRF: dict[str, Any] = {"fusion": "rrf", "weights": (0.5, 0.5)}


def setup(
    version: tuple[int, int, int] = (3, 6, 0), filters: dict[str, Any] | None = None, **search: Any
) -> SearchSetup:
    return SearchSetup(CATALOG, IndexSettings(), SearchSettings(**({**RRF, **search})), version, filters)


def body(
    mode: Mode, of: SearchSetup, text: str = TEXT, top_k: int = 10, start: int = 0, keywords: tuple[str, ...] = ()
) -> dict[str, Any]:
    vector = None if mode == "bm25" else VECTOR
    return build_body(of, mode, text, vector, top_k=top_k, start=start, keywords=keywords)


def reasoned(**options: Any) -> SearchSetup:
    return replace(setup(**{"fusion": "minmax", "weights": (0.3, 0.7), **options}), text_boost=0.2)


KEYWORDS = ("satchel", "tote bag", "crossbody purse")


CASES: dict[str, dict[str, Any]] = {
    "bm25": body("bm25", setup()),
    "bm25_filter": body("bm25", setup(filters=FILTER)),
    "bm25_page_3": body("bm25", setup(), start=20),
    "vector": body("vector", setup()),
    "vector_filter": body("vector", setup(filters=FILTER)),
    "hybrid_rrf": body("hybrid", setup()),
    "hybrid_rrf_filter": body("hybrid", setup(filters=FILTER)),
    "hybrid_rrf_filter_2_19": body("hybrid", setup((2, 19, 0), FILTER)),
    "hybrid_rrf_page_3": body("hybrid", setup(), start=20),
    "hybrid_rrf_weights": body("hybrid", setup(weights=(0.3, 0.7), rank_constant=20)),
    "hybrid_minmax_weights": body("hybrid", setup(fusion="minmax", weights=(0.3, 0.7))),
    "hybrid_tie_at_page_end": widen(body("hybrid", setup())),
    "empty": body("hybrid", setup(), text=""),
    "blank": body("hybrid", setup(), text=" \t\u3000"),
    "filter_only": body("hybrid", setup(filters=FILTER), text=""),
    "wildcard_looking": body("hybrid", setup(), text='bag* "red AND ('),
    "bm25_keywords": body("bm25", reasoned(), keywords=KEYWORDS),
    "bm25_keywords_filter": body("bm25", reasoned(filters=FILTER), keywords=KEYWORDS),
    "hybrid_keywords": body("hybrid", reasoned(), keywords=KEYWORDS),
    "explain_legs": build_leg_bodies(setup(filters=FILTER), TEXT, VECTOR, num_shards=2),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LREM_OS_REGEN"):
        path.write_text(json.dumps(CASES[name], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == CASES[name], "run scripts/regen and look at the difference"


def test_golden_files_are_all_in_use() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("mode", ["bm25", "vector", "hybrid"])
def test_without_keywords_or_weight_the_body_is_the_direct_one(mode: Mode) -> None:
    of = reasoned()
    assert (
        body(mode, of)
        == body(mode, replace(of, text_boost=0.0))
        == body(mode, replace(of, text_boost=0.0), keywords=KEYWORDS)
    )
    assert body(mode, of, keywords=(" ", "\u200b")) == body(mode, of)
