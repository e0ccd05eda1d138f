"""What the models read, as versioned templates. Pure: strings in, strings out."""

from __future__ import annotations

from collections.abc import Sequence

REASON_TEMPLATE_VERSION = "keywords-1"
"""Version of ``reason_prompt`` and ``reason_answer``; raised whenever they change, since adapters are trained on it."""


def reason_prompt(query: str) -> str:
    """Return what a base reasoner continues with keywords (LREM § 3.2, without the chat and the three examples).

    >>> reason_prompt("la mer dupe")
    'Shopping query: la mer dupe\\nProducts to look for:'
    """
    return f"{REASON_PREFIX}{one_line(query)}\nProducts to look for:"


REASON_PREFIX = "Shopping query: "
"""What every reasoning prompt begins with: its key/value cache is computed once."""


def reason_answer(keywords: str) -> str:
    """Return the continuation that stands for these keywords; empty keywords are the empty string.

    >>> reason_answer("moisturiser, barrier cream")
    ' moisturiser, barrier cream'
    """
    keywords = one_line(keywords)
    return f" {keywords}" if keywords else ""


def one_line(text: str) -> str:
    """Return the text with every run of white space as one blank: a line break would end the template early."""
    return " ".join(text.split())


CHAT_TEMPLATE_VERSION = "keywords-chat-1"
"""Version of ``reason_instruction``."""


def reason_instruction(query: str) -> str:
    """Return what a chat model is asked, before its own chat template is put around it (LREM § 3.3, shortened)."""
    return (
        "Think about what a shopper wants who searched a shop for the query below. Name the products, types, brands or"
        " attributes to look for: up to eight short phrases, separated by commas, on one line, nothing else. Leave out"
        f" the words of the query itself.\nQuery: {one_line(query)}"
    )


UNIFIED_TEMPLATE_VERSION = "unified-1"
"""Version of the templates below; part of the identity of every vector that is made with them."""

THINK, END_THINK, EMB = UNIFIED_TOKENS = ("<think>", "</think>", "<emb>")
"""What a unified model adds to its vocabulary: its vector is the last hidden state at ``<emb>`` (LREM § 3.3)."""

UNIFIED_QUERY_PREFIX = "Shopping query: "
UNIFIED_ITEM_PREFIX = "Product: "


def unified_query(query: str) -> str:
    """Return a query that is embedded at once.

    >>> unified_query("la mer dupe")
    'Shopping query: la mer dupe<emb>'
    """
    return f"{UNIFIED_QUERY_PREFIX}{one_line(query)}{EMB}"


def unified_prompt(query: str) -> str:
    """Return what a unified model continues with keywords and ``</think>``.

    >>> unified_prompt("la mer dupe")
    'Shopping query: la mer dupe<think>'
    """
    return f"{UNIFIED_QUERY_PREFIX}{one_line(query)}{THINK}"


def unified_item(text: str) -> str:
    """Return an item, which is always embedded at once.

    >>> unified_item("Red bag")
    'Product: Red bag<emb>'
    """
    return f"{UNIFIED_ITEM_PREFIX}{text}{EMB}"


COMBINE_TEMPLATE_VERSION = "query-keywords-1"
"""Version of ``query_with_keywords``."""


def query_with_keywords(query: str, keywords: Sequence[str]) -> str:
    """Return what an embedder reads where query and keywords are embedded as one text (LREM § 3.2, step B).

    >>> query_with_keywords("la mer dupe", ["moisturiser", "barrier cream"]), query_with_keywords("red bag", [])
    ('la mer dupe (moisturiser, barrier cream)', 'red bag')
    """
    return f"{query} ({', '.join(keywords)})" if keywords else query
