"""From a row to a ``Document``: checks types, renders the embedded text, hashes. Pure; one reason per bad row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

from lrem_os.config import CatalogSettings
from lrem_os.errors import InputError
from lrem_os.ingest.sources import Row
from lrem_os.search.fields import text_field
from lrem_os.text import content_hash, embedded_text, render_value
from lrem_os.types import Document

_MAX_ID_BYTES = 512  # OpenSearch's own limit for _id
_DATES = (date, datetime, time)


class BadRow(InputError):
    """A row that cannot become a document; the message is the reason in the dead-letter file."""

    code = "bad_row"


def row_id(row: Mapping[str, Any], catalog: CatalogSettings) -> str:
    """Return the id of a row. Raises ``BadRow`` when it is missing or no id."""
    value = row.get(catalog.id)
    if value is None or value == "":
        raise BadRow(f"{catalog.id} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"{catalog.id} is {_show(value)}: an id is a string or a whole number")
    text = str(value)
    if not text.strip():
        raise BadRow(f"{catalog.id} is blank")
    if (size := len(text.encode("utf-8", "surrogatepass"))) > _MAX_ID_BYTES:
        raise BadRow(f"{catalog.id} has {size} bytes; OpenSearch allows {_MAX_ID_BYTES}")
    return text


def check_row(row: Row, catalog: CatalogSettings) -> tuple[str, dict[str, Any]]:
    """Return the id of a row and its body with numbers and objects in their types.

    Raises:
        BadRow: Unreadable, without id or title, a field of the wrong type, or something that JSON cannot hold.
    """
    if row.value is None:
        raise BadRow(row.error or "the row could not be read")
    doc_id = row_id(row.value, catalog)
    source = {name: _plain(name, value) for name, value in row.value.items()}
    title = source.get(catalog.title)
    if not isinstance(title, str) or not title.replace("\x00", "").strip():
        raise BadRow(f"{catalog.title} is {_show(title)}: a title is needed")
    _check_fields(source, catalog)
    try:
        orjson.dumps(source)
    except TypeError as exc:
        raise BadRow(f"cannot be written as JSON: {exc}") from exc
    return doc_id, source


def build_document(row: Row, label: str, catalog: CatalogSettings, *, max_chars: int) -> tuple[Document, list[str]]:
    """Return the document of a row, and what was put right in it.

    Args:
        row: A row.
        label: Name of its file, for reports.
        catalog: Which field means what.
        max_chars: A longer embedded text is cut.

    Raises:
        BadRow: As ``check_row``; in no other case, because the first pass over the input decides by that alone.
    """
    doc_id, source = check_row(row, catalog)
    for name in catalog.objects:
        if name in catalog.text and source.get(name):
            source[text_field(catalog, name)] = render_value(source[name])
    text, notes = embedded_text(source, catalog.embed), []
    if len(text) > max_chars:
        notes.append(f"embedded text cut from {len(text)} to {max_chars} characters")
        text = text[:max_chars]
    if any("\x00" in value for value in source.values() if isinstance(value, str)):
        notes.append("holds NUL characters: left out of the embedded text")
    if not text:
        notes.append("no text to embed: none of its fields in catalog.embed says anything")
    return Document(doc_id, text, source, content_hash(text, source), label, row.line), notes


def _check_fields(source: dict[str, Any], catalog: CatalogSettings) -> None:
    for name in catalog.number:
        if source.get(name) is not None:
            source[name] = _number(name, source[name])
    for name in catalog.objects:
        if source.get(name) is not None:
            source[name] = _object(name, source[name])
    for name in {*catalog.text, *catalog.keyword} - set(catalog.objects):
        if isinstance(value := source.get(name), dict):
            raise BadRow(f"{name} is an object: text is wanted (or add {name!r} to catalog.objects)")
        if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            raise BadRow(f"{name} is a list of {_show(value[0])}: a list of texts is wanted")


def _number(name: str, value: object) -> float | int:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise BadRow(f"{name} is {_show(value)}: not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"{name} is {_show(value)}: not a number")
    if not math.isfinite(value):
        raise BadRow(f"{name} is {value}: not a finite number")
    return value


def _object(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # CSV holds objects as JSON
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as exc:
            raise BadRow(f"{name} is broken JSON: {exc}") from None
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):  # how a Parquet map is read
        value = dict(value)
    if not isinstance(value, dict):
        raise BadRow(f"{name} is {_show(value)}: an object is wanted")
    return value


def _plain(name: str, value: object) -> object:
    """Return what JSON can hold: Parquet has dates and decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, _DATES):
        return value.isoformat()
    if isinstance(value, bytes):
        raise BadRow(f"{name} holds binary data, which JSON cannot")
    return value


def _show(value: object) -> str:
    if value is None:
        return "missing"
    return f"{type(value).__name__} {str(value)[:60]!r}"
