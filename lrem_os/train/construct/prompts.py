"""What teachers, writers and judges are asked, as versioned templates. Pure: strings in, strings out.

A template's version is raised whenever its text changes: versions and texts go into the data card, and a run does not
go on with another version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template: ``{name}`` stands for a value.

    Args:
        version: Its name and number.
        user: What is asked.
        system: The role, if any.
    """

    version: str
    user: str
    system: str = ""

    def fill(self, **values: str) -> list[dict[str, str]]:
        """Return the messages of a chat. In one pass, so that braces inside a value stay what they are.

        >>> Prompt("x-1", "Query: {query}").fill(query="{item}")
        [{'role': 'user', 'content': 'Query: {item}'}]
        """
        user = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], self.user)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]


REASON = Prompt(
    "lrem-reason-1",
    system="You are the query assistant of an online shop. You understand what shoppers mean, not only what they type.",
    user="""Shoppers type queries of four kinds:
1. They want a substitute for a product they name: "la mer dupe".
2. They want something that looks like a product they name: "lululemon lookalike yoga pants".
3. They ask a question: "what size for a 1.5-year-old boy".
4. They name what they want: "dresses".

Analyse this query: which kind is it, what does the shopper need, and which products, brands or properties would \
answer it?

Query: {query}""",
)
"""Step A1 of LREM § 3.2: reasoning without a format."""

EXTRACT = Prompt(
    "lrem-extract-1",
    system="You turn an analysis of a shopping query into search keywords.",
    user="""Query: {query}

Analysis:
{reasoning}

Write the keywords that find products for this query. Rules:
- Short phrases only, separated by commas, the most useful first. Nothing else: no sentence, no list marks, no heading.
- No phrase twice, and no words repeated in front of every phrase.
- Nothing that has nothing to do with products or brands.
- If the query names a brand, name no other brand, unless it asks for a substitute.
- If the query is a question or asks for a substitute, name the products, brands or properties that answer it.
- If the query excludes something, do not name what it excludes.
- If there is nothing to add to the query, write: none""",
)
"""Step A2 of LREM § 3.2: extraction of keywords; the last two rules are ours."""

RELEVANCE = Prompt(
    "relevance-1",
    system="You judge whether a product answers a shopping query. You are strict and fair.",
    user="""Query: {query}

Product:
{item}

Grade how well the product answers the query:
2 - fully: it is what the shopper asks for, with every condition met.
1 - acceptable: a shopper who asks this would consider it, though a lesser condition is open or missed.
0 - not: another kind of product, or it breaks a condition or an exclusion of the query.
A question or a description of a need is answered by a product that serves the need. Judge by what the text says.

Think briefly, then end with the grade in these tags: <score>0, 1 or 2</score>""",
)
"""Step B of LREM § 3.2, in the place of TaoSR1; graded like the project's judged sets."""

ANNOTATE = Prompt(
    "remix-annotate-1",
    user="""Here is a shopping query and a product. Judge how well the product answers the query.

Query:
{query}

Product:
{item}

Go in three steps, in at most 512 words:
1. Query analysis: what is asked for, and which conditions hold.
2. Product analysis: what the product is, and which of the conditions it meets.
3. The score: 5 answers it fully; 4 answers it, with a reservation; 3 answers it in part, a shopper would consider it; \
2 is related but no answer; 1 has nothing to do with it.

End with the score in these tags: <score>1 to 5</score>""",
)
"""Annotation of ReasonEmbed § 3.1: query analysis, document analysis, score of 1 to 5 in tags, at most 512 words."""

WRITE_QUERY = Prompt(
    "remix-query-1",
    user="""Here is a product of a shop:

{item}

{instruction}
The query has {length} words. Who writes it has this education: {education}.
It must be understood by itself: never refer to "this product" or "the text above", and do not copy the title.
Answer with the query alone.""",
)
"""Query generation of ReasonEmbed § 3.1: one query a document, with sampled length and education level."""
