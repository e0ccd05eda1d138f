"""Settings of the query side: the router, the service, and what the cluster knows of it. Part of ``config.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from lrem_os.config_fields import Section


class RouteSettings(Section):
    """Which queries are reasoned about: the gate that scores them, and the budget that it keeps."""

    gate: str = Field(
        "default", min_length=1, description="File of a gate, from `lrem-os train router`; default: the one that ships."
    )
    budget: Literal["share", "fixed", "price"] = Field(
        "share",
        description="share: at most route.share of the queries; fixed: from route.threshold on; price: where the"
        " expected gain is worth the time.",
    )
    share: float = Field(0.3, ge=0, le=1, description="Share of the queries that is reasoned about at most.")
    floor: float = Field(
        0.1, ge=0, le=1, description="With a share: a score below this is never reasoned about, whatever is left of it."
    )
    window: int = Field(1000, ge=10, le=1_000_000, description="Last scores that the share is taken of.")
    hysteresis: float = Field(
        0.1, ge=0, le=1, description="The threshold moves when the share is off by more than this part of itself."
    )
    threshold: float = Field(0.5, ge=0, le=1, description="With a fixed budget: the least score.")
    price: float = Field(
        0.1, ge=0, description="With a price: gain (nDCG@10 of this query) that a second of the reasoner must bring."
    )
    cost_ms: float = Field(50.0, gt=0, description="With a price: what reasoning about a query takes, in milliseconds.")
    allow: tuple[str, ...] = Field((), description="Queries that are always reasoned about; * stands for anything.")
    deny: tuple[str, ...] = Field((), description="Queries that never are; wins over allow.")
    precomputed: Path | None = Field(None, description="File of `lrem-os precompute`: these queries ask no model.")


class OtherModel(Section):
    """A model that the service knows beside the configured one."""

    model: dict[str, Any] = Field(description="A section model of its own: what is not named has its default.")
    reasoning: dict[str, Any] = Field({}, description="Keys of reasoning, in place of its own.")


class ServeSettings(Section):
    """The service between shop and OpenSearch: who may ask, how long it waits, what it takes on and remembers."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0: all of this machine's.")
    port: int = Field(8099, ge=0, le=65535, description="Port to listen on; 0: a free one.")
    cert_file: Path | None = Field(None, description="Certificate chain, PEM; with serve.key_file: serve TLS.")
    key_file: Path | None = Field(None, description="Its private key, PEM.")
    api_keys: SecretStr | None = Field(
        None,
        description="Keys, with commas between, one of which callers must show; better in LREM_OS__SERVE__API_KEYS.",
    )
    indices: tuple[str, ...] = Field(
        (), description="Indices that may be searched, * stands for anything; empty: index.name alone."
    )
    own_credentials: bool = Field(
        False, description="Search with search.user or search.token where the caller shows no credentials of their own."
    )
    max_body_bytes: int = Field(10_000_000, ge=1000, description="Longer request bodies are refused (413).")
    max_query_chars: int = Field(2000, ge=1, le=1_000_000, description="Longer query texts are refused (400).")
    max_depth: int = Field(100, ge=5, le=200, description="Bodies with our clause nested deeper are refused (400).")
    max_queries: int = Field(500, ge=1, le=100_000, description="More query texts in one request are refused (400).")
    max_requests: int = Field(512, ge=1, le=100_000, description="Requests at once; more are refused (429).")
    timeout_s: float = Field(30.0, gt=0, description="A request that takes longer, OpenSearch's part included: 504.")
    drain_s: float = Field(20.0, ge=0, description="After SIGTERM, how long requests under way may take to end.")
    keywords: bool = Field(True, description="Whether keywords of a reasoning enter the text legs of a hybrid query.")
    report: bool = Field(True, description="Whether answers tell under ext.lrem what was done.")
    ubi: bool = Field(False, description="Whether queries and events are written to ubi_queries and ubi_events.")
    ubi_sample: float = Field(1.0, ge=0, le=1, description="Share of the queries that is written; events all are.")
    ubi_hash: bool = Field(False, description="Write a keyed hash of what was typed in place of it, and no keywords.")
    ubi_hash_key: SecretStr | None = Field(
        None, description="Key of the hash, the same for all services; better in LREM_OS__SERVE__UBI_HASH_KEY."
    )
    ubi_queue: int = Field(10_000, ge=1, le=1_000_000, description="Records waiting to be written; more are dropped.")
    reason_deadline_ms: float = Field(
        150.0,
        gt=0,
        description="How long a request waits for reasoning before it goes direct; it may ask for more.",
    )
    embed_deadline_ms: float = Field(
        1000.0, gt=0, description="How long a request waits for its direct vector before it goes by text alone."
    )
    probe_deadline_ms: float = Field(
        100.0, gt=0, description="How long the router waits for signals of direct retrieval before it decides without."
    )
    reason_limit_s: float = Field(
        90.0, gt=0, description="A call of the reasoner that takes longer hangs; longer than reasoning.timeout_s."
    )
    embed_limit_s: float = Field(30.0, gt=0, description="A call of the embedder that takes longer hangs.")
    max_hung: int = Field(
        3, ge=1, le=100, description="Calls of a model that may hang at once; with more, it is not called any more."
    )
    queue_limit: int = Field(256, ge=1, le=100_000, description="Queries that wait for a model at most.")
    reason_batch: int = Field(16, ge=1, le=4096, description="Queries in one call of the reasoner at most.")
    embed_batch: int = Field(64, ge=1, le=4096, description="Texts in one call of the embedder at most.")
    breaker_window: int = Field(20, ge=1, le=10_000, description="Last calls of the reasoner that count as lately.")
    breaker_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of failures from which on it is left alone; of late answers, not awaited.",
    )
    breaker_open_s: float = Field(5.0, gt=0, description="Seconds until it is tried again.")
    cache_size: int = Field(10_000, ge=0, description="Queries whose vectors and reasoning are kept in memory.")
    cache_ttl_s: float = Field(3600.0, gt=0, description="Seconds until they are made anew.")
    shared_cache: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,199}$",
        description="OpenSearch index where services share what they reasoned; none: each has its own.",
    )
    shared_cache_ms: float = Field(20.0, gt=0, description="How long to wait for an answer from there.")

    models: dict[str, OtherModel] = Field(
        {},
        description="Models beside the configured one, by a name: a version of the index whose vectors are from one of"
        " them is asked with it (docs/model-change.md).",
    )

    @model_validator(mode="after")
    def _check_serve(self) -> ServeSettings:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("serve.cert_file and serve.key_file go together: set both or neither")
        if self.ubi_hash and not self.ubi_hash_key:
            raise ValueError("serve.ubi_hash is true: set serve.ubi_hash_key too, without it a hash is easily undone")
        return self


