"""A LangChain retriever: ``LremRetriever().invoke("la mer dupe")``.

Source: LangChain documentation, "How to create a custom Retriever" (langchain-core 1).
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field, PrivateAttr

from lrem_os.integrations.shop import Shop
from lrem_os.types import Mode


class LremRetriever(BaseRetriever):
    """Finds products with lrem-os.

    A document has the product's id, the text that its embedding is of, and the stored fields as ``metadata``.
    ``invoke(query, top_k=3, filters=["price<50"])`` overrides what was given before.

    Raises:
        ConfigError: The configuration cannot be used.
    """

    config: str | None = Field(None, description="Configuration file; none: lrem-os.yaml here, if it is there.")
    overrides: tuple[str, ...] = Field((), description="section.key=value, as for --set.")
    mode: Mode | None = Field(None, description="bm25, vector or hybrid; none: search.mode.")
    reason: bool = Field(False, description="Whether every query is reasoned about first.")
    filters: tuple[str, ...] = Field((), description="Expressions that every hit must match (price<50).")
    top_k: int = Field(10, ge=1, description="Documents a query.")
    _shop: Shop = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - pydantic's signature
        """Read the configuration."""
        self._shop = Shop(self.config, self.overrides, self.mode, reason=self.reason)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain's signature
        top_k: int | None = None,
        filters: list[str] | None = None,
    ) -> list[Document]:
        ranking = self._shop.ask(
            query,
            top_k=self.top_k if top_k is None else top_k,
            filters=self.filters if filters is None else filters,
        )
        return [
            Document(id=hit.doc_id, page_content=self._shop.content(hit), metadata=self._shop.meta(hit, ranking))
            for hit in ranking.hits
        ]
