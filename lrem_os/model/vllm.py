"""vLLM in this process: a reasoner and an embedder. ``vllm serve`` is reached by ``openai_api.py``.

Texts are tokenised here and not by vLLM: all at once, and by the same contract as with transformers.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lrem_os.config import ModelSettings
from lrem_os.errors import CheckpointError, EmbeddingError, GenerationError, ModelError
from lrem_os.extras import require
from lrem_os.model.contract import Pooling, TokenContract
from lrem_os.model.prompts import REASON_TEMPLATE_VERSION, reason_prompt
from lrem_os.model.reasoning import parse_reasoning
from lrem_os.model.recipe import build_contract, max_tokens_of, read_recipe
from lrem_os.model.store import ModelFiles
from lrem_os.model.token_embedder import TokenEmbedder
from lrem_os.types import Reasoning, Vectors

_REASONER_TOKENS = 512  # prompt and reasoning: vLLM reserves memory for what a model could read, and queries are short
_POOLING: Mapping[Pooling, str] = {"mean": "MEAN", "cls": "CLS", "last": "LAST"}
_DEAD = "see the engine's own messages above; a dead engine needs a new process"


class VllmReasoner:
    """Reasons with a causal LM in vLLM. Safe to call from several threads, one after another.

    Args:
        llm: A ``vllm.LLM``.
        model: What tells the weights apart, for the identity.
        lora: A ``LoRARequest``, if the model has an adapter.
        samples: Reasonings a query; with temperature 0 there is one.
        temperature: Of the sampling; 0: greedy.
        max_tokens: Hard limit of a reasoning.
        seed: Of the sampling; a query's samples do not depend on its neighbours.
        banned: Phrases that no keyword may hold.
    """

    def __init__(
        self,
        llm: Any,
        model: Mapping[str, Any],
        *,
        lora: Any = None,
        samples: int = 8,
        temperature: float = 0.9,
        max_tokens: int = 16,
        seed: int = 0,
        banned: Sequence[str] = (),
    ) -> None:
        self._llm = llm
        self._lora = lora
        self._tokenizer = llm.get_tokenizer()
        self._longest_prompt = llm.model_config.max_model_len - max_tokens
        self._num_samples = samples if temperature > 0 else 1
        self._banned = tuple(banned)
        self._lock = threading.Lock()
        sampling = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        self._params = require("vllm", extra="vllm").SamplingParams(
            n=self._num_samples, stop=["\n"], logprobs=0, **sampling
        )
        self._identity = {
            "backend": "vllm",
            **model,
            "prompt_version": REASON_TEMPLATE_VERSION,
            "samples": self._num_samples,
            **sampling,
            "banned": list(banned),
        }

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the keywords."""
        return self._identity

    def reason(self, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
        """Return the samples of each query, in the order given; of a query longer than the model reads, empty ones.

        Raises:
            GenerationError: The engine failed.
        """
        answers: list[tuple[Reasoning, ...]] = [(Reasoning(),) * self._num_samples] * len(queries)
        prompts = _token_ids(self._tokenizer, [reason_prompt(query) for query in queries])
        rows = [row for row, ids in enumerate(prompts) if len(ids) <= self._longest_prompt]
        for row, output in zip(rows, self._generate([prompts[row] for row in rows]), strict=True):
            samples = sorted(output.outputs, key=lambda sample: sample.index)
            answers[row] = tuple(self._parse(sample, queries[row]) for sample in samples)
        return answers

    def _generate(self, prompts: list[list[int]]) -> list[Any]:
        if not prompts:
            return []
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        try:
            with self._lock:
                found: list[Any] = self._llm.generate(inputs, self._params, use_tqdm=False, lora_request=self._lora)
                return found
        except Exception as exc:  # whatever torch and the engine's classes raise; they have no root in common
            raise GenerationError(f"vLLM failed on {len(prompts)} queries: {exc}", hint=_DEAD) from exc

    def _parse(self, sample: Any, query: str) -> Reasoning:
        num_tokens = len(sample.token_ids)
        known = num_tokens > 0 and sample.cumulative_logprob is not None
        return parse_reasoning(
            sample.text,
            query,
            banned=self._banned,
            num_tokens=num_tokens,
            truncated=sample.finish_reason == "length",
            confidence=min(1.0, math.exp(sample.cumulative_logprob / num_tokens)) if known else math.nan,
        )


class VllmEmbedder(TokenEmbedder):
    """Embeds with an encoder or decoder in vLLM. Safe to call from several threads, one after another.

    Args:
        llm: A ``vllm.LLM`` with ``runner="pooling"`` and ``convert="embed"`` that pools as the contract says.
        contract: How texts become vectors; the same as with transformers, so that both can serve one index.
    """

    def __init__(self, llm: Any, contract: TokenContract) -> None:
        super().__init__(contract)
        self._llm = llm
        self._tokenizer = llm.get_tokenizer()
        self._lock = threading.Lock()

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        if self._contract.lowercase:
            texts = [text.lower() for text in texts]
        token_ids = _token_ids(self._tokenizer, texts, max_length=self._contract.max_tokens)
        stand_in = self._tokenizer.eos_token_id or 0  # for an empty text without special tokens, as hf.py does
        inputs = [{"prompt_token_ids": ids or [stand_in]} for ids in token_ids]
        try:
            with self._lock:
                outputs = self._llm.embed(inputs, use_tqdm=False)
        except Exception as exc:  # see above
            raise ModelError(f"vLLM failed on {len(texts)} texts: {exc}", hint=_DEAD) from exc
        vectors = np.asarray([output.outputs.embedding for output in outputs], np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if vectors.shape != (len(texts), self.dimension) or not np.isfinite(norms).all() or not norms.all():
            raise EmbeddingError(
                f"vLLM gave vectors of shape {vectors.shape} for {len(texts)} texts, or NaN, infinity or zeros in them",
                hint="set model.dtype to float32; if that does not help, the weights are damaged",
            )
        unit: Vectors = vectors / norms
        return unit


def load_vllm_reasoner(
    files: ModelFiles,
    *,
    adapter: Path | None = None,
    dtype: str = "auto",
    engine: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> VllmReasoner:
    """Return a reasoner over the causal LM in ``files``.

    Args:
        files: The model.
        adapter: Folder of a LoRA adapter for it.
        dtype: ``auto`` is the model's own; a processor without bfloat16 arithmetic is faster with ``float32``.
        engine: More arguments for ``vllm.LLM``.
        sampling: As ``VllmReasoner`` takes it.

    Raises:
        CheckpointError: The adapter cannot be used.
        DependencyMissing: vLLM is not installed.
        GenerationError: The engine did not start.
    """
    vllm = require("vllm", extra="vllm")
    options: dict[str, Any] = {"max_model_len": _REASONER_TOKENS, "enable_prefix_caching": True, "dtype": dtype}
    lora: Any = None
    if adapter is not None:
        options |= {"enable_lora": True, "max_lora_rank": _rank(adapter)}
        lora = require("vllm.lora.request", extra="vllm").LoRARequest("reasoner", 1, str(adapter))
    llm = _start(vllm, files, options | dict(engine or {}), GenerationError)
    model = {"model": files.name, "revision": files.revision, "adapter": adapter.name if adapter else None}
    return VllmReasoner(llm, model, lora=lora, **sampling)


def load_vllm_embedder(
    files: ModelFiles, settings: ModelSettings, *, engine: Mapping[str, Any] | None = None
) -> VllmEmbedder:
    """Return an embedder over the model in ``files``, with the contract that the transformers backend gives it.

    Args:
        files: The model.
        settings: As for the transformers backend; vLLM picks the device, and plans its batches itself.
        engine: More arguments for ``vllm.LLM``.

    Raises:
        CheckpointError: The files are not a whole model.
        ConfigError: A setting does not fit the model.
        DependencyMissing: vLLM is not installed.
        ModelError: The engine did not start.
    """
    vllm = require("vllm", extra="vllm")
    recipe = read_recipe(files.path, settings.pooling)
    pooler = require("vllm.config", extra="vllm").PoolerConfig(pooling_type=_POOLING[recipe.pooling])
    options: dict[str, Any] = {
        "runner": "pooling",
        "convert": "embed",
        "pooler_config": pooler,
        "max_model_len": max_tokens_of(recipe, settings),
        "dtype": settings.dtype,
    }
    llm = _start(vllm, files, options | dict(engine or {}), ModelError)
    dimension = int(llm.model_config.get_hidden_size())
    return VllmEmbedder(
        llm, build_contract(files, recipe, settings, dimension=dimension, tokenizer=llm.get_tokenizer())
    )


def _start(vllm: ModuleType, files: ModelFiles, options: Mapping[str, Any], error: type[ModelError]) -> Any:
    """Return a running ``vllm.LLM`` that reads local files and runs no code of the model."""
    try:
        return vllm.LLM(str(files.path), trust_remote_code=False, **options)
    except Exception as exc:  # whatever torch, the config classes and the engine's process raise
        raise error(
            f"vLLM did not start with {files.name}: {exc}",
            hint="see its messages above; with little memory, lower kv_cache_memory_bytes or gpu_memory_utilization",
        ) from exc


def _token_ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Return token ids with special tokens; ``max_length`` cuts."""
    if not texts:
        return []
    try:
        ids: list[list[int]] = tokenizer(list(texts), truncation="max_length" in options, padding=False, **options)[
            "input_ids"
        ]
        return ids
    except (TypeError, ValueError) as exc:  # a lone surrogate: not UTF-8
        raise ModelError(f"{len(texts)} texts cannot be tokenised: {exc}") from exc


def _rank(adapter: Path) -> int:
    """Return the rank of a LoRA adapter, which vLLM wants to know beforehand."""
    path = adapter / "adapter_config.json"
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path} cannot be used: {exc!r}", hint="name the folder that peft wrote") from exc