class ConnectSettings(Section):
    """The service inside the cluster: what `lrem-os connect` registers in ML Commons."""

    name: str = Field(
        "lrem-os",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="Of the connector, the model group, the model and the pipelines.",
    )
    url: str | None = Field(
        None,
        description="Where the cluster's nodes reach the service; none: serve.host and serve.port, for a cluster on"
        " this machine.",
    )
    api_key: SecretStr | None = Field(
        None,
        description="One of serve.api_keys, for the cluster to show; none: the first of them; better in"
        " LREM_OS__CONNECT__API_KEY.",
    )
    ingest_field: str | None = Field(
        None, min_length=1, description="Text field for an ingest pipeline to embed; none: none is made."
    )
    default: bool = Field(
        False, description="Whether searches of index.name go through the search pipeline without naming it."
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds until a task of ML Commons is given up.")

    @model_validator(mode="after")
    def _check_connect(self) -> ConnectSettings:
        if self.url is not None:
            try:
                parts = urlsplit(self.url)
                is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:  # a port that is none
                is_address = False
            if not is_address or not self.url.isprintable() or " " in self.url:
                raise ValueError("connect.url is no address: write it like https://search.example.org:8099")
            if parts.username is not None or parts.query or parts.fragment or parts.path.strip("/"):
                raise ValueError("connect.url has more than scheme, host and port: the cluster asks its /v1/embeddings")
        return self
