"""Tiny models with random weights, made on the spot: nothing here needs a hub or an index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WORDS = "red blue leather handbag usb cable 2 m notebook printer toner black original for copy centre the a of".split()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache."""
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _save_tokenizer(folder: Path, *, around: str | None, max_length: int) -> int:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS), "abcdefghijklmnopqrstuvwxyz0123456789"], trainer)
    if around:
        ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="[SEP]",
        model_max_length=max_length,
    )
    fast.save_pretrained(str(folder))
    return tokenizer.get_vocab_size()


@pytest.fixture(scope="session")
def _encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    vocab_size = _save_tokenizer(folder, around="[CLS] $A [SEP]", max_length=48)
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
    vocab_size = _save_tokenizer(folder, around=None, max_length=10**30)
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
def load() -> Iterator[Callable[..., Any]]:
    """``load(folder, **settings)``: an embedder on the CPU in float32."""
    from lrem_os.config import ModelSettings
    from lrem_os.model.load import load_embedder

    def _load(folder: Path, **values: Any) -> Any:
        defaults: dict[str, Any] = {"name": str(folder), "device": "cpu", "dtype": "float32"}
        return load_embedder(ModelSettings(**{**defaults, **values}))

    yield _load
