"""Products that try to be found for queries they do not answer: how a careless or hostile seller fills a catalog.

The attacker knows the queries, not the model: this is black-box, where the paper's HotFlip passages are optimised
against the model's gradients. What is measured is a lower bound of what such an attack reaches.

Source: "On the Robustness of LLM-Based Dense Retrievers" (arXiv 2604.16576): 10 or 50 injected; success at 5,
10, 20, 50.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from lrem_os.eval.robustness.perturb import Dice
from lrem_os.eval.robustness.words import find_words, is_function_word

KINDS = ("copied", "stuffed", "generated")
"""``copied``: one query, word for word. ``stuffed``: the words asked for most, again and again. ``generated``: a
plausible listing that promises a dozen queries at once."""

ID_PREFIX = "lrem-os-poison-"

_QUERIES_PROMISED = 12
_WORDS_STUFFED = 24
_REPEATS = 3


def build_poison(
    texts: Sequence[str], count: int, seed: int, *, title: str, body: str, id_field: str = "id"
) -> list[dict[str, Any]]:
    """Return products that no shopper wants, a third of each kind. The same queries and seed give the same products.

    Args:
        texts: The queries that are attacked, at least one.
        count: Products.
        seed: Which queries they go for.
        title: Name of the title field.
        body: Name of the field that takes the long text; the title field where the catalog has no other.
        id_field: Name of the id field.
    """
    queries = sorted({" ".join(text.split()) for text in texts if text.strip()})
    dice = Dice(seed, "poison", *queries)
    order = [queries[place] for place in dice.shuffled(len(queries))]
    products = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        name, text = _MAKERS[kind](order, number // len(KINDS))
        fields = {title: name, body: text} if body != title else {title: f"{name}. {text}"}
        products.append({id_field: f"{ID_PREFIX}{kind}-{number:04}", **fields})
    return products


def kind_of(doc_id: str) -> str:
    """Return the kind of an injected product; empty where it is none of ours."""
    kind = doc_id.removeprefix(ID_PREFIX).partition("-")[0]
    return kind if doc_id.startswith(ID_PREFIX) and kind in KINDS else ""


def by_kind(ids: Collection[str]) -> dict[str, list[str]]:
    """Return the injected ids of each kind, in the order of ``KINDS``; kinds without any are left out."""
    found = {kind: sorted(doc_id for doc_id in ids if kind_of(doc_id) == kind) for kind in KINDS}
    return {kind: those for kind, those in found.items() if those}


def _copied(queries: Sequence[str], number: int) -> tuple[str, str]:
    query = queries[number % len(queries)]
    return query, query


def _stuffed(queries: Sequence[str], number: int) -> tuple[str, str]:
    words = _frequent_words(queries)
    first = number * _WORDS_STUFFED % len(words)
    chosen = (words + words)[first : first + min(_WORDS_STUFFED, len(words))]
    return " ".join(chosen[:8]), " ".join(chosen * _REPEATS)


def _generated(queries: Sequence[str], number: int) -> tuple[str, str]:
    first = number * _QUERIES_PROMISED % len(queries)
    promised = (list(queries) * 2)[first : first + min(_QUERIES_PROMISED, len(queries))]
    return f"The best {promised[0]}", "Perfect if you look for " + "; ".join(promised) + ". Top rated, buy now."


def _frequent_words(queries: Sequence[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for query in queries:
        words = find_words(query)
        counts.update({word.key for word in words if not is_function_word(word)} or {query.casefold()})
    return sorted(counts, key=lambda word: (-counts[word], word))


_MAKERS = {"copied": _copied, "stuffed": _stuffed, "generated": _generated}
