"""A vector under the names of the indices that it fits. Pure.

In place of ``knn`` stands a ``bool`` with one branch a model: its vector, and a filter on ``_index`` that names the
indices whose vectors are from this model. An index that none of them names, made or switched to while the search was
on its way, is searched by the words. A shard drops the branches that are not for it before it looks at their vectors
(OpenSearch rewrites a filter on ``_index`` that cannot match to nothing), so their dimensions may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.query_plugin.engine.reading import Reading

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ByModel:
    """What several models made of the same texts.

    Args:
        holders: By model, the indices whose vectors are from it.
        readings: By model, the readings by their text.
    """

    holders: Mapping[str, Sequence[str]]
    readings: Mapping[str, Mapping[str, Reading]]

    def clause(self, text: str, rest: Body, vector_field: str, words: Body | None) -> Body:
        """Return what asks every index with the vector of its own model.

        Args:
            text: That was read.
            rest: Of the ``knn`` clause, beside its vector; ``_name`` is put on the whole.
            vector_field: The k-NN field.
            words: Stands where there is no vector that fits; ``None``: nothing does, for the words are searched beside.
        """
        named = {"_name": rest["_name"]} if "_name" in rest else {}
        rest = {key: value for key, value in rest.items() if key != "_name"}
        branches: list[Body] = []
        for model, names in self.holders.items():
            reading = self.readings[model][text]
            inner = words
            if reading.vector is not None:
                inner = {"knn": {vector_field: {"vector": list(reading.vector), **rest}}}
            if inner is not None:
                branches.append({"bool": {"must": [inner], "filter": [_names(names)]}})
        if words is not None:
            everyone = [name for names in self.holders.values() for name in names]
            branches.append({"bool": {"must": [words], "must_not": [_names(everyone)]}} if everyone else words)
        if not branches:
            return {"match_none": named}
        return {"bool": {"should": branches, **named}}


def replace_knn(node: Any, vector_field: str, make: Callable[[Body], Body]) -> Any:
    """Return a body of our own in which every ``knn`` clause on the vector field is what is made of its inside."""
    if isinstance(node, list):
        return [replace_knn(item, vector_field, make) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1 and isinstance(node.get("knn"), dict) and vector_field in node["knn"]:
        return make(node["knn"][vector_field])
    return {key: replace_knn(value, vector_field, make) for key, value in node.items()}


def _names(names: Sequence[str]) -> Body:
    return {"terms": {"_index": list(names)}}
