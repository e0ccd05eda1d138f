"""The command: `python -m benchmarks.model`; the result goes to benchmarks/results/model.json."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import click
import torch
import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.machine import ROOT, write_result
from benchmarks.model import compare
from benchmarks.model.compare import OURS, TRANSFORMERS, TWO_PASSES, Work
from lrem_os.errors import LremError
from lrem_os.model import store

MIN_RATIO, MIN_COSINE = 1.6, 0.999
RANDOM = "random:smollm2-135m"
_PROMPT_TOKENS = (12, 32)  # teacher queries have 3 to 21 of SmolLM2's tokens, the template 8
_SHAPES = ((1, 1), (1, 8), (8, 1), (8, 8))  # queries, samples
_PACKAGES = ("lrem-os", "torch", "transformers", "numpy")


def load(name: str, dtype: str) -> Any:
    """Return a causal LM in eval mode; by default of SmolLM2-135M's shape with random weights, as fast.

    Raises:
        LremError: The files cannot be found.
    """
    kind, device = getattr(torch, dtype), "cuda" if torch.cuda.is_available() else "cpu"
    if name != RANDOM:
        path = str(store.resolve(name, None).path)
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=kind, local_files_only=True)
        return _never_stopping(model.to(device).eval())
    config = transformers.LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return _never_stopping(transformers.LlamaForCausalLM(config).to(device, kind).eval())


def _never_stopping(model: Any) -> Any:
    """Return the model without an end-of-text token: transformers would stop there."""
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return model


def work_of(model: Any, num: int, samples: int, max_tokens: int) -> Work:
    """Return prompts of random tokens; what they say does not change how long they take."""
    rng, vocab_size = Random(num), model.get_input_embeddings().weight.shape[0]
    prompts = [[rng.randrange(5, vocab_size) for _ in range(rng.randint(*_PROMPT_TOKENS))] for _ in range(num)]
    return Work(prompts, samples, max_tokens, (3, 4))


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default=RANDOM, help="Folder, pypi:NAME or hub id of a causal LM.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Arithmetic.")
@click.option("--repeat", type=click.IntRange(1), default=5, help="Rounds.")
@click.option("--max-tokens", type=click.IntRange(1), default=16, help="Of a reasoning.")
@click.option("--max-batch", type=click.IntRange(1), default=64, help="Batches of 1, 2, 4 … up to this many rows.")
@click.option("--result", "result_name", default="model", help="Name of the file under benchmarks/results/.")
def main(name: str, dtype: str, repeat: int, max_tokens: int, max_batch: int, result_name: str) -> None:
    """Measure the reasoned vector in one pass against two, and decoding against transformers' own `generate`."""
    console = Console(highlight=False)
    try:
        model = load(name, dtype)
    except LremError as exc:
        raise click.ClickException(str(exc)) from exc
    passes = [_passes(model, work_of(model, *shape, max_tokens), repeat, console) for shape in _SHAPES]
    sizes = [2**power for power in range(max_batch.bit_length()) if 2**power <= max_batch]
    decoding = [_decoding(model, work_of(model, size, 1, max_tokens), repeat, console) for size in sizes]
    if max_batch >= 64:
        decoding.append(_decoding(model, work_of(model, 8, 8, max_tokens), repeat, console))
    console.print(_passes_table(passes))
    console.print(_decoding_table(decoding))
    about = {"model": name if name == RANDOM else Path(name).name, "dtype": dtype, "max_tokens": max_tokens}
    about |= {"device": str(model.device), "threads": torch.get_num_threads()}
    written = write_result(result_name, {**about, "passes": passes, "decoding": decoding}, _PACKAGES)
    console.print(f"written to {written.relative_to(ROOT)}")
    best = max(row["ratio"] for row in passes)
    sys.exit(0 if best >= MIN_RATIO and min(row["min_cosine"] for row in passes) >= MIN_COSINE else 1)


