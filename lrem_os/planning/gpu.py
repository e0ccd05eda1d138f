"""What a GPU would do that nobody has measured yet: a roofline estimate, and it is called that wherever it is shown.

A forward pass takes the longer of its arithmetic and of reading the weights and the key-value cache (Williams et al.,
"Roofline", 2009; for decoding Pope et al., "Efficiently Scaling Transformer Inference", 2022, § 3), and what the host
needs to start it. Data sheets tell peaks; the shares of them that are reached are assumptions, named below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lrem_os.planning.calibration import Calls

Backend = Literal["transformers", "vllm"]

_BYTES = 2  # bfloat16
_ARITHMETIC = 0.3  # share of the peak that is reached: an assumption
_BANDWIDTH = 0.6  # likewise
_STEP_S = {"transformers": 0.8e-3, "vllm": 0.1e-3}  # a layer, for the host to start it: assumptions
_QUERY_TOKENS = 16
BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A data sheet.

    Args:
        flops: Dense bfloat16 operations a second.
        bytes_per_s: Of its memory.
        memory_gb: Likewise.
    """

    flops: float
    bytes_per_s: float
    memory_gb: float


GPUS = {  # NVIDIA's data sheets; without sparsity
    "t4": Gpu(65e12, 320e9, 16),  # float16: it has no bfloat16
    "l4": Gpu(121e12, 300e9, 24),
    "a10g": Gpu(70e12, 600e9, 24),
    "l40s": Gpu(362e12, 864e9, 48),
    "a100": Gpu(312e12, 2039e9, 80),
    "h100": Gpu(989e12, 3350e9, 80),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A transformer.

    Args:
        parameters: All of them.
        layers: Of the stack.
        kv_width: Keys of one token in one layer; its values are as many.
    """

    parameters: float
    layers: int
    kv_width: int


SMALL_REASONER = Model(135e6, 30, 192)  # SmolLM2-135M: 3 key-value heads of 64
SMALL_EMBEDDER = Model(22e6, 6, 384)  # MiniLM-L6


def forward_s(gpu: Gpu, model: Model, tokens: int, cached_tokens: int, backend: Backend) -> float:
    """Return the time of one forward pass.

    Args:
        gpu: Where.
        model: Which.
        tokens: That are computed, of the whole batch.
        cached_tokens: Whose keys and values are read.
        backend: What starts it.
    """
    arithmetic = 2 * model.parameters * tokens / (gpu.flops * _ARITHMETIC)
    cache = cached_tokens * model.layers * 2 * model.kv_width * _BYTES
    reading = (model.parameters * _BYTES + cache) / (gpu.bytes_per_s * _BANDWIDTH)
    return max(arithmetic, reading) + model.layers * _STEP_S[backend]


def estimate_reasoning(
    gpu: Gpu, model: Model, embedder: Model, *, samples: int, prompt_tokens: int, new_tokens: int, backend: Backend
) -> Calls:
    """Return calls of a reasoner: one prompt a query, ``samples`` continuations of it, and their embedding.

    Args:
        gpu: Where.
        model: The reasoner.
        embedder: Of the keywords.
        samples: ``reasoning.samples``.
        prompt_tokens: Of one query's prompt.
        new_tokens: Of the longest continuation in a batch; ``reasoning.max_tokens`` at most.
        backend: Of the reasoner.
    """
    points = []
    for size in BATCHES:
        rows = size * samples
        seconds = forward_s(gpu, model, size * prompt_tokens, 0, backend)
        for step in range(1, new_tokens):
            seconds += forward_s(gpu, model, rows, rows * (prompt_tokens + step), backend)
        seconds += forward_s(gpu, embedder, (1 + samples) * size * _QUERY_TOKENS, 0, "transformers")
        points.append((size, seconds))
    return Calls(points=tuple(points))


def estimate_embedding(gpu: Gpu, model: Model) -> Calls:
    """Return calls of an embedder with queries."""
    return Calls(
        points=tuple((size, forward_s(gpu, model, size * _QUERY_TOKENS, 0, "transformers")) for size in BATCHES)
    )


def estimate_items_per_s(gpu: Gpu, model: Model, *, item_tokens: int) -> float:
    """Return products that are embedded in a second; reading and tokenising them on the host may be slower."""
    return gpu.flops * _ARITHMETIC / (2 * model.parameters * item_tokens)
