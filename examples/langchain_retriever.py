"""A LangChain chain that finds products and writes the prompt for a shop assistant; put your model behind it.

    pip install 'lrem-os[all,langchain]'
    python examples/langchain_retriever.py "what do I put under a hot pot"

Configuration comes from lrem-os.yaml here and from LREM_OS__SECTION__KEY, as for the command line.
"""

from __future__ import annotations

import sys

from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnablePassthrough

from lrem_os.errors import LremError
from lrem_os.integrations.langchain import LremRetriever

PROMPT = PromptTemplate.from_template("Recommend one of these products for: {query}\n\n{products}\n")


def as_list(found: list[Document]) -> str:
    """Return products as lines."""
    return "\n".join(f"- {product.metadata['title']} ({product.id})" for product in found)


def build() -> Runnable:
    """Return the chain: query → products → prompt."""
    return {"products": LremRetriever(top_k=3) | as_list, "query": RunnablePassthrough()} | PROMPT


def main(query: str) -> int:
    """Print the prompt for a query."""
    try:
        print(build().invoke(query).to_string())
    except LremError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "what do I put under a hot pot"))
