"""A model that is one GGUF file, made on the spot: converted once, and then like any other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError, DependencyMissing
from lrem_os.model import store
from tests.fakes.tiny_gguf import write_gguf

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-llama"
    folder.mkdir()
    write_gguf(folder / "tiny.gguf")
    return folder


def test_a_folder_with_one_gguf_is_converted_once(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert store.find(str(folder)) is None  # looking converts nothing
    files = store.resolve(str(folder))
    assert capfd.readouterr() == ("", "")
    assert (files.name, files.source) == ("tiny-llama", "folder")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files.checksums)
    assert [path.name for path in folder.iterdir()] == ["tiny.gguf"]
    monkeypatch.setattr("lrem_os.model.gguf.convert", lambda *_: pytest.fail("converted again"))
    assert store.resolve(str(folder)) == files
    model = AutoModelForCausalLM.from_pretrained(str(files.path), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(files.path))
    expected = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file="tiny.gguf", dtype=torch.float32)
    ids = tokenizer("red bag", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "red bag"
    assert tokenizer.eos_token == "<|end|>"
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits, rtol=0.05, atol=0.2)  # bfloat16


def test_the_same_gguf_elsewhere_is_the_same_model(folder: Path) -> None:
    before = store.resolve(str(folder))
    renamed = folder.rename(folder.with_name("other"))
    (renamed / "tiny.gguf").rename(renamed / "model.gguf")
    after = store.resolve(str(renamed))
    assert (after.revision, after.path) == (before.revision, before.path)


def test_a_damaged_gguf_is_a_sentence(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(b"GGUF" + b"\x03" * 40)
    with pytest.raises(CheckpointError, match=r"tiny\.gguf cannot be read as GGUF"):
        store.resolve(str(folder))
    assert store.cached() == []


def test_several_ggufs_are_refused(folder: Path) -> None:
    (folder / "other.gguf").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds 2 GGUF files"):
        store.resolve(str(folder))


def test_without_the_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(DependencyMissing, match="'gguf'"):
        store.resolve(str(folder))
