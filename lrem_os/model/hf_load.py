"""Loading a transformers model from checked files: quietly, offline, from safetensors only, without its code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from lrem_os.config import ModelSettings, ReasoningSettings
from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.model.hf import HfEmbedder
from lrem_os.model.quiet import quiet
from lrem_os.model.recipe import build_contract, max_tokens_of, read_recipe
from lrem_os.model.store import ModelFiles
from lrem_os.model.unified import UnifiedEmbedder, add_special_tokens

CPU_BATCH_TOKENS = 2048  # MiniLM, one core: 4096 costs 9 % more, 16384 40 % (page faults, padding)
UNIFIED_TOKENS = 512  # of an item: a decoder reads thousands, at a price, and product texts are shorter
GPU_BATCH_TOKENS = 65_536  # not measured: far above what fills a GPU, and halved where its memory ends


def load_hf(
    files: ModelFiles, settings: ModelSettings, *, adapt: Callable[[Any, Any], Any] = lambda model, _: model
) -> HfEmbedder:
    """Return an embedder over the model in ``files``.

    Args:
        files: The model.
        settings: How it is used and where it runs.
        adapt: Takes the loaded model and its tokenizer and returns the model to use: puts an adapter in.

    Raises:
        CheckpointError: The files are not a whole model.
        ConfigError: A setting does not fit the model or this machine.
        ModelError: The model cannot be run.
    """
    recipe = read_recipe(files.path, settings.pooling)
    max_tokens_of(recipe, settings)  # refused before the weights are read
    device = _device(settings)
    with quiet():
        tokenizer = _load_tokenizer(files.path)
        model = adapt(_load_model(files.path), tokenizer).to(device, _dtype(settings, device))
    return HfEmbedder(
        model,
        tokenizer,
        build_contract(files, recipe, settings, dimension=_dimension(model), tokenizer=tokenizer),
        batch_tokens=settings.batch_tokens or (CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS),
        num_workers=torch.get_num_threads() if device.type == "cpu" else 1,
    )


def load_causal(
    files: ModelFiles, settings: ModelSettings, *, adapt: Callable[[Any, Any], Any] = lambda model, _: model
) -> tuple[Any, Any]:
    """Return the causal LM in ``files`` in eval mode, and its tokenizer.

    Args:
        files: The model.
        settings: Where it runs and in which arithmetic.
        adapt: See ``load_hf``.

    Raises:
        CheckpointError: The files are not a whole causal LM.
        ConfigError: A setting does not fit this machine.
    """
    device = _device(settings)
    with quiet():
        tokenizer = _load_tokenizer(files.path)
        model = adapt(_load_model(files.path, transformers.AutoModelForCausalLM), tokenizer)
    return model.to(device, _dtype(settings, device)).eval(), tokenizer


def load_unified(
    files: ModelFiles, settings: ModelSettings, reasoning: ReasoningSettings, *, adapt: Callable[[Any, Any], Any]
) -> UnifiedEmbedder:
    """Return the unified model that an adapter makes of the causal LM in ``files``.

    Args:
        files: The causal LM, under the name and revision of what is made of it.
        settings: Length of items, and where it runs.
        reasoning: How it samples.
        adapt: See ``load_hf``; the special tokens are there when it is called.

    Raises:
        CheckpointError: The files are not a whole causal LM.
        ConfigError: A setting does not fit the model or this machine.
    """

    def extend(model: Any, tokenizer: Any) -> Any:
        add_special_tokens(model, tokenizer)
        return adapt(model, tokenizer)

    recipe = read_recipe(files.path)
    model, tokenizer = load_causal(files, settings, adapt=extend)
    on_cpu = model.device.type == "cpu"
    return UnifiedEmbedder(
        model,
        tokenizer,
        name=files.name,
        revision=files.revision,
        max_tokens=min(max_tokens_of(recipe, settings), settings.max_tokens or UNIFIED_TOKENS),
        samples=reasoning.samples,
        temperature=reasoning.temperature,
        max_reasoning_tokens=reasoning.max_tokens,
        seed=reasoning.seed,
        banned=reasoning.banned,
        batch_tokens=settings.batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS),
        num_workers=torch.get_num_threads() if on_cpu else 1,
        timeout_s=reasoning.timeout_s,
    )


def has_bfloat16(cpuinfo: str) -> bool:
    """Return whether ``/proc/cpuinfo`` tells of a processor that multiplies bfloat16 itself, not by way of float32."""
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _device(settings: ModelSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("model.device is cuda, but torch sees no GPU", hint="set model.device to auto or cpu")
    return torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")


def _dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """Return the arithmetic. bfloat16 moves MiniLM's vectors by a cosine of 0.0001 at most (measured)."""
    if settings.dtype != "auto":
        return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32
    try:
        return torch.bfloat16 if has_bfloat16(Path("/proc/cpuinfo").read_text(encoding="utf-8")) else torch.float32
    except OSError:  # not Linux
        return torch.float32


def _load_tokenizer(folder: Path) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except Exception as exc:  # what the tokenizers library raises is a bare Exception
        raise CheckpointError(f"the tokenizer in {folder} cannot be loaded: {exc}") from exc


def _load_model(folder: Path, kind: Any = transformers.AutoModel) -> Any:
    """Return the model in eval mode, in the arithmetic of its files.

    Raises:
        CheckpointError: It cannot be loaded, or weights are missing: transformers would make them up.
    """
    try:
        model, info = kind.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as exc:
        raise CheckpointError(f"the model in {folder} cannot be loaded: {exc}") from exc
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))  # the pooler is not used
    wrong = [*missing, *map(str, info["mismatched_keys"])]
    if wrong:
        raise CheckpointError(f"{folder} lacks weights of {type(model).__name__}: {', '.join(wrong[:3])}")
    if getattr(model, "pooler", None) is not None:  # BERT and its like: an adapter for all layers has nothing for it
        model.pooler = None
    return model.eval()


def _dimension(model: Any) -> int:
    """Return the width of what the model gives, by asking it."""
    with torch.inference_mode():
        one = torch.ones((1, 1), dtype=torch.int64, device=model.device)
        return int(model(input_ids=one, attention_mask=one).last_hidden_state.shape[-1])
