"""Vectors of transformers and of vLLM, by the same contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lrem_os.config import ModelSettings
from lrem_os.model.hf_load import load_hf
from lrem_os.model.store import ModelFiles
from lrem_os.model.vllm import load_vllm_embedder
from lrem_os.types import Vectors

MAX_TOKENS = 128  # queries are shorter; a decoder's own limit would have vLLM reserve memory for thousands


def in_float32(files: ModelFiles) -> ModelSettings:
    """Return settings for both backends."""
    return ModelSettings(name=str(files.path), dtype="float32", device="cpu", max_tokens=MAX_TOKENS)


def cosines(one: Vectors, other: Vectors) -> dict[str, float]:
    """Return smallest and mean cosine of rows, and the mean one of different rows: what blindness would look like."""
    rows = np.sum(one * other, axis=1)
    across = one @ np.roll(other, 1, axis=0).T
    return {
        "min_cosine": float(rows.min()),
        "mean_cosine": float(rows.mean()),
        "mean_cosine_of_different_texts": float(np.diag(across).mean()),
    }


def compare(files: ModelFiles, texts: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Return how close the vectors of one model are."""
    settings = in_float32(files)
    theirs = load_hf(files, settings)
    expected = theirs.embed_queries(texts)
    ours = load_vllm_embedder(files, settings, engine={"kv_cache_memory_bytes": 1 << 30, "enforce_eager": True})
    found = cosines(ours.embed_queries(texts), expected)
    say(f"{files.name}: smallest cosine {found['min_cosine']:.6f}")
    return {
        "model": {"name": files.name, "revision": files.revision},
        "pooling": ours.contract.pooling,
        "num": len(texts),
        "same_contract": ours.contract == theirs.contract,
        **found,
    }
