"""The command: `python -m benchmarks.embedder`; the result goes to benchmarks/results/embedder.json.

Needs `pip install -r benchmarks/requirements.txt` beside `lrem-os[model]`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.embedder.compare import alternate, in_windows, min_cosine, summarise
from benchmarks.machine import ROOT, write_result
from lrem_os.config import ModelSettings, Settings
from lrem_os.errors import LremError
from lrem_os.ingest.documents import build_document
from lrem_os.ingest.sources import Source, read_rows
from lrem_os.model import store
from lrem_os.model.load import load_embedder

OURS, THEIRS = "lrem-os", "sentence-transformers"
MIN_RATIO, MIN_COSINE = 1.5, 0.999
_PACKAGES = ("lrem-os", "sentence-transformers", "torch", "transformers", "tokenizers", "numpy")


def default_catalog() -> Path:
    """Return the catalog of the shared data, beside the checkout unless ``LREM_OS_SHARED`` says otherwise."""
    return Path(os.environ.get("LREM_OS_SHARED") or ROOT.parent / "shared") / "data" / "icecat" / "catalog.jsonl.gz"


def load_texts(path: Path, num: int, seed: int) -> list[str]:
    """Return a random sample: the embedded texts of a catalog (.jsonl, .jsonl.gz), or the lines of any other file.

    Raises:
        click.ClickException: The file cannot be read, or holds no text.
    """
    if not path.is_file():
        raise click.ClickException(f"no texts at {path}: name a file with --texts, or set LREM_OS_SHARED")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        catalog = Settings().catalog
        rows = read_rows(Source(path, path.name, "jsonl"))
        texts = [build_document(row, path.name, catalog, max_chars=100_000)[0].text for row in rows]
    else:
        texts = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not texts:
        raise click.ClickException(f"{path} holds no text")
    Random(seed).shuffle(texts)
    return list(islice(texts, num))


@click.command(context_settings={"show_default": True})
@click.option("--texts", "path", type=click.Path(path_type=Path), default=default_catalog, help="Catalog, or lines.")
@click.option("--num", type=click.IntRange(64), default=1024, help="Texts, drawn at random.")
@click.option("--repeat", type=click.IntRange(1), default=5, help="Rounds.")
@click.option("--seed", default=0, help="Of the draw.")
@click.option("--model", default=ModelSettings().name, help="As in model.name of the configuration.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="A `model` setting of lrem-os to try.")
@click.option("--name", default="embedder", help="Of the result file under benchmarks/results/.")
def main(path: Path, num: int, repeat: int, seed: int, model: str, options: tuple[str, ...], name: str) -> None:
    """Measure texts a second, ours against `SentenceTransformer(folder).encode(texts)` with default arguments."""
    console = Console(highlight=False)
    texts = load_texts(path, num, seed)
    try:
        settings = ModelSettings.model_validate({"name": model, **dict(option.split("=", 1) for option in options)})
        embedder = load_embedder(settings)
        folder = store.resolve(settings.name, settings.revision).path
        sentence_transformers = import_module("sentence_transformers")
    except LremError as exc:
        raise click.ClickException(str(exc)) from exc
    except ImportError as exc:
        raise click.ClickException(f"{exc}: pip install -r benchmarks/requirements.txt") from exc
    peer: Any = sentence_transformers.SentenceTransformer(str(folder))
    window = Settings().ingest.window
    console.print(
        f"{len(texts)} texts of {path.name}, {np.mean([len(text) for text in texts]):.0f} characters on average"
    )
    methods = {THEIRS: peer.encode, OURS: in_windows(embedder, window)}
    runs, vectors = alternate(methods, texts, repeat, console.print)
    summary = summarise(runs, OURS, THEIRS) | {"min_cosine": min_cosine(vectors[OURS], vectors[THEIRS])}
    console.print(_table(summary))
    result = {
        "texts": path.name,
        "num": len(texts),
        "seed": seed,
        "identity": dict(embedder.identity),
        "window": window,
    }
    written = write_result(name, {**result, "options": options, "summary": summary, "runs": runs}, _PACKAGES)
    console.print(f"written to {written.relative_to(ROOT)}")
    sys.exit(0 if summary["ratio"] >= MIN_RATIO and summary["min_cosine"] >= MIN_COSINE else 1)


def _table(summary: dict[str, Any]) -> Table:
    table = Table("", "texts/s", "CPU ms/text", title="embedding, median of the rounds")
    for name, row in summary["medians"].items():
        table.add_row(name, f"{row['texts_per_s']:.1f}", f"{row['cpu_ms_per_text']:.1f}")
    ratios = summary["ratios"]
    table.caption = (
        f"ratio {summary['ratio']:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f}, target {MIN_RATIO}); "
        f"smallest cosine {summary['min_cosine']:.6f} (target {MIN_COSINE})"
    )
    return table


if __name__ == "__main__":
    main()
