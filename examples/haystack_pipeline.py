"""A Haystack pipeline that finds products and writes the prompt for a shop assistant; put your generator behind it.

    pip install 'lrem-os[all,haystack]'
    python examples/haystack_pipeline.py "what do I put under a hot pot"

Configuration comes from lrem-os.yaml here and from LREM_OS__SECTION__KEY, as for the command line.
"""

from __future__ import annotations

import sys

from haystack import Pipeline
from haystack.components.builders import PromptBuilder

from lrem_os.errors import LremError
from lrem_os.integrations.haystack import LremRetriever

TEMPLATE = """\
Recommend one of these products for: {{ query }}
{% for product in documents %}
- {{ product.meta.title }} ({{ product.id }})
{%- endfor %}
"""


def build() -> Pipeline:
    """Return the pipeline: query → products → prompt."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", LremRetriever(top_k=3))
    pipeline.add_component("prompt", PromptBuilder(TEMPLATE, required_variables=["query", "documents"]))
    pipeline.connect("retriever.documents", "prompt.documents")
    return pipeline


def main(query: str) -> int:
    """Print the prompt for a query."""
    try:
        answer = build().run({"retriever": {"query": query}, "prompt": {"query": query}})
    except LremError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(answer["prompt"]["prompt"])
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "what do I put under a hot pot"))
