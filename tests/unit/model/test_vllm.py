"""Our glue over vLLM, against a stand-in: what we ask of it, and what we make of its answers.

That the real one behaves like this is for ``scripts/vllm_cpu`` to show; CI has no vLLM.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrem_os.config import ModelSettings
from lrem_os.errors import CheckpointError, DependencyMissing, EmbeddingError, GenerationError, ModelError
from lrem_os.model import store
from lrem_os.model.prompts import reason_prompt
from lrem_os.model.vllm import load_vllm_embedder, load_vllm_reasoner
from lrem_os.types import Reasoning


class StandIn:
    """What ``vllm.LLM`` is asked with; its answers are made of the token ids."""

    def __init__(self, model: str, **options: Any) -> None:
        from transformers import AutoTokenizer

        if options.get("dtype") == "broken":
            raise RuntimeError("no such dtype")
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model_config = SimpleNamespace(max_model_len=options["max_model_len"], get_hidden_size=lambda: 32)
        self.asked: list[Any] = []
        self.failure: Exception | None = None
        self.scale = 1.0
        StandIn.last = self

    last: StandIn

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def generate(self, prompts: list[dict[str, list[int]]], params: Any, *, use_tqdm: bool, lora_request: Any) -> Any:
        self.asked.append((prompts, params, lora_request))
        if self.failure is not None:
            raise self.failure
        return [SimpleNamespace(outputs=self._samples(prompt, params.n)) for prompt in prompts]

    def _samples(self, prompt: dict[str, list[int]], num: int) -> list[Any]:
        return [
            SimpleNamespace(
                index=index,
                text=f" length {len(prompt['prompt_token_ids'])}, sample {index}",
                token_ids=[7, 7, 7, 0],
                cumulative_logprob=-2.0,
                finish_reason="length" if index else "stop",
            )
            for index in reversed(range(num))
        ]

    def embed(self, prompts: list[dict[str, list[int]]], *, use_tqdm: bool) -> Any:
        self.asked.append(prompts)
        if self.failure is not None:
            raise self.failure
        rows = [np.resize(np.array(prompt["prompt_token_ids"]) + 1.0, 32) * self.scale for prompt in prompts]
        return [SimpleNamespace(outputs=SimpleNamespace(embedding=row.tolist())) for row in rows]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    module, lora, config = (ModuleType(name) for name in ("vllm", "vllm.lora.request", "vllm.config"))
    vars(module).update(LLM=StandIn, SamplingParams=SimpleNamespace)
    vars(lora).update(LoRARequest=lambda *args: args)
    vars(config).update(PoolerConfig=SimpleNamespace)
    for one in (module, lora, config):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    return StandIn


def test_samples_of_every_query(vllm: type[StandIn], decoder_folder: Path) -> None:
    reasoner = load_vllm_reasoner(store.resolve(str(decoder_folder)), samples=2, seed=5, engine={"max_num_seqs": 4})
    answers = reasoner.reason(["red bag", "usb cable 2 m"])
    prompts, params, lora = vllm.last.asked[0]
    decoded = [vllm.last.tokenizer.decode(prompt["prompt_token_ids"]) for prompt in prompts]
    assert decoded == [reason_prompt("red bag"), reason_prompt("usb cable 2 m")]
    assert (params.n, params.seed, params.stop, params.max_tokens, lora) == (2, 5, ["\n"], 16, None)
    assert vllm.last.options["max_num_seqs"] == 4
    first, second = answers[1]
    assert first.keywords == (f"length {len(prompts[1]['prompt_token_ids'])}", "sample 0")
    assert (first.num_tokens, first.truncated, second.truncated) == (4, False, True)
    assert first.confidence == pytest.approx(math.exp(-0.5))


def test_greedy_is_one_sample(vllm: type[StandIn], decoder_folder: Path) -> None:
    reasoner = load_vllm_reasoner(store.resolve(str(decoder_folder)), temperature=0.0, samples=8)
    assert len(reasoner.reason(["red bag"])[0]) == 1
    assert reasoner.identity["samples"] == 1


def test_too_long_query_is_empty_and_its_neighbours_are_not(vllm: type[StandIn], decoder_folder: Path) -> None:
    reasoner = load_vllm_reasoner(store.resolve(str(decoder_folder)), samples=2)
    answers = reasoner.reason(["red bag", "x" * 100_000, "usb cable"])
    assert answers[1] == (Reasoning(), Reasoning())
    assert all(sample.keywords for row in (0, 2) for sample in answers[row])
    vllm.last.asked.clear()
    assert reasoner.reason(["x" * 100_000]) == [(Reasoning(), Reasoning())]
    assert vllm.last.asked == []
    assert reasoner.reason([]) == []


def test_adapter(vllm: type[StandIn], decoder_folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    files = store.resolve(str(decoder_folder))
    with pytest.raises(CheckpointError, match="adapter_config"):
        load_vllm_reasoner(files, adapter=adapter)
    (adapter / "adapter_config.json").write_text('{"r": 32}', encoding="utf-8")
    reasoner = load_vllm_reasoner(files, adapter=adapter)
    reasoner.reason(["red bag"])
    assert (vllm.last.options["enable_lora"], vllm.last.options["max_lora_rank"]) == (True, 32)
    assert vllm.last.asked[0][2] == ("reasoner", 1, str(adapter))
    assert reasoner.identity["adapter"] == "adapter"


def test_engine_that_fails(vllm: type[StandIn], decoder_folder: Path) -> None:
    files = store.resolve(str(decoder_folder))
    reasoner = load_vllm_reasoner(files)
    vllm.last.failure = RuntimeError("EngineCore encountered an issue")
    with pytest.raises(GenerationError, match="EngineCore"):
        reasoner.reason(["red bag"])
    with pytest.raises(GenerationError, match="no such dtype"):
        load_vllm_reasoner(files, dtype="broken")


def test_without_vllm(monkeypatch: pytest.MonkeyPatch, decoder_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(DependencyMissing) as caught:
        load_vllm_reasoner(store.resolve(str(decoder_folder)), samples=2)
    assert caught.value.hint == "pip install 'lrem-os[vllm]'"


def test_embedder_has_the_contract_of_transformers(vllm: type[StandIn], encoder_folder: Path, load: Any) -> None:
    values: dict[str, Any] = {"name": str(encoder_folder), "query_prefix": "query: ", "max_tokens": 16}
    embedder = load_vllm_embedder(store.resolve(str(encoder_folder)), ModelSettings(**values))
    other = load(encoder_folder, **values)
    assert embedder.contract == other.contract
    assert embedder.identity == other.identity
    vectors = embedder.embed_queries(["red bag " * 50, "usb"])
    lengths = [len(prompt["prompt_token_ids"]) for prompt in vllm.last.asked[0]]
    assert lengths[0] == 16  # cut
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vllm.last.options["pooler_config"].pooling_type == "MEAN"
    assert (vllm.last.options["runner"], vllm.last.options["convert"]) == ("pooling", "embed")
    assert embedder.embed_items([]).shape == (0, 32)


def test_empty_text_of_a_model_without_special_tokens(vllm: type[StandIn], decoder_folder: Path) -> None:
    embedder = load_vllm_embedder(store.resolve(str(decoder_folder)), ModelSettings(name=str(decoder_folder)))
    embedder.embed_items(["", "red"])
    assert vllm.last.asked[0][0] == {"prompt_token_ids": [vllm.last.tokenizer.eos_token_id]}
    assert vllm.last.options["pooler_config"].pooling_type == "LAST"


def test_bad_vectors_and_failures(vllm: type[StandIn], encoder_folder: Path) -> None:
    embedder = load_vllm_embedder(store.resolve(str(encoder_folder)), ModelSettings(name=str(encoder_folder)))
    vllm.last.scale = math.nan
    with pytest.raises(EmbeddingError, match="NaN"):
        embedder.embed_items(["red bag"])
    vllm.last.failure = RuntimeError("engine is dead")
    with pytest.raises(ModelError, match="engine is dead"):
        embedder.embed_items(["red bag"])
