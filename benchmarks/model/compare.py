"""The measurement: what is timed, in turns, so that what else the machine does meets all ways alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor

from lrem_os.model.decoding import backbone_of, draws_for, generate

OURS, TWO_PASSES, TRANSFORMERS = "lrem-os, one pass", "lrem-os, then re-encoded", "transformers, then re-encoded"
TEMPERATURE = 0.9
_STEPS_PER_FORWARD = 2048  # tokens re-encoded in one forward pass, as in HfEmbedder

Run = dict[str, float]


@dataclass(frozen=True)
class Work:
    """What every way has to do: so many reasonings of exactly ``max_tokens`` tokens for each prompt.

    No row ends early: the ways then do the same work whatever they sample, and rows that leave the batch, where
    lrem-os would gain more, are not counted.

    Args:
        prompts: Token ids, of unequal lengths.
        samples: Reasonings a prompt; more than one are sampled, one is greedy.
        max_tokens: Of a reasoning.
        closing: Ids of the two tokens after it.
    """

    prompts: list[list[int]]
    samples: int
    max_tokens: int
    closing: tuple[int, int]

    @property
    def num_tokens(self) -> int:
        """Tokens to be generated."""
        return len(self.prompts) * self.samples * self.max_tokens


def one_pass(model: Any, work: Work) -> tuple[Tensor, float]:
    """Return the states at the last closing token (R, D), and the seconds that went into the closing tokens."""
    found = _ours(model, work, work.closing)
    if found.states is None:
        raise RuntimeError("no states")
    return found.states, found.close_s


def two_passes(model: Any, work: Work) -> tuple[Tensor, float]:
    """Return the same states by encoding prompt, reasoning and closing tokens again, and the seconds of that."""
    rows = _ours(model, work, ()).token_ids
    return _timed_encode(model, work, rows)


def transformers_generate(model: Any, work: Work) -> list[list[int]]:
    """Return what ``model.generate`` answers: prompts padded on the left, its cache, its sampling."""
    width = max(map(len, work.prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in work.prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in work.prompts], device=model.device)
    sampling: dict[str, Any] = {"do_sample": False}
    if work.samples > 1:
        sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "num_return_sequences": work.samples}
    answer = model.generate(ids, attention_mask=mask, max_new_tokens=work.max_tokens, pad_token_id=0, **sampling)
    rows: list[list[int]] = answer[:, width:].tolist()
    if any(len(row) != work.max_tokens for row in rows):
        raise RuntimeError("transformers stopped early")
    return rows


def transformers_then_encode(model: Any, work: Work) -> tuple[Tensor, float]:
    """Return what a user of transformers gets: ``generate``, then the whole text through the model again."""
    return _timed_encode(model, work, transformers_generate(model, work))


def ours_generate(model: Any, work: Work) -> list[list[int]]:
    """Return the tokens alone."""
    return _ours(model, work, ()).token_ids


def _ours(model: Any, work: Work, closing: Sequence[int]) -> Any:
    keys = [str(row) for row in range(len(work.prompts))]
    return generate(
        model,
        work.prompts,
        max_tokens=work.max_tokens,
        stop_ids=(),
        num_samples=work.samples,
        temperature=TEMPERATURE if work.samples > 1 else 0.0,
        draws=draws_for(keys, work.samples, work.max_tokens, 0) if work.samples > 1 else None,
        closing=closing,
    )


@torch.inference_mode()
def _timed_encode(model: Any, work: Work, rows: list[list[int]]) -> tuple[Tensor, float]:
    """Encode prompt, reasoning and closing tokens in batches, padded on the right."""
    started = time.perf_counter()
    texts = [[*work.prompts[row // work.samples], *tokens, *work.closing] for row, tokens in enumerate(rows)]
    backbone, width = backbone_of(model), max(map(len, texts))
    per_batch = max(1, _STEPS_PER_FORWARD // width)
    states = []
    for first in range(0, len(texts), per_batch):
        part = texts[first : first + per_batch]
        ids = torch.tensor([text + [0] * (width - len(text)) for text in part], device=model.device)
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in part], device=model.device)
        hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state  # (b, T, D)
        last = torch.tensor([len(text) - 1 for text in part], device=model.device)
        states.append(hidden[torch.arange(len(part), device=model.device), last].float())
    return torch.cat(states).cpu(), time.perf_counter() - started


def alternate(
    ways: Mapping[str, Callable[[], Any]], repeat: int, say: Callable[[str], None]
) -> tuple[dict[str, list[Run]], dict[str, Any]]:
    """Run every way ``repeat`` times, in turns, after one run each for warmth; return times and last answers."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    answers = {name: way() for name, way in ways.items()}
    for number in range(1, repeat + 1):
        for name, way in ways.items():
            busy, cpu, start = _busy_s(), time.process_time(), time.perf_counter()
            answers[name] = way()
            seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
            others = max(0.0, _busy_s() - busy - cpu_s) / seconds / (psutil.cpu_count() or 1)
            runs[name].append({"seconds": seconds, "cpu_s": cpu_s, "others_busy": others})
            say(f"    round {number}: {name:30} {seconds:8.3f} s, CPU {cpu_s:8.3f} s, others {others:.0%}")
    return runs, answers


def ratios(runs: Mapping[str, list[Run]], slow: str, fast: str, key: str = "seconds") -> list[float]:
    """Return in each round how many times longer one way took: noise that lasts longer than a round cancels."""
    return [other[key] / mine[key] for mine, other in zip(runs[fast], runs[slow], strict=True)]


def medians(runs: Mapping[str, list[Run]]) -> dict[str, Run]:
    """Return the median of every figure."""
    return {name: {key: median(run[key] for run in found) for key in found[0]} for name, found in runs.items()}


def min_cosine(first: Tensor, second: Tensor) -> float:
    """Return the smallest cosine of two states of the same text."""
    return float(torch.nn.functional.cosine_similarity(first.cpu(), second.cpu()).min())


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
