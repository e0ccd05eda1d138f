"""Two runs on one sheet, for people to judge blind, and their votes to a score: what ``lrem-os eval sbs`` calls.

Like ``lrem_os.api``: every function takes the whole ``Settings`` and hands each part what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lrem_os.api import connect, ubi_pages
from lrem_os.config import Settings
from lrem_os.errors import DatasetError, InputError
from lrem_os.eval import sbs
from lrem_os.eval.datasets import parse_queries
from lrem_os.eval.html.render import render_sheet
from lrem_os.eval.logs import read_source
from lrem_os.eval.output import write_whole
from lrem_os.eval.runs import Run, collect_run, read_run
from lrem_os.eval.sbs_score import Score, score_votes
from lrem_os.eval.sbs_votes import KEY_SUFFIX, find_key, read_key, read_votes
from lrem_os.eval.specs import RunSpec, parse_run_specs
from lrem_os.ingest.documents import BadRow, row_id
from lrem_os.ingest.sources import expand_sources, read_rows
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.search.bulk import find_sources
from lrem_os.types import Embedder, Query

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that was made.

    Args:
        page: The file for the judges.
        key: The file that tells which run stood left: not for the judges.
        num_pairs: Queries to judge.
        num_same: Queries that both runs answer alike: not shown, counted as same.
        num_unanswered: Queries that neither run answers: left out.
        num_unknown: Products of which neither catalog nor index knows a title: their id is shown.
    """

    page: Path
    key: Path
    num_pairs: int
    num_same: int
    num_unanswered: int
    num_unknown: int


def make_sheet(
    settings: Settings,
    *,
    runs: Sequence[str],
    queries: str | Path,
    out: str | Path,
    catalog: str | Path | None = None,
    top_k: int = 10,
    num_queries: int | None = None,
    seed: int = 0,
    embedder: Embedder | None = None,
    on_progress: Progress | None = None,
) -> Sheet:
    """Write the page on which two runs are judged, and its key beside it.

    Args:
        settings: The configuration.
        runs: Two names, files or services, see ``lrem_os.eval.specs.parse_run_spec``.
        queries: File with ids, texts and types, or ``ubi:…``.
        out: The page; its key gets the same name with ``.key.json``.
        catalog: What the products are; none: the index knows.
        top_k: Products a side.
        num_queries: How many are drawn; none: all.
        seed: Of the draw, of queries and of sides.
        embedder: Used in place of the configured model.
        on_progress: Told run, queries done, queries in all.

    Raises:
        InputError: Queries or a run cannot be used, or there is nothing to judge.
        SearchError: OpenSearch failed.
    """
    specs = parse_run_specs(runs, settings.eval.runs)
    if len(specs) != 2:
        raise InputError(f"{len(specs)} runs were given: side by side are two", hint="--runs direct,reasoned")
    asked = parse_queries(read_source(queries, ubi_pages(settings)))
    drawn = sbs.sample_queries(asked, num_queries, seed=seed)
    a, b = _collect(settings, specs, drawn, top_k, embedder, on_progress)
    draw = sbs.draw_pairs(drawn, a, b, top_k=top_k, seed=seed)
    shown = {doc_id for pair in draw.pairs for doc_id in (*pair.a, *pair.b)}
    known = _from_index(settings, shown) if catalog is None else _from_catalog(settings, catalog, shown)
    items = {doc_id: sbs.build_item(doc_id, known.get(doc_id), settings.catalog) for doc_id in shown}
    names = (specs[0].name, specs[1].name)
    sheet = sbs.sheet_id(draw, names, top_k=top_k, seed=seed)
    page, key = Path(out), Path(out).with_suffix(KEY_SUFFIX)
    write_whole(page, render_sheet(sbs.page_data(draw, items, sheet)).encode())
    content = sbs.build_key(draw, names, sheet=sheet, top_k=top_k, seed=seed)
    write_whole(key, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    num_unknown = sum(item.title == doc_id for doc_id, item in items.items())
    return Sheet(page, key, len(draw.pairs), len(draw.same), len(draw.unanswered), num_unknown)


def score_sheets(
    votes: Sequence[str | Path], *, key: str | Path | None = None, resamples: int = 2000, seed: int = 0
) -> Score:
    """Return what the judges' files amount to.

    Args:
        votes: What the judges exported, a file each.
        key: Of the sheet; none: the only one beside the votes or in the working directory.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: A file does not fit, or nobody has decided anything.
    """
    if not votes:
        raise InputError("no votes were given", hint="name the files that the judges exported")
    for path in votes:
        if not Path(path).is_file():
            raise DatasetError("no such file", path=path, hint="name the files that the judges exported")
    found = read_key(find_key(votes) if key is None else key)
    return score_votes(found, read_votes(votes, found), resamples=resamples, seed=seed)


def _collect(
    settings: Settings,
    specs: Sequence[RunSpec],
    queries: Sequence[Query],
    top_k: int,
    embedder: Embedder | None,
    on_progress: Progress | None,
) -> list[Run]:
    shallow = settings.model_copy(update={"eval": settings.eval.model_copy(update={"top_k": top_k})})
    served = ServedRuns(shallow, embedder=embedder, kept=None, on_progress=on_progress)
    for spec in specs:
        served.check(spec)
    return [
        read_run(spec.path)
        if spec.path
        else collect_run(
            lambda spec=spec: served.open(spec, queries),  # type: ignore[misc]
            queries,
            top_k=top_k,
            name=spec.name,
            on_progress=on_progress,
        )
        for spec in specs
    ]


def _from_catalog(settings: Settings, path: str | Path, wanted: Set[str]) -> Mapping[str, Mapping[str, Any]]:
    """Return the rows of these products; a row that cannot be read is another's business: ingest tells it."""
    found: dict[str, Mapping[str, Any]] = {}
    for source in expand_sources([str(path)]):
        for row in read_rows(source):
            if row.value is None:
                continue
            with suppress(BadRow):
                doc_id = row_id(row.value, settings.catalog)
                if doc_id in wanted:
                    found[doc_id] = row.value
    if not found:
        raise DatasetError(
            "none of the products that the runs found is in this catalog",
            path=path,
            hint="catalog.id names the field with the id",
        )
    return found


def _from_index(settings: Settings, wanted: Set[str]) -> Mapping[str, Mapping[str, Any]]:
    catalog = settings.catalog
    fields = [catalog.title, *catalog.text, *catalog.keyword, *catalog.number]
    return find_sources(connect(settings), settings.index.name, sorted(wanted), fields=fields)
