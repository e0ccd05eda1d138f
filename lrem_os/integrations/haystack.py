"""A Haystack component: ``pipeline.add_component("retriever", LremRetriever())``.

Source: Haystack 2 documentation, "Creating Custom Components".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from haystack import Document, component, default_from_dict, default_to_dict

from lrem_os.integrations.shop import Shop
from lrem_os.types import Mode


@component
class LremRetriever:
    """Finds products with lrem-os; goes where Haystack's own retrievers go.

    A document has the product's id, the text that its embedding is of, the stored fields as ``meta``, and the score.

    Args:
        config: Configuration file; none: ``lrem-os.yaml`` in the working directory, if it is there.
        overrides: ``section.key=value``, as for ``--set``.
        mode: ``bm25``, ``vector`` or ``hybrid``; none: ``search.mode``.
        reason: Whether every query is reasoned about first.
        filters: Expressions that every hit must match (``brand=Sony``, ``price<50``).
        top_k: Documents a query.

    Raises:
        ConfigError: The configuration cannot be used.
    """

    def __init__(
        self,
        config: str | None = None,
        overrides: Sequence[str] = (),
        mode: str | None = None,
        reason: bool = False,
        filters: Sequence[str] = (),
        top_k: int = 10,
    ) -> None:
        self._told = {
            "config": config,
            "overrides": list(overrides),
            "mode": mode,
            "reason": reason,
            "filters": list(filters),
            "top_k": top_k,
        }
        self._filters, self._top_k = tuple(filters), top_k
        self._shop = Shop(config, overrides, cast("Mode | None", mode), reason=reason)

    def warm_up(self) -> None:
        """Connect and load the models now, not at the first query. Raises what ``open_retriever`` raises."""
        self._shop.open(self._filters)

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: list[str] | None = None, top_k: int | None = None) -> dict[str, list[Document]]:
        """Return the products found, best first.

        Args:
            query: What the shopper typed.
            filters: In place of those given before.
            top_k: In place of that given before.

        Raises:
            LremError: See ``lrem_os.open_retriever``.
        """
        ranking = self._shop.ask(
            query,
            top_k=self._top_k if top_k is None else top_k,
            filters=self._filters if filters is None else filters,
        )
        return {
            "documents": [
                Document(
                    id=hit.doc_id,
                    content=self._shop.content(hit),
                    meta=self._shop.meta(hit, ranking),
                    score=hit.score,
                )
                for hit in ranking.hits
            ]
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved pipeline holds of this; no secrets: those stay in the environment."""
        return default_to_dict(self, **self._told)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LremRetriever:
        """Return the component that a saved pipeline holds."""
        return default_from_dict(cls, data)
