"""Which documents are put before a judge, and what they say: from runs, sheets and judgments, and from a catalog."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson

from lrem_os.errors import DatasetError, InputError
from lrem_os.eval.datasets import COLUMNS, DataFile, json_rows
from lrem_os.eval.runs import parse_run
from lrem_os.eval.tables import Row, has_header, read_table, value_of
from lrem_os.text import embedded_text

Candidates = dict[str, dict[str, str]]
"""Query id → document id → title, empty where the file has none."""


def parse_candidates(file: DataFile, *, depth: int) -> Candidates:
    """Return a run's first results, or all pairs of a sheet, of qrels (judged or not).

    Raises:
        InputError: A line cannot be used.
    """
    first = file.lines[0][1].lstrip()
    if first.startswith("{") or has_header(first, ("qid", "doc_id")):
        rows = json_rows(file) if first.startswith("{") else read_table(file.lines, file.path)
        return _sheet(rows, file.path)
    num_columns = len(COLUMNS.split(first.strip()))
    if num_columns == 4:
        pairs: Candidates = {}
        for number, line in file.lines:
            columns = COLUMNS.split(line.strip(" \t"))
            if len(columns) != 4:
                raise DatasetError(f"{len(columns)} columns: want 4 as on the first line", path=file.path, line=number)
            pairs.setdefault(columns[0], {})[columns[2]] = ""
        return pairs
    run = parse_run(file)
    return {qid: {hit.doc_id: "" for hit in ranking.hits[:depth]} for qid, ranking in run.items()}


def read_items(path: str | Path, doc_ids: Iterable[str], *, id_field: str, fields: Sequence[str]) -> dict[str, str]:
    """Return the text of some products of a JSONL catalog (gzip is undone), as the embedder would read it.

    Args:
        path: The catalog.
        doc_ids: The products that are wanted; others are passed over.
        id_field: Field of the id.
        fields: Fields of the text, in order.

    Raises:
        DatasetError: The file cannot be read, or a line is no JSON object.
    """
    wanted = set(doc_ids)
    items: dict[str, str] = {}
    try:
        with Path(path).open("rb") as probe:
            gzipped = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
                doc_id = str(row.get(id_field)) if isinstance(row, dict) else None
                if doc_id is None or row.get(id_field) is None:
                    raise DatasetError(
                        f"no {id_field}", path=path, line=number, hint="catalog.id names the field of the id"
                    )
                if doc_id in wanted:
                    items[doc_id] = embedded_text(row, fields)
    except orjson.JSONDecodeError as exc:
        raise DatasetError(
            f"broken JSON: {exc}", path=path, line=number, hint="the catalog must be JSONL, maybe gzipped"
        ) from exc
    except (EOFError, zlib.error) as exc:
        raise DatasetError(f"broken gzip: {exc}", path=path, hint="fetch the file again") from exc
    except OSError as exc:
        raise DatasetError(f"cannot read it: {exc.strerror or exc}", path=path) from exc
    return items


def sample_pairs(candidates: Mapping[str, Mapping[str, str]], size: int, *, seed: int) -> Candidates:
    """Return that many pairs, drawn without replacement, in the order they had."""
    pairs = [(qid, doc_id) for qid, docs in candidates.items() for doc_id in docs]
    if size >= len(pairs):
        return {qid: dict(docs) for qid, docs in candidates.items()}
    drawn: Candidates = {}
    for place in sorted(np.random.default_rng(seed).choice(len(pairs), size, replace=False).tolist()):
        qid, doc_id = pairs[place]
        drawn.setdefault(qid, {})[doc_id] = candidates[qid][doc_id]
    return drawn


def _sheet(rows: Iterator[Row], path: str) -> Candidates:
    pairs: Candidates = {}
    for row in rows:
        qid, doc_id = value_of(row, "qid", None), value_of(row, "doc_id", None)
        if qid in (None, "") or doc_id in (None, ""):
            raise InputError(f"{path}:{row.line}: no qid or no doc_id; the line has {', '.join(row.values)}")
        title = row.values.get("title")
        pairs.setdefault(str(qid), {})[str(doc_id)] = title if isinstance(title, str) else ""
    return pairs
