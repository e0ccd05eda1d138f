from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import ModelSettings
from lrem_os.errors import CheckpointError, ConfigError, DependencyMissing, ModelError
from lrem_os.model.load import load_embedder

pytest.importorskip("torch")


def test_the_contract_comes_from_the_models_own_files(encoder_folder: Path, load: Callable[..., Any]) -> None:
    contract = load(encoder_folder).contract
    assert contract.model == "tiny-bert"
    assert (contract.dimension, contract.pooling, contract.max_tokens) == (32, "mean", 32)
    assert contract.special_tokens == ("[CLS]", "[SEP]")


def test_a_decoder_is_pooled_at_its_last_token(decoder_folder: Path, load: Callable[..., Any]) -> None:
    contract = load(decoder_folder).contract
    assert (contract.dimension, contract.pooling, contract.max_tokens) == (32, "last", 40)
    assert contract.special_tokens == ()


def test_settings_come_before_the_models_files(encoder_folder: Path, load: Callable[..., Any]) -> None:
    prompts = {"prompts": {"query": "find: ", "document": "it: "}}
    (encoder_folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    own = load(encoder_folder).contract
    assert (own.query_prefix, own.item_prefix) == ("find: ", "it: ")
    set_ = load(encoder_folder, query_prefix="", item_prefix="x", pooling="cls", max_tokens=16).contract
    assert (set_.query_prefix, set_.item_prefix, set_.pooling, set_.max_tokens) == ("", "x", "cls", 16)


def test_a_prompt_that_is_not_pooled_is_refused(encoder_folder: Path, load: Callable[..., Any]) -> None:
    (encoder_folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}))
    with pytest.raises(ModelError, match="leaves its prompt out"):
        load(encoder_folder, query_prefix="find: ")
    load(encoder_folder)


def test_the_same_model_elsewhere_has_the_same_identity(
    encoder_folder: Path, load: Callable[..., Any], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = load(encoder_folder).identity
    encoder_folder.rename(elsewhere / encoder_folder.name)
    assert load(elsewhere / encoder_folder.name).identity == before
    assert str(tmp_path) not in json.dumps(before)


def test_other_weights_are_another_identity(encoder_folder: Path, load: Callable[..., Any]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    before = load(encoder_folder).identity
    weights = load_file(encoder_folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += torch.tensor(0.001)
    save_file(weights, encoder_folder / "model.safetensors", {"format": "pt"})
    after = load(encoder_folder).identity
    assert {key for key in before if before[key] != after[key]} == {"revision"}


def test_missing_weights_are_not_made_up(encoder_folder: Path, load: Callable[..., Any]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(encoder_folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, encoder_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load(encoder_folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_a_sentence(file: str, encoder_folder: Path, load: Callable[..., Any]) -> None:
    (encoder_folder / file).write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match=encoder_folder.name):
        load(encoder_folder)


def test_code_of_a_model_is_not_run(encoder_folder: Path, load: Callable[..., Any], tmp_path: Path) -> None:
    config = json.loads((encoder_folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}
    (encoder_folder / "config.json").write_text(json.dumps(config))
    (encoder_folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError):
        load(encoder_folder)
    assert not (tmp_path / "ran").exists()


def test_a_limit_beyond_the_model_is_refused(encoder_folder: Path, load: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens is 65.*64"):
        load(encoder_folder, max_tokens=65)


def test_bfloat16_changes_little_and_not_the_identity(encoder_folder: Path, load: Callable[..., Any]) -> None:
    texts = ["red leather handbag", "usb cable", ""]
    exact, rounded = load(encoder_folder), load(encoder_folder, dtype="bfloat16")
    cosines = (exact.embed_items(texts) * rounded.embed_items(texts)).sum(axis=1)
    assert (cosines > 0.99).all()
    assert (cosines != 1.0).any()  # else float32 ran twice
    assert exact.identity == rounded.identity


def test_bfloat16_only_where_the_processor_has_it() -> None:
    from lrem_os.model.hf_load import has_bfloat16

    assert has_bfloat16("model name\t: x\nflags\t\t: fpu avx2 amx_bf16 amx_tile\n")
    assert has_bfloat16("flags : avx512f avx512_bf16")
    assert not has_bfloat16("flags : fpu avx2 avx512f avx512_vnni")
    assert not has_bfloat16("")


def test_cuda_without_a_gpu_is_refused(encoder_folder: Path, load: Callable[..., Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="sees no GPU"):
        load(encoder_folder, device="cuda")


def test_loading_is_quiet_and_opens_no_connection(encoder_folder: Path) -> None:
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network")
socket.socket.connect = socket.getaddrinfo = refuse
from lrem_os.config import ModelSettings
from lrem_os.model.load import load_embedder
print(load_embedder(ModelSettings(name={str(encoder_folder)!r})).embed_items(["red"]).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("(1, 32)\n", "", 0)


@pytest.mark.parametrize("name", ["fake:", "fake:x", "fake:0", "fake:-1", "fake:99999999", "fake:٣x"])
def test_a_fake_needs_a_dimension(name: str) -> None:
    with pytest.raises(ConfigError, match="dimension"):
        load_embedder(ModelSettings(name=name))


def test_a_fake_needs_no_torch() -> None:
    code = (
        "import sys; from lrem_os.config import ModelSettings; from lrem_os.model.load import load_embedder;"
        "print(load_embedder(ModelSettings(name='fake:8')).dimension, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "8 False\n"


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_extra_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyMissing) as caught:
        load_embedder(ModelSettings(name="./x"))
    assert "lrem-os[model]" in (caught.value.hint or "")