def _passes(model: Any, work: Work, repeat: int, console: Console) -> dict[str, Any]:
    """Measure the three ways to a reasoned vector."""
    console.print(f"  {len(work.prompts)} queries x {work.samples} samples: reasoned vectors")
    ways = {
        OURS: partial(compare.one_pass, model, work),
        TWO_PASSES: partial(compare.two_passes, model, work),
        TRANSFORMERS: partial(compare.transformers_then_encode, model, work),
    }
    embed_s: dict[str, list[float]] = {way: [] for way in ways}

    def kept(way: str) -> Any:
        states, seconds = ways[way]()
        embed_s[way].append(seconds)
        return states

    runs, states = compare.alternate({way: partial(kept, way) for way in ways}, repeat, console.print)
    whole = compare.ratios(runs, TWO_PASSES, OURS)
    return {
        "queries": len(work.prompts),
        "samples": work.samples,
        "medians": compare.medians(runs),
        "embed_s": {way: median(found[1:]) for way, found in embed_s.items()},
        "ratio": median(whole),
        "ratios": whole,
        "ratio_cpu": median(compare.ratios(runs, TWO_PASSES, OURS, "cpu_s")),
        "ratio_embedding": median(
            other / mine for mine, other in zip(embed_s[OURS][1:], embed_s[TWO_PASSES][1:], strict=True)
        ),
        "ratio_transformers": median(compare.ratios(runs, TRANSFORMERS, OURS)),
        "min_cosine": compare.min_cosine(states[OURS], states[TWO_PASSES]),
        "runs": runs,
    }


def _decoding(model: Any, work: Work, repeat: int, console: Console) -> dict[str, Any]:
    """Measure tokens a second, ours and transformers'."""
    console.print(f"  {len(work.prompts)} prompts x {work.samples} samples: decoding")
    ways = {
        OURS: partial(compare.ours_generate, model, work),
        TRANSFORMERS: partial(compare.transformers_generate, model, work),
    }
    runs, tokens = compare.alternate(ways, repeat, console.print)
    rates = {way: work.num_tokens / row["seconds"] for way, row in compare.medians(runs).items()}
    found = compare.ratios(runs, TRANSFORMERS, OURS)
    return {
        "prompts": len(work.prompts),
        "samples": work.samples,
        "tokens_per_s": rates,
        "ratio": median(found),
        "ratios": found,
        "ratio_cpu": median(compare.ratios(runs, TRANSFORMERS, OURS, "cpu_s")),
        "equal_rows": sum(ours == theirs for ours, theirs in zip(*tokens.values(), strict=True)),
        "runs": runs,
    }


def _passes_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("queries x samples", "one pass, s", "two, s", "ratio", "by CPU", "embedding alone", "transformers")
    for row in rows:
        seconds = {way: found["seconds"] for way, found in row["medians"].items()}
        table.add_row(
            f"{row['queries']} x {row['samples']}",
            f"{seconds[OURS]:.3f}",
            f"{seconds[TWO_PASSES]:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_cpu']:.2f}",
            f"{row['ratio_embedding']:.1f}",
            f"{row['ratio_transformers']:.2f}",
        )
    table.title = "reasoned vectors: medians of the rounds"
    table.caption = (
        f"two: our decoding, then all encoded again; transformers: its generate, then the same; target {MIN_RATIO}"
    )
    return table


def _decoding_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("prompts x samples", "lrem-os, tokens/s", "transformers, tokens/s", "ratio", "by CPU", "equal rows")
    for row in rows:
        rates, num = row["tokens_per_s"], row["prompts"] * row["samples"]
        equal = f"{row['equal_rows']} of {num}" if row["samples"] == 1 else "sampled"
        numbers = (f"{rates[OURS]:.1f}", f"{rates[TRANSFORMERS]:.1f}", f"{row['ratio']:.2f}", f"{row['ratio_cpu']:.2f}")
        table.add_row(f"{row['prompts']} x {row['samples']}", *numbers, equal)
    table.title = "decoding alone: medians of the rounds"
    return table


if __name__ == "__main__":
    main()
