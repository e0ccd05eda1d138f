"""The data of a recipe, read: per name its queries, split, and its catalog; with the account that is the data card."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.text import embedded_text
from lrem_os.train.data import EASY, TrainingQuery, head_queries, is_validation, read_training_queries
from lrem_os.train.reasoner import Line
from lrem_os.train.settings import Data


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Queries, and the catalog that they are about if there is one.

    Args:
        name: As in the recipe.
        train: Queries to learn from.
        held_out: Queries of the validation share; none without a catalog, since nothing could be measured.
        rows: The catalog's rows by id, in the order of the file.
        texts: What an embedder reads of each row, by id.
        checksums: SHA-256 by file, relative to the data's root.
    """

    name: str
    train: tuple[TrainingQuery, ...]
    held_out: tuple[TrainingQuery, ...]
    rows: Mapping[str, Mapping[str, Any]]
    texts: Mapping[str, str]
    checksums: Mapping[str, str]


def read_sets(data: Data) -> list[TrainingSet]:
    """Return the sets of a recipe, in its order.

    Raises:
        DatasetError: A file cannot be read, or a line cannot be used.
    """
    return [_read_set(data, name) for name in data.queries]


def teacher_lines(sets: Sequence[TrainingSet], num_head_queries: int) -> list[Line]:
    """Return what a reasoner learns: teacher lines, nothing for easy queries, nothing for head queries of each catalog.

    Args:
        sets: The data.
        num_head_queries: Head queries drawn from each catalog; the same ones for the same name.
    """
    lines = [Line.of(query) for part in sets for query in part.train]
    for part in sets:
        heads = head_queries(part.rows.values(), num_head_queries, random.Random(part.name)) if part.rows else []
        lines += [Line(query, "") for query in heads]
    return lines


def fold_of(query_id: str, num: int) -> int:
    """Return the fold of a query, by a hash of its id that has nothing to do with the validation share's."""
    return int.from_bytes(hashlib.sha256(f"fold{query_id}".encode()).digest()[:4], "big") % num


def with_distractors(part: TrainingSet, num: int | None) -> dict[str, str]:
    """Return the item texts that training ranks: every item that a query names, and ``num`` others, drawn.

    Args:
        part: A set with a catalog.
        num: None: all others.
    """
    named = {key for query in (*part.train, *part.held_out) for key in (*query.positives, *query.negatives)}
    others = [key for key in part.texts if key not in named]
    random.Random(0).shuffle(others)
    kept = named | set(others if num is None else others[:num])
    return {key: text for key, text in part.texts.items() if key in kept}


def data_card(sets: Sequence[TrainingSet]) -> dict[str, Any]:
    """Return where the data came from and how much of it there is, as plain values."""
    return {part.name: _account(part) for part in sets}


def read_rows(path: Path, key: str = "id") -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a JSONL file, packed by gzip where its name ends so; each has a ``key``.

    Raises:
        DatasetError: The file cannot be read, or a line is not an object with the key.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = orjson.loads(line)
                if not isinstance(row, dict) or not row.get(key):
                    raise DatasetError(f"is not a JSON object with {key!r}", path=path, line=number)
                yield row
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"is not JSON: {exc}", path=path, line=number) from exc
    except (OSError, EOFError) as exc:  # EOFError: a gzip file cut short
        raise DatasetError(
            f"cannot be read: {exc}", path=path, hint="data.root, or --data-root, names the folder"
        ) from exc


def _read_set(data: Data, name: str) -> TrainingSet:
    queries = read_training_queries(data.root / data.queries[name])
    files = [data.queries[name]]
    rows: dict[str, Mapping[str, Any]] = {}
    if name in data.catalogs:
        files.append(data.catalogs[name])
        rows = {str(row["id"]): row for row in read_rows(data.root / data.catalogs[name])}
    held_out = {query.query_id for query in queries if rows and _is_held_out(query.query_id, data)}
    return TrainingSet(
        name=name,
        train=tuple(query for query in queries if query.query_id not in held_out),
        held_out=tuple(query for query in queries if query.query_id in held_out),
        rows=rows,
        texts={key: embedded_text(row, data.item_fields) for key, row in rows.items()},
        checksums={file: hashlib.sha256((data.root / file).read_bytes()).hexdigest() for file in files},
    )


def _is_held_out(query_id: str, data: Data) -> bool:
    if is_validation(query_id, data.validation_share):
        return True
    return data.without_fold is not None and fold_of(query_id, data.folds) == data.without_fold


def _account(part: TrainingSet) -> dict[str, Any]:
    known = part.texts.keys()
    pairs = [item for query in part.train for item in query.positives]
    return {
        "files": dict(part.checksums),
        "queries": len(part.train),
        "held_out": len(part.held_out),
        "easy": sum(query.type == EASY for query in part.train),
        "with_reasoning": sum(bool(query.reasoning) and query.type != EASY for query in part.train),
        "items": len(part.rows),
        "pairs": sum(item in known for item in pairs),
        "pairs_not_in_catalog": sum(item not in known for item in pairs) if part.rows else 0,
    }
