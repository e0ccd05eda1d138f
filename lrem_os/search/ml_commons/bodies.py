"""What the cluster should hold, as the bodies of the requests that make it. Pure.

Everything that is made carries ``MARK`` at the beginning of its description: what does not is left alone. Descriptions
in ML Commons may hold letters, digits, blanks and ``.,!?():@-_'/"``, nothing else.

Source: OpenSearch 3.6 documentation, "Connector blueprints", "Register model", "Neural query enricher" and "Text
embedding".
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK = "lrem-os connect"
_NO_KEY = "none"  # ML Commons wants a credential; a service without keys does not look at it
_KEY_MARK = re.compile(r"\(key ([0-9a-f]+):([0-9a-f]+)\)$")
# Texts and their type come from neural-search as they are. Without a parameter of our own there is none that the text
# of a query could name: ML Commons fills in what stands in a text as well.
_REQUEST = '{ "input": ${parameters.texts}, "input_type": "${parameters.content_type}", "model": "lrem-os" }'


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Args:
        name: Of connector, group, model and pipelines.
        url: Of the service, without ``/v1``.
        key: Shown to the service; ``None``: it wants none.
        index: The index itself, never an alias.
        vector_field: Its k-NN field.
        dimension: Length D of a vector.
        fingerprint: Of the model that made the index's vectors; empty when that is not known.
        read_timeout_s: How long the cluster waits for the service.
        fusion: ``phase_results_processors`` of a hybrid query.
        batch: Texts in one request at ingest.
        ingest_field: Text field that the ingest pipeline embeds; ``None``: no such pipeline is asked for.
        is_default: Whether searches of the index go through the search pipeline.
    """

    name: str
    url: str
    key: str | None
    index: str
    vector_field: str
    dimension: int
    fingerprint: str
    read_timeout_s: int
    fusion: Mapping[str, Any]
    batch: int
    ingest_field: str | None = None
    is_default: bool = False

    @property
    def endpoint(self) -> str:
        """What the connector calls."""
        return f"{self.url}/v1/embeddings"


def connector_body(wanted: Wanted) -> dict[str, Any]:
    """Return the connector, all but the mark of its key and the key itself."""
    action = {
        "action_type": "PREDICT",
        "method": "POST",
        "url": wanted.endpoint,
        "headers": {"Authorization": "Bearer ${credential.key}"},
        "request_body": _REQUEST,
        "post_process_function": "connector.post_process.openai.embedding",
    }
    return {
        "name": wanted.name,
        "protocol": "http",
        "actions": [action],
        # connection_timeout stays the server's: its unit changed from one version to another
        "client_config": {"max_connection": 100, "read_timeout": wanted.read_timeout_s},
    }


def with_key(body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """Return a connector with its key, and with a mark by which ``same_key`` knows it again.

    The cluster encrypts the key and never shows it. The mark is salted and slow to guess from (scrypt).
    """
    mark = ""
    if key is not None:
        salt = secrets.token_hex(8)
        mark = f" (key {salt}:{_digest(key, salt)})"
    return {
        **body,
        "version": 1,
        "description": f"{MARK}: asks the service for vectors{mark}",
        "credential": {"key": key or _NO_KEY},
    }


def same_key(description: str, key: str | None) -> bool:
    """Return whether a connector with this description was made with this key."""
    match = _KEY_MARK.search(description)
    if match is None or key is None:
        return match is None and key is None
    return hmac.compare_digest(match[2], _digest(key, match[1]))


def model_body(wanted: Wanted, group_id: str, connector_id: str) -> dict[str, Any]:
    """Return the model. It is asymmetric: ML Commons then tells the service whether a text is a query or a passage."""
    of_index = f", as index fingerprint {wanted.fingerprint}" if wanted.fingerprint else ""
    return {
        "name": wanted.name,
        "function_name": "remote",
        "model_group_id": group_id,
        "connector_id": connector_id,
        "description": f"{MARK}: vectors of {wanted.dimension} numbers{of_index}",
        "model_config": {
            "model_type": "text_embedding",
            "embedding_dimension": wanted.dimension,
            "framework_type": "SENTENCE_TRANSFORMERS",
            "additional_config": {"space_type": "innerproduct", "is_asymmetric": True},
        },
    }


def search_pipeline_body(wanted: Wanted, model_id: str) -> dict[str, Any]:
    """Return the pipeline that gives our model to ``neural`` queries on our field, and fuses hybrid ones."""
    return {
        "description": f"{MARK}: our model for neural queries on {wanted.vector_field}; fuses hybrid queries",
        "request_processors": [{"neural_query_enricher": {"neural_field_default_id": {wanted.vector_field: model_id}}}],
        **wanted.fusion,
    }


def ingest_pipeline_body(wanted: Wanted, model_id: str, text_field: str) -> dict[str, Any]:
    """Return the pipeline that embeds a field of every document."""
    # no skip_existing: it would keep the vectors of a model that was replaced
    processor = {"model_id": model_id, "field_map": {text_field: wanted.vector_field}, "batch_size": wanted.batch}
    return {
        "description": f"{MARK}: embeds {text_field} as a passage into {wanted.vector_field}",
        "processors": [{"text_embedding": processor}],
    }


def holds(found: Any, wanted: Any) -> bool:
    """Return whether something has all that is wanted; what it has beside that does not matter.

    >>> holds({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"c": 2}]})
    True
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and holds(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted)


def is_ours(found: Mapping[str, Any]) -> bool:
    """Return whether `lrem-os connect` made it."""
    return str(found.get("description", "")).startswith(MARK)


def _digest(key: str, salt: str) -> str:
    return hashlib.scrypt(key.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=8).hex()
