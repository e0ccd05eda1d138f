"""Names of index fields, from the catalog's mapping. The one place that knows them.

A catalog row is indexed as it stands. Beside its own fields the document holds ``<object>_text`` (an object field that
is also searched, rendered to text), the vector, and the hash that tells whether it changed.
"""

from __future__ import annotations

from lrem_os.config import CatalogSettings

HASH_FIELD = "lrem_hash"
"""Keyword: hash of what was embedded and indexed."""


def text_field(catalog: CatalogSettings, name: str) -> str:
    """Return the analysed field that holds a catalog field's text.

    >>> text_field(CatalogSettings(), "title"), text_field(CatalogSettings(), "attributes")
    ('title', 'attributes_text')
    """
    return f"{name}_text" if name in catalog.objects else name


def keyword_field(catalog: CatalogSettings, name: str) -> str:
    """Return the exact-value field of a catalog field that is filtered by value.

    >>> keyword_field(CatalogSettings(), "brand"), keyword_field(CatalogSettings(text={"title": 1}), "brand")
    ('brand.keyword', 'brand')
    """
    return f"{name}.keyword" if name in catalog.text else name


def weighted_text_fields(catalog: CatalogSettings) -> list[str]:
    """Return the analysed fields with their BM25 weights, as ``multi_match`` wants them.

    >>> weighted_text_fields(CatalogSettings(text={"title": 3, "brand": 1.5}))
    ['title^3', 'brand^1.5']
    """
    return [f"{text_field(catalog, name)}^{weight:g}" for name, weight in catalog.text.items()]
