"""From a catalog row to the text that is embedded, and to the hash that tells whether it changed. Pure."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

TEMPLATE_VERSION = "fields-1"
"""Version of ``embedded_text``: part of the index fingerprint, raised whenever the text for the same row changes."""

_THINKING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


def render_value(value: object) -> str:
    """Return a value as words: lists joined by commas, objects as ``key value`` pairs, underscores as blanks.

    >>> render_value({"product_type": "Notebook", "touchscreen": False, "ports": ["HDMI", "USB"], "weight": 2.0})
    'product type Notebook, touchscreen no, ports HDMI, USB, weight 2'
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else ""
    parts = []  # plain loops: one frame a level, so that the deepest JSON does not exhaust the stack
    if isinstance(value, Mapping):
        for key, item in value.items():
            if text := render_value(item):
                parts.append(f"{str(key).replace('_', ' ').strip()} {text}")
        return ", ".join(parts)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            if text := render_value(item):
                parts.append(text)
        return ", ".join(parts)
    return str(value).strip()


def embedded_text(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Return the text the embedding model reads: one line per field that has something to say, in the order given.

    NUL is left out: tokenizers disagree about it.

    >>> row = {"title": "Red bag", "brand": None, "price": 3, "attributes": {"color": "red"}}
    >>> embedded_text(row, ("title", "brand", "attributes"))
    'Red bag\\ncolor red'
    """
    lines = (render_value(row.get(field)).replace("\x00", " ") for field in fields)
    return "\n".join(line for line in lines if line)


def normalise_query(text: str) -> str:
    r"""Return a query as the models read it and as caches know it: Unicode NFC, one blank for every run of white space.

    Case stays: "US" is not "us" to every model. Lone surrogates and NUL, which no tokenizer agrees about, go.

    >>> normalise_query("  Cafe\u0301   au\tlait ")
    'Café au lait'
    """
    sound = text.encode("utf-8", "replace").decode().replace("\x00", " ")
    return " ".join(unicodedata.normalize("NFC", sound).split())


def without_thinking(answer: str) -> str:
    """Return what a language model answers, without what it thought first.

    Some templates put the opening tag into the prompt: then an answer holds the closing one alone.

    >>> [without_thinking(answer) for answer in ("<think>3?</think>1", "3, no.</think>1", "1", "<think>3 or")]
    ['1', '1', '1', '']
    """
    return _THINKING.sub("", answer).rpartition("</think>")[2]


def content_hash(text: str, source: Mapping[str, Any]) -> str:
    """Return 32 hex digits that change when the embedded text or the indexed body changes."""
    digest = hashlib.blake2b(orjson.dumps(source, option=orjson.OPT_SORT_KEYS), digest_size=16)
    digest.update(b"\x00" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
