"""A model that is published as one GGUF file, made into the usual files: weights, configuration, tokenizer.

Done once, when the model is fetched: afterwards nothing knows that it was a GGUF. The weights are what the quantised
ones stand for, rounded to bfloat16, whose error is far below the quantisation's.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers

from lrem_os.errors import CheckpointError
from lrem_os.extras import require
from lrem_os.model.quiet import quiet


def convert(file: Path, target: Path) -> None:
    """Write a GGUF causal LM as safetensors (bfloat16) with configuration and tokenizer into an existing folder.

    Raises:
        CheckpointError: It is damaged, or of an architecture that transformers cannot read from GGUF.
        DependencyMissing: The package gguf is not installed.
    """
    require("gguf", extra="model")
    source = {"gguf_file": file.name, "local_files_only": True}
    with quiet(), redirect_stderr(io.StringIO()):  # its progress bar heeds no setting
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **source)
            read = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **source)
        except Exception as exc:  # whatever the reader of a damaged file runs into, down to struct.error
            raise CheckpointError(f"{file.name} cannot be read as GGUF: {exc}") from exc
        _plain(read).save_pretrained(str(target))
        tokenizer.save_pretrained(str(target))


def _plain(read: Any) -> Any:
    """Return the model without the mark of its quantisation, which refuses to be saved."""
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    auto: Any = transformers.AutoModelForCausalLM  # partly untyped
    model = auto.from_config(config)
    model.load_state_dict(read.state_dict())
    return model.to(torch.bfloat16)
