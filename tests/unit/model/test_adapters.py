from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

BASE = "pypi:tiny"


def load_base(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()


def edit(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_tensors(adapter: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


@pytest.fixture
def adapter(encoder_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    return make_adapter(encoder_folder, tmp_path / "adapter", base=BASE)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads what transformers calls deprecated
def test_it_is_merged_as_peft_would(encoder_folder: Path, adapter: Path) -> None:
    from lrem_os.model.adapters import load_adapter

    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.no_grad():
        plain = load_base(encoder_folder)(ids).last_hidden_state
        expected = peft.PeftModel.from_pretrained(load_base(encoder_folder), str(adapter)).eval()(ids).last_hidden_state
        merged = load_adapter(load_base(encoder_folder), adapter, base=BASE)
        found = merged(ids).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.1
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.parametrize(
    ("recorded", "revision", "complaint"),
    [
        ("pypi:other", None, "is for pypi:other, not for pypi:tiny"),
        ("", None, "does not say which model it is for"),
        (None, None, "does not say which model it is for"),
        (BASE, "a" * 40, "is for revision aaaaaaaaaaaa of pypi:tiny, not bbbbbbbbbbbb"),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    encoder_folder: Path, adapter: Path, recorded: str | None, revision: str | None, complaint: str
) -> None:
    from lrem_os.model.adapters import load_adapter

    edit(adapter, base_model_name_or_path=recorded, revision=revision)
    with pytest.raises(CheckpointError, match=complaint):
        load_adapter(load_base(encoder_folder), adapter, base=BASE, revision="b" * 40)


def test_a_name_that_differs_only_in_its_place_is_the_same(encoder_folder: Path, adapter: Path) -> None:
    from lrem_os.model.adapters import load_adapter

    edit(adapter, base_model_name_or_path="somebody/tiny-bert", revision="main")
    load_adapter(load_base(encoder_folder), adapter, base="tiny-bert", revision="b" * 40)


def _drop(tensors: dict[str, Any]) -> None:
    del tensors[min(tensors)]


def _widen(tensors: dict[str, Any]) -> None:
    name = min(tensors)
    tensors[name] = torch.zeros(tensors[name].shape[0], 99)


def _add(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.decoder.layer.0.lora_A.weight"] = torch.zeros(4, 32)


def _poison(tensors: dict[str, Any]) -> None:
    tensors[min(tensors)][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_drop, r"lora_A\.weight is missing"),
        (_widen, r"\(4, 99\), and \(4, 32\) is wanted"),
        (_add, r"decoder\.layer\.0\.lora_A\.weight has no place"),
        (_poison, "holds NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    encoder_folder: Path, adapter: Path, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    from lrem_os.model.adapters import load_adapter

    change_tensors(adapter, change)
    with pytest.raises(CheckpointError, match=complaint):
        load_adapter(load_base(encoder_folder), adapter, base=BASE)


def test_target_modules_that_the_model_lacks(encoder_folder: Path, adapter: Path) -> None:
    from lrem_os.model.adapters import load_adapter

    edit(adapter, target_modules=["q_proj"])
    with pytest.raises(CheckpointError, match=r"does not fit pypi:tiny.*q_proj"):
        load_adapter(load_base(encoder_folder), adapter, base=BASE)


def test_pickles_and_other_kinds_are_refused(encoder_folder: Path, adapter: Path) -> None:
    from lrem_os.model.adapters import load_adapter

    edit(adapter, peft_type="PREFIX_TUNING")
    with pytest.raises(CheckpointError, match="no LoRA adapter"):
        load_adapter(load_base(encoder_folder), adapter, base=BASE)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="only pickled weights"):
        load_adapter(load_base(encoder_folder), adapter, base=BASE)
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        load_adapter(load_base(encoder_folder), adapter.parent, base=BASE)


def test_a_damaged_file_is_a_sentence(encoder_folder: Path, adapter: Path) -> None:
    from lrem_os.model.adapters import load_adapter

    (adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match=r"does not fit|cannot be read"):
        load_adapter(load_base(encoder_folder), adapter, base=BASE)
