"""The measurement: both embedders in turns, so that what else the machine does meets both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import psutil

from lrem_os.types import Embedder, Vectors

Encode = Callable[[Sequence[str]], Vectors]


def in_windows(embedder: Embedder, window: int) -> Encode:
    """Return the embedder as ingest uses it: window by window, in order."""

    def encode(texts: Sequence[str]) -> Vectors:
        parts = [embedder.embed_items(texts[start : start + window]) for start in range(0, len(texts), window)]
        return np.concatenate(parts)

    return encode


def alternate(
    methods: dict[str, Encode], texts: Sequence[str], repeat: int, say: Callable[[str], None]
) -> tuple[dict[str, list[dict[str, float]]], dict[str, Vectors]]:
    """Run every method ``repeat`` times, in turns, after one short run each; return times and vectors."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    vectors: dict[str, Vectors] = {}
    for encode in methods.values():
        encode(texts[:64])
    for number in range(1, repeat + 1):
        for name, encode in methods.items():
            run, vectors[name] = _measure(encode, texts)
            runs[name].append(run)
            say(f"  round {number}: {name:22} {run['texts_per_s']:7.1f} texts/s, others {run['others_busy']:.0%}")
    return runs, vectors


def _measure(encode: Encode, texts: Sequence[str]) -> tuple[dict[str, float], Vectors]:
    """Return rate, own CPU time, and the share of all cores that other processes took meanwhile; and the vectors."""
    busy, cpu, start = _busy_s(), time.process_time(), time.perf_counter()
    vectors = encode(texts)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    others_s = max(0.0, _busy_s() - busy - cpu_s)
    run = {
        "texts_per_s": len(texts) / seconds,
        "cpu_ms_per_text": cpu_s / len(texts) * 1000,
        "others_busy": others_s / seconds / (psutil.cpu_count() or 1),
    }
    return run, vectors


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def summarise(runs: dict[str, list[dict[str, float]]], ours: str, theirs: str) -> dict[str, Any]:
    """Return medians, and the ratio of the two in each round: noise that lasts longer than a round cancels."""
    ratios = [mine["texts_per_s"] / other["texts_per_s"] for mine, other in zip(runs[ours], runs[theirs], strict=True)]
    medians = {
        name: {key: median(run[key] for run in measured) for key in measured[0]} for name, measured in runs.items()
    }
    return {"medians": medians, "ratios": ratios, "ratio": median(ratios)}


def min_cosine(first: Vectors, second: Vectors) -> float:
    """Return the smallest cosine of two vectors of the same text; vectors need not have length 1."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / norms).min())
