r"""Filter expressions of the command line and the Python API → OpenSearch DSL. Pure.

::

    brand=Sony            exactly this value        brand!=Sony           any other value, or none
    brand=Sony|Bose       one of these              price<50  <=  >  >=   a number field
    attributes.colour=red a path in an object       id=B001|B002          by id

Several expressions must all hold. Blanks around field and values are dropped; ``\|`` is a literal bar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from lrem_os.config import CatalogSettings
from lrem_os.errors import QueryError
from lrem_os.search.fields import keyword_field

_EXPRESSION = re.compile(r"\s*(?P<field>[^=!<>]+?)\s*(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_EXAMPLES = "write brand=Sony, brand!=Sony, brand=Sony|Bose, price<50 or attributes.colour=red"


def build_filter(expressions: Sequence[str], catalog: CatalogSettings) -> dict[str, Any] | None:
    """Return one query that matches what all expressions allow; ``None`` when there are none.

    >>> build_filter(["brand=Sony", "price<50"], CatalogSettings())
    {'bool': {'filter': [{'term': {'brand.keyword': 'Sony'}}, {'range': {'price': {'lt': 50.0}}}]}}

    Raises:
        QueryError: An expression cannot be read, or names a field that cannot be filtered.
    """
    clauses = [parse_filter(expression, catalog) for expression in expressions]
    if len(clauses) < 2:
        return clauses[0] if clauses else None
    return {"bool": {"filter": clauses}}


def parse_filter(expression: str, catalog: CatalogSettings) -> dict[str, Any]:
    """Return the query of one expression.

    >>> parse_filter("attributes.colour=red|blue", CatalogSettings())
    {'terms': {'attributes.colour': ['red', 'blue']}}
    >>> parse_filter("brand!=Sony", CatalogSettings())
    {'bool': {'must_not': [{'term': {'brand.keyword': 'Sony'}}]}}

    Raises:
        QueryError: It cannot be read, or names a field that cannot be filtered.
    """
    if any("\ud800" <= char <= "\udfff" for char in expression):  # a surrogate: bytes that Python could not decode
        raise QueryError(f"the filter {expression!r} is not valid UTF-8", hint="check the terminal's encoding")
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        raise QueryError(f"the filter {expression!r} has no field or no operator", hint=_EXAMPLES)
    field, operator = match["field"], match["operator"]
    values = _split(match["value"], expression)
    if operator in _RANGES:
        return {"range": {field: {_RANGES[operator]: _bound(field, values, expression, catalog)}}}
    clause = _equals(field, values, expression, catalog)
    return clause if operator == "=" else {"bool": {"must_not": [clause]}}


def filterable_fields(catalog: CatalogSettings) -> list[str]:
    """Return the names that a filter may use, objects as ``attributes.<name>``."""
    return [catalog.id, *catalog.keyword, *catalog.number, *(f"{name}.<name>" for name in catalog.objects)]


def _equals(field: str, values: list[str], expression: str, catalog: CatalogSettings) -> dict[str, Any]:
    if field == catalog.id:
        return {"ids": {"values": values}}
    if field in catalog.keyword:
        return _terms(keyword_field(catalog, field), values)
    if field in catalog.number:
        return _terms(field, [_number(value, expression) for value in values])
    if _is_path(field, catalog):
        return _terms(field, [spelling for value in values for spelling in _spellings(value)])
    raise _unknown(field, expression, catalog)


def _bound(field: str, values: list[str], expression: str, catalog: CatalogSettings) -> float:
    if field not in catalog.number:
        if field != catalog.id and field not in catalog.keyword and not _is_path(field, catalog):
            raise _unknown(field, expression, catalog)
        numbers = ", ".join(catalog.number) or "none (catalog.number is empty)"
        raise QueryError(
            f"the filter {expression!r} compares {field!r}, which is not a number field",
            hint=f"use = or !=; number fields: {numbers}",
        )
    if len(values) > 1:
        raise QueryError(f"the filter {expression!r} compares with several values", hint="give one number")
    return _number(values[0], expression)


def _terms(field: str, values: Sequence[str | float]) -> dict[str, Any]:
    return {"term": {field: values[0]}} if len(values) == 1 else {"terms": {field: list(values)}}


def _split(text: str, expression: str) -> list[str]:
    r"""Split at bars; ``\|`` and ``\\`` are a literal bar and backslash, any other backslash is itself."""
    values = [""]
    for piece in re.findall(r"\\[|\\]|.", text, flags=re.DOTALL):
        if piece == "|":
            values.append("")
        else:
            values[-1] += piece[1:] if len(piece) == 2 else piece
    values = [value.strip() for value in values]
    if not all(values):
        raise QueryError(f"the filter {expression!r} has an empty value", hint=_EXAMPLES)
    return values


def _number(text: str, expression: str) -> float:
    try:
        number = float(text) if "_" not in text else math.nan  # float() takes 1_000, nobody means it
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise QueryError(f"the filter {expression!r} needs a number, not {text!r}", hint="for example price<49.95")
    return number


def _spellings(value: str) -> list[str]:
    """Return how an object may hold the value: it is matched as text, so 17 and 17.0 are two values.

    >>> _spellings("17"), _spellings("17.0"), _spellings("red")
    (['17', '17.0'], ['17.0', '17'], ['red'])
    """
    if re.fullmatch(r"-?[0-9]+", value):
        return [value, f"{value}.0"]
    if re.fullmatch(r"-?[0-9]+\.0", value):
        return [value, value.removesuffix(".0")]
    return [value]


def _is_path(field: str, catalog: CatalogSettings) -> bool:
    return any(field.startswith(f"{name}.") and len(field) > len(name) + 1 for name in catalog.objects)


def _unknown(field: str, expression: str, catalog: CatalogSettings) -> QueryError:
    names = filterable_fields(catalog)
    close = get_close_matches(field, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return QueryError(
        f"the filter {expression!r} names {field!r}, which is not a filterable field",
        hint=f"{guess}filterable: {', '.join(names)}",
    )
