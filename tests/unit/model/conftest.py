"""Tiny models with random weights, made on the spot: nothing here needs a hub or an index."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import tokenizers

WORDS = "red blue leather handbag usb cable 2 m notebook printer toner black original for copy centre the a of"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache."""
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="session")
def _encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = tokenizers.over_words([WORDS, "abcdefghijklmnopqrstuvwxyz0123456789"], vocab_size=200)
    vocab_size = tokenizers.save(tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", model_max_length=48)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,  # the usual 0.02 makes all vectors alike, and a test that compares them blind
    )
    BertModel(config).save_pretrained(str(folder))
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    write_json(folder / "1_Pooling/config.json", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    return folder


@pytest.fixture(scope="session")
def _decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-qwen"
    end = "<|endoftext|>"
    tokenizer = tokenizers.over_bytes([WORDS], vocab_size=300, end=end)
    vocab_size = tokenizers.save(tokenizer, folder, pad_token=end, eos_token=end, model_max_length=10**30)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    Qwen2ForCausalLM(config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def encoder_folder(_encoder: Path, tmp_path: Path) -> Path:
    """A BERT of 32 dimensions, its own copy for every test."""
    return Path(shutil.copytree(_encoder, tmp_path / "tiny-bert"))


@pytest.fixture
def decoder_folder(_decoder: Path, tmp_path: Path) -> Path:
    """A causal model of 32 dimensions without special tokens, its own copy for every test."""
    return Path(shutil.copytree(_decoder, tmp_path / "tiny-qwen"))


@pytest.fixture(scope="session")
def load() -> Callable[..., Any]:
    """``load(folder, **settings)``: an embedder on the CPU in float32."""
    from lrem_os.config import ModelSettings
    from lrem_os.model.load import load_embedder

    def _load(folder: Path, **values: Any) -> Any:
        defaults: dict[str, Any] = {"name": str(folder), "device": "cpu", "dtype": "float32"}
        return load_embedder(ModelSettings(**{**defaults, **values}))

    return _load


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., Path]:
    """``make_adapter(model_folder, target, base=name)``: a LoRA adapter that changes what the model says."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    import transformers

    def _make(model_folder: Path, target: Path, *, base: str, causal: bool = False, prepare: Any = None) -> Path:
        auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        model = auto.from_pretrained(str(model_folder), dtype=torch.float32)
        options = prepare(model) if prepare else {}
        torch.manual_seed(1)
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft reads what transformers calls deprecated
            peft.get_peft_model(model, config).save_pretrained(str(target), save_embedding_layers=False)
        path = target / "adapter_config.json"
        written = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base, "revision": None}
        write_json(path, written)
        return target

    return _make
