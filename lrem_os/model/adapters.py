"""Putting a LoRA adapter into a model's weights, once it is certain that the two belong together.

peft passes over what does not fit with a warning, and a model with half an adapter answers, only badly.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from lrem_os.errors import CheckpointError
from lrem_os.model.package import read_adapter_config
from lrem_os.model.quiet import quiet

_NAMED = 3  # in a message
_HEX_DIGITS = 40  # of a hub commit, and of our hashes; shorter revisions are branches and tags


def load_adapter(model: Any, folder: Path, *, base: str, revision: str = "") -> Any:
    """Return the model with the adapter merged into its weights, which are float32 from then on.

    Args:
        model: A transformers model; changed in place.
        folder: ``adapter_config.json`` and ``adapter_model.safetensors``, as peft writes them.
        base: The model's name: the adapter must have been trained on it.
        revision: The model's hub commit or hash; compared where the adapter records one for the same name.

    Raises:
        CheckpointError: The adapter is damaged, pickled, of another kind, or does not fit the model; by name.
    """
    check_base(read_adapter_config(folder), folder, base, revision)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that a newer peft wrote: what matters is checked below
        try:
            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode, config.init_lora_weights = True, True  # others change the base's weights
            tensors = load_file(folder / "adapter_model.safetensors")
            wrapped = PeftModel(model.float(), config)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as exc:
            raise CheckpointError(f"the adapter in {folder} does not fit {base}: {exc}") from exc
        tensors, places = map(_used, (tensors, get_peft_model_state_dict(wrapped, save_embedding_layers=False)))
        _check_tensors(tensors, places, folder, base)
        set_peft_model_state_dict(wrapped, tensors)
        return wrapped.merge_and_unload().eval()


def _used(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out what belongs to BERT's pooler, which no vector comes from."""
    return {name: value for name, value in tensors.items() if ".pooler." not in name}


def check_base(config: Mapping[str, Any], folder: Path, base: str, revision: str) -> None:
    """Check that an adapter says it was trained on this model.

    Raises:
        CheckpointError: It names another one, another revision of it, or none.
    """
    recorded, commit = str(config.get("base_model_name_or_path") or ""), str(config.get("revision") or "")
    if not recorded:
        raise CheckpointError(
            f"the adapter in {folder} does not say which model it is for",
            hint=f'if it is for {base}, write "base_model_name_or_path": "{base}" into its adapter_config.json',
        )
    if PurePath(recorded).name != PurePath(base).name:
        raise CheckpointError(
            f"the adapter in {folder} is for {recorded}, not for {base}",
            hint="if the two are the same model, change base_model_name_or_path in its adapter_config.json",
        )
    if recorded == base and len(commit) == len(revision) == _HEX_DIGITS and commit != revision:
        raise CheckpointError(f"the adapter in {folder} is for revision {commit[:12]} of {base}, not {revision[:12]}")


def _check_tensors(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], folder: Path, base: str
) -> None:
    shapes = {name: tuple(found[name].shape) for name in found.keys() & expected.keys()}
    problems = [
        *(f"{name} has no place in it" for name in sorted(found.keys() - expected.keys())),
        *(f"{name} is missing" for name in sorted(expected.keys() - found.keys())),
        *(
            f"{name} is {shape}, and {tuple(expected[name].shape)} is wanted"
            for name, shape in sorted(shapes.items())
            if shape != tuple(expected[name].shape)
        ),
        *(f"{name} holds NaN or infinity" for name, value in sorted(found.items()) if not value.isfinite().all()),
    ]
    if problems:
        more = f", and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CheckpointError(f"the adapter in {folder} does not fit {base}: {'; '.join(problems[:_NAMED])}{more}")
