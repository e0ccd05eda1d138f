"""Gain labels of a data set, written to a file that grows: a killed run goes on with the queries that are left."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch

from lrem_os.errors import CheckpointError, TrainingError
from lrem_os.train.gains import label_gains
from lrem_os.train.sets import TrainingSet, data_card
from lrem_os.train.stages import build_shelves
from lrem_os.types import ReasoningEmbedder


def write_gains(
    model: ReasoningEmbedder,
    sets: Sequence[TrainingSet],
    output: Path,
    *,
    reasoning: Mapping[str, Any],
    distractors: int | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, int]:
    """Write one line of JSON a query of every catalog, held out or not, and return what was counted.

    Args:
        model: Gives direct and reasoned vectors.
        sets: The data.
        output: The file; ``NAME.card.json`` beside it says what it was made with.
        reasoning: How the model reasons, for the card.
        distractors: Items of each catalog that no query names; none: all.
        on_progress: Told queries done and queries in all.

    Raises:
        CheckpointError: The file is there, and was made with another model or other data.
        ModelError: The model failed.
        TrainingError: No query has a product in a catalog.
    """
    card = {"model": dict(model.identity), "reasoning": dict(reasoning), "distractors": distractors}
    _check_card(output, {**card, "sets": data_card(sets)})
    done = _done(output)
    shelves = build_shelves(sets, model, distractors, torch.device("cpu"))
    queries = [
        (part.name, query)
        for part in sets
        if part.rows
        for query in (*part.train, *part.held_out)
        if query.positives.keys() & shelves[part.name].ids.keys()
    ]
    if not queries:
        raise TrainingError("no query has a positive in its catalog", hint="check data.catalogs")
    left = [pair for pair in queries if pair[1].query_id not in done]
    with output.open("ab") as file:
        told = label_gains(model, left, shelves)
        for number, gain in enumerate(told, len(queries) - len(left) + 1):
            file.write(orjson.dumps(gain.row(), option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            on_progress(number, len(queries))
    return dict(Counter(_sign(row["gain"]) for row in _rows(output))) | {"queries": len(queries)}


def _check_card(output: Path, card: Mapping[str, Any]) -> None:
    path = output.with_suffix(".card.json")
    text = json.dumps(card, indent=2, sort_keys=True, default=str) + "\n"
    try:
        if output.exists() and path.exists() and path.read_text(encoding="utf-8") != text:
            raise CheckpointError(
                f"{output} was made with another model or other data", hint="give another --out, or --restart"
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be written: {exc.strerror}", hint="give another --out") from exc


def _done(output: Path) -> set[str]:
    """Return the queries in the file, without a last line that a kill has cut."""
    if not output.exists():
        return set()
    data = output.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        output.write_bytes(whole)
    return {str(row["query_id"]) for row in _rows(output)}


def _rows(output: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.read_bytes().split(b"\n") if line]


def _sign(gain: float) -> str:
    return "helped" if gain > 0 else "harmed" if gain < 0 else "unchanged"
