"""What the cluster holds of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrem_os.errors import IndexMismatch, RequestRejected, Unsupported
from lrem_os.search.client import ServerInfo
from lrem_os.search.ml_commons.bodies import is_ours
from lrem_os.search.ml_commons.cluster import Cluster

OLDEST_VERSION = (3, 5, 0)  # first with remote models that tell queries from passages
_PLUGINS = {"opensearch-ml": "ML Commons", "opensearch-neural-search": "neural-search"}


@dataclass(frozen=True, slots=True)
class Found:
    """Objects of ours; those of ML Commons by id, oldest first.

    Args:
        connectors: Connectors of our name.
        group: Id and content of the model group.
        models: What is in the group.
        search_pipeline: Its body.
        ingest_pipeline: Its body.
    """

    connectors: Mapping[str, Mapping[str, Any]]
    group: tuple[str, Mapping[str, Any]] | None
    models: Mapping[str, Mapping[str, Any]]
    search_pipeline: Mapping[str, Any] | None
    ingest_pipeline: Mapping[str, Any] | None

    @property
    def model_id(self) -> str | None:
        """The model that counts: the one that the search pipeline names, else the oldest."""
        named = () if self.search_pipeline is None else _named_models(self.search_pipeline)
        return next((model_id for model_id in (*named, *self.models) if model_id in self.models), None)

    @property
    def ingest_field(self) -> str | None:
        """The text field that the ingest pipeline embeds."""
        processors = [] if self.ingest_pipeline is None else self.ingest_pipeline.get("processors", [])
        maps = [one["text_embedding"].get("field_map", {}) for one in processors if "text_embedding" in one]
        return next((str(name) for fields in maps for name in fields), None)


def look(cluster: Cluster, name: str) -> Found:
    """Return what is there.

    Raises:
        RequestRejected: Something has our name that `lrem-os connect` did not make.
    """
    named = {"term": {"name.keyword": name}}
    connectors = {key: row for key, row in cluster.find("connectors", named).items() if is_ours(row)}
    groups = cluster.find("model_groups", named)
    group = next(iter(groups.items()), None)
    models = {} if group is None else cluster.find("models", {"term": {"model_group_id": group[0]}})
    search = (cluster.read(f"/_search/pipeline/{name}") or {}).get(name)
    ingest = (cluster.read(f"/_ingest/pipeline/{name}") or {}).get(name)
    for what, body in (("model group", group and group[1]), ("search pipeline", search), ("ingest pipeline", ingest)):
        if body is not None and not is_ours(body):
            raise RequestRejected(
                f"the cluster has a {what} {name!r} that lrem-os did not make",
                hint="set connect.name to a name that is free, or delete it",
            )
    return Found(connectors, group, {key: row for key, row in models.items() if is_ours(row)}, search, ingest)


def check_server(info: ServerInfo) -> None:
    """Raise ``Unsupported`` unless the cluster can ask the service."""
    version = ".".join(map(str, info.version))
    if info.version < OLDEST_VERSION:
        raise Unsupported(
            f"OpenSearch {version} cannot tell a remote model whether a text is a query or a passage: 3.5 is the first",
            hint="upgrade the cluster, or send searches through `lrem-os serve`, which needs no ML Commons",
        )
    for plugin, shown in _PLUGINS.items():
        if info.plugins is not None and plugin not in info.plugins:
            raise Unsupported(
                f"the cluster has no {shown} (plugin {plugin})",
                hint="install the plugin on every node; the local node: `lrem-os node up --with ml`",
            )


def dimension_of(cluster: Cluster, index: str, vector_field: str) -> int:
    """Return the length of an index's vectors. Raises ``IndexMismatch`` when the field holds none."""
    answer = cluster.read(f"/{index}/_mapping/field/{vector_field}") or {}
    fields = [row for found in answer.values() for row in found["mappings"].values()]
    mapping: Mapping[str, Any] = next((leaf for row in fields for leaf in row["mapping"].values()), {})
    if mapping.get("type") != "knn_vector" or "dimension" not in mapping:
        raise IndexMismatch(
            f"field {vector_field!r} of index {index!r} holds no vectors",
            hint="set index.vector_field to the k-NN field, or load a catalog: `lrem-os ingest`",
        )
    return int(mapping["dimension"])


def _named_models(pipeline: Mapping[str, Any]) -> list[str]:
    enrichers = [one.get("neural_query_enricher", {}) for one in pipeline.get("request_processors", [])]
    return [str(model) for one in enrichers for model in one.get("neural_field_default_id", {}).values()]
