"""JSON that keeps what it does not understand: numbers as they were written, and bytes beside the one added member.

What OpenSearch would refuse (a key twice, text after the end) or what may be no JSON at all is not read: the caller
sends such bytes on as they are, and OpenSearch says what is wrong with them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_BLANK = re.compile(r"[ \t\n\r]*")  # JSON's white space, and no other


class NotReadable(ValueError):
    """The bytes are no JSON that can be read and written again without loss."""


class Number(str):
    """A number as it was written: ``1.10``, ``1e400``, ``18446744073709551616``."""

    __slots__ = ()


def read(data: bytes) -> Any:
    """Return the value, its numbers as ``Number``.

    >>> write(read(b'{"a": 1.10, "b": [18446744073709551616]}'))
    b'{"a":1.10,"b":[18446744073709551616]}'

    Raises:
        NotReadable: No JSON in UTF-8, a key twice in one object, or nested too deep to be read at all.
    """
    try:
        return _EXACT.decode(data.decode())
    except RecursionError:
        raise NotReadable("nested too deep") from None
    except ValueError as exc:  # UnicodeDecodeError and JSONDecodeError are
        raise NotReadable(str(exc)) from exc


def write(value: Any) -> bytes:
    """Return the bytes of a value.

    Raises:
        NotReadable: A string in it is no Unicode (half of a surrogate pair).
    """
    try:
        return orjson.dumps(value, default=_as_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError as exc:
        raise NotReadable(str(exc)) from exc


def is_text(value: str) -> bool:
    """Return whether a string is Unicode: half of a surrogate pair, which JSON can hold, is not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def depth(value: Any) -> int:
    """Return how deep objects and arrays are nested; 0 for a plain value. Not recursive."""
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def with_ext(data: bytes, additions: dict[str, Any]) -> bytes:
    """Return an answer with members added under its top-level ``ext``, every other byte as it was.

    What is no JSON object is returned as it is.

    >>> with_ext(b'{"took": 1}', {"lrem": {"route": "direct"}})
    b'{"took": 1,"ext":{"lrem":{"route":"direct"}}}'
    """
    start, end = data.lstrip()[:1], data.rfind(b"}")
    if start != b"{" or end < 0 or data[end + 1 :].strip():
        return data
    if b'"ext"' in data:
        try:
            whole = read(data)
        except NotReadable:
            return data
        if "ext" in whole:
            return write(whole | {"ext": {**whole["ext"], **additions}}) if isinstance(whole["ext"], dict) else data
    comma = b"" if data[:end].rstrip().endswith(b"{") else b","
    return data[:end] + comma + b'"ext":' + orjson.dumps(additions) + data[end:]


def split_array(data: bytes, name: str) -> tuple[bytes, list[bytes], bytes] | None:
    """Return what stands before an array, its elements, and what follows; ``None`` if there is no such member.

    >>> split_array(b'{"took":1,"responses":[{"a":1}, {"b":2}]}', "responses")
    (b'{"took":1,"responses":[', [b'{"a":1}', b'{"b":2}'], b']}')
    """
    try:
        text = data.decode()
        start = _start_of(text, name)
        if start is None or text[start] != "[":
            return None
        elements, end = _elements(text, start)
    except (ValueError, IndexError, RecursionError):
        return None
    return text[: start + 1].encode(), [element.encode() for element in elements], text[end:].encode()


def _start_of(text: str, name: str) -> int | None:
    """Return where the value of a top-level member begins."""
    at = _skip(text, _skip(text, 0) + 1)  # behind the brace
    while text[at] == '"':
        key, at = _PLAIN.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if key == name:
            return at
        at = _skip(text, _PLAIN.raw_decode(text, at)[1])
        if text[at] != ",":
            return None
        at = _skip(text, at + 1)
    return None


def _elements(text: str, start: int) -> tuple[list[str], int]:
    """Return the elements of the array that begins at ``start``, and where its bracket closes."""
    elements, at = [], _skip(text, start + 1)
    while text[at] != "]":
        end = _PLAIN.raw_decode(text, at)[1]
        elements.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return elements, at


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return at if match is None else match.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _as_written(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


_PLAIN = json.JSONDecoder()
_EXACT = json.JSONDecoder(object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_no_number)
