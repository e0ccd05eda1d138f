"""Injected products: a copy of the index with them in it, what is found there, and the copy's end."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from lrem_os import api
from lrem_os.config import CatalogSettings, Settings
from lrem_os.errors import SearchError
from lrem_os.eval.robustness.drop import CUTOFFS, attack_success
from lrem_os.eval.robustness.poison import build_poison, by_kind
from lrem_os.eval.robustness.study import Asker, Kept, Progress
from lrem_os.eval.specs import RunSpec
from lrem_os.ingest.run import IngestOptions
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.search.copies import temporary_copy
from lrem_os.types import Embedder, Query


def attack_runs(
    settings: Settings,
    specs: Mapping[str, RunSpec],
    queries: Sequence[Query],
    *,
    count: int,
    seed: int,
    kept: Kept,
    serve: Callable[[Settings], ServedRuns],
    embedder: Embedder | None = None,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the ``poisoning`` of a report, and what must be said about it.

    Args:
        settings: The configuration, of the index that is copied.
        specs: The runs by name; those that are services are left out.
        queries: What is attacked, and asked.
        count: Products to inject.
        seed: Which queries they go for.
        kept: Where answers are kept. Where all are there, nothing is copied.
        serve: Gives what opens runs on a configuration.
        embedder: Used in place of the configured model.
        on_progress: Told run, queries answered, queries in all.

    Raises:
        ModelError: A model failed.
        SearchError: The copy cannot be made whole, or OpenSearch failed.
    """
    products = build_poison([query.text for query in queries], count, seed, **_poison_fields(settings.catalog))
    ids = [product[settings.catalog.id] for product in products]
    variant = f"poison-{count}-{seed}-{hashlib.sha256(_jsonl(products)).hexdigest()[:8]}"
    answers = {}
    with ExitStack() as stack:
        poisoned = cache(lambda: serve(_with_poison(settings, products, embedder, stack)))
        for name, spec in specs.items():
            if not spec.is_local:
                continue
            asker = Asker(
                name,
                lambda name: poisoned().open(specs[name], queries),
                kept,
                top_k=max(CUTOFFS),
                total=len(queries),
                on_progress=_labelled(on_progress),
            )
            answers[name] = asker.ask(variant, queries)
    found = {
        "injected": count,
        "attack_success": {name: attack_success(run, ids) for name, run in answers.items()},
        "by_kind": {
            kind: {name: attack_success(run, those) for name, run in answers.items()}
            for kind, those in by_kind(ids).items()
        },
    }
    notes = [f"{name}: not attacked, its service searches its own index" for name in specs if name not in answers]
    return found, notes


def _with_poison(
    settings: Settings, products: Sequence[Mapping[str, Any]], embedder: Embedder | None, stack: ExitStack
) -> Settings:
    """Return the configuration with a copy of the index, the products in it. Raises ``SearchError``."""
    copy = stack.enter_context(temporary_copy(api.connect(settings), settings.index.name))
    there = settings.model_copy(update={"index": settings.index.model_copy(update={"name": copy})})
    _inject(there, products, embedder)
    return there


def _inject(settings: Settings, products: Sequence[Mapping[str, Any]], embedder: Embedder | None) -> None:
    """Write the products as any catalog is written."""
    with tempfile.TemporaryDirectory(prefix="lrem-os-poison-") as folder:
        file = Path(folder) / "poison.jsonl"
        file.write_bytes(_jsonl(products))
        letters = Path(folder) / "dead.jsonl"
        report = api.ingest_catalog(settings, [str(file)], IngestOptions(dead_letters=letters), embedder=embedder)
        if report.indexed != len(products):
            reason = letters.read_text(encoding="utf-8")[:300] if letters.exists() else "they are there already"
            raise SearchError(f"only {report.indexed} of {len(products)} products could be injected: {reason}")


def _jsonl(products: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(dict(product), option=orjson.OPT_APPEND_NEWLINE) for product in products)


def _poison_fields(catalog: CatalogSettings) -> dict[str, str]:
    """Return where an injected product says what: its long text goes where a description would."""
    plain = [name for name in catalog.text if name not in {catalog.title, *catalog.objects, *catalog.keyword}]
    return {"title": catalog.title, "body": plain[0] if plain else catalog.title, "id_field": catalog.id}


def _labelled(on_progress: Progress | None) -> Progress | None:
    if on_progress is None:
        return None
    return lambda name, done, total: on_progress(f"{name}, attacked", done, total)
