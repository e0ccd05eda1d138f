"""Greedy text of transformers and vLLM, and the speed of our reasoner over vLLM's own ``generate``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import psutil

from lrem_os.model.prompts import reason_prompt
from lrem_os.model.store import ModelFiles
from lrem_os.model.vllm import VllmReasoner

MAX_TOKENS = 16
SAMPLES, TEMPERATURE = 8, 0.9
PEER_BATCHES = (8, 32, 10**6)  # prompts in one call of vLLM's `generate`; the last: all
ENGINE: dict[str, Any] = {
    "kv_cache_memory_bytes": 2 << 30,
    "max_num_seqs": 128,
    "enforce_eager": True,  # compiling takes minutes, and both ways run on the same engine
}


def greedy_transformers(files: ModelFiles, prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of transformers' ``generate``, end of text included; prompts of one length at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(files.path), local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(files.path), local_files_only=True, use_safetensors=True, dtype=torch.float32
    ).eval()
    eos = tokenizer.eos_token_id
    groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for row, ids in enumerate(tokenizer(list(prompts))["input_ids"]):
        groups[len(ids)].append((row, ids))
    found: dict[int, list[int]] = {}
    for length, group in groups.items():  # no padding: it moves the last bits
        with torch.inference_mode():
            ids = torch.tensor([ids for _row, ids in group])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                eos_token_id=eos,
                pad_token_id=eos,
            )
        for (row, _ids), tokens in zip(group, out[:, length:].tolist(), strict=True):
            found[row] = tokens[: tokens.index(eos) + 1] if eos in tokens else tokens
    return [found[row] for row in range(len(prompts))]


def first_line(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Return the text of tokens up to the first line break, where our reasoners stop."""
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).split("\n")[0]


def compare(
    files: ModelFiles, queries: Sequence[str], timed: int, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return shares of equal answers and the ratio of speeds."""
    prompts = [reason_prompt(query) for query in queries]
    started = time.monotonic()
    theirs = greedy_transformers(files, prompts)
    say(f"transformers: {len(prompts)} greedy answers in {time.monotonic() - started:.0f} s")
    import vllm  # not before: it sets up logging and threads for itself

    llm = vllm.LLM(str(files.path), dtype="float32", max_model_len=512, enable_prefix_caching=True, **ENGINE)
    greedy = VllmReasoner(llm, {}, temperature=0.0, max_tokens=MAX_TOKENS)
    tokenizer = llm.get_tokenizer()
    params = vllm.SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    outputs = llm.generate(prompts, params, use_tqdm=False)  # no stop at line breaks: the stricter comparison
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    texts = [samples[0].text for samples in greedy.reason(queries)]
    lines = [first_line(tokenizer, answer) for answer in theirs]
    pairs = {
        "equal_tokens": [a == b for a, b in zip(theirs, tokens, strict=True)],
        "equal_text": [a == b for a, b in zip(lines, texts, strict=True)],
    }
    shares = {name: sum(equal) / len(equal) for name, equal in pairs.items()}
    say(f"equal: tokens {shares['equal_tokens']:.3f}, text {shares['equal_text']:.3f}")
    differing = [
        {"query": query, "transformers": a, "vllm": b}
        for query, a, b in zip(queries, lines, texts, strict=True)
        if a != b
    ]
    return {
        "model": {"name": files.name, "revision": files.revision},
        "dtype": "float32",
        "num": len(queries),
        "max_tokens": MAX_TOKENS,
        **shares,
        "differing": differing,
        "empty": sum(not line.strip() for line in lines) / len(lines),
        **measure(llm, queries[:timed], rounds, say),
    }


def measure(llm: Any, queries: Sequence[str], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return queries a second of our ``reason`` and of vLLM's ``generate``, on one engine and in turns."""
    import vllm

    ours = VllmReasoner(llm, {}, samples=SAMPLES, temperature=TEMPERATURE, max_tokens=MAX_TOKENS)
    prompts = [reason_prompt(query) for query in queries]
    params = vllm.SamplingParams(
        n=SAMPLES, temperature=TEMPERATURE, seed=0, max_tokens=MAX_TOKENS, stop=["\n"], logprobs=0
    )

    def own(batch: int) -> Callable[[], object]:
        def run() -> object:
            parts = [prompts[start : start + batch] for start in range(0, len(prompts), batch)]
            return [llm.generate(part, params, use_tqdm=False) for part in parts]

        return run

    ways: dict[str, Callable[[], object]] = {
        f"vllm, batch {min(batch, len(prompts))}": own(batch) for batch in PEER_BATCHES
    }
    ways["lrem-os"] = lambda: ours.reason(queries)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            llm.reset_prefix_cache()
            started, busy = time.perf_counter(), sum(psutil.cpu_times()[:3])
            way()
            seconds = time.perf_counter() - started
            cores = (sum(psutil.cpu_times()[:3]) - busy) / seconds
            if number:  # the first round warms up
                runs[name].append({"queries_per_s": len(queries) / seconds, "busy_cores_of_machine": cores})
        say(f"round {number} of {rounds}")
    rates = {name: median(run["queries_per_s"] for run in measured) for name, measured in runs.items()}
    best = max((name for name in rates if name != "lrem-os"), key=lambda name: rates[name])
    ratios = [
        one["queries_per_s"] / other["queries_per_s"] for one, other in zip(runs["lrem-os"], runs[best], strict=True)
    ]
    say(f"{rates}; ratio to {best}: {median(ratios):.2f}")
    return {
        "timed": {"queries": len(queries), "samples": SAMPLES, "temperature": TEMPERATURE},
        "queries_per_s": rates,
        "best_of_vllm": best,
        "ratios": ratios,
        "ratio": median(ratios),
        "runs": runs,
    }
