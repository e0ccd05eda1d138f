"""The model that is trained: loaded by name, with an adapter or whole, and saved again. Safetensors only."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.model import store
from lrem_os.model.package import read_adapter_config
from lrem_os.model.quiet import quiet
from lrem_os.train.settings import Base, Lora

Kind = Literal["causal", "encoder"]
"""A language model with its output layer, or one that gives hidden states alone."""

ADAPTER, WEIGHTS = "adapter", "model"
"""Folders of an output: what was trained."""

_TINY = {  # of --dry-run: the architecture's own layers, narrow and few
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
}
_TINY_VOCABULARY = 1000
_END = "<|endoftext|>"
_NOT_COPIED = {"architectures", "dtype", "layer_types", "model_type", "torch_dtype", "transformers_version"}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A model and its tokenizer.

    Args:
        model: On its device.
        tokenizer: Its tokenizer.
        kind: What it gives.
        name: As the recipe has it, without a path of this machine.
        revision: Hub commit, or hash of weights and tokenizer; empty for random weights.
        path: Folder of its files; none for random weights.
    """

    model: Any
    tokenizer: Any
    kind: Kind
    name: str
    revision: str = ""
    path: Path | None = None


def load_backbone(base: Base, kind: Kind, *, device: torch.device, dtype: torch.dtype) -> Backbone:
    """Return a published model; its files are fetched first if they are not here.

    Args:
        base: Its name and revision; its adapter is left to ``with_adapter``.
        kind: What it is loaded as.
        device: Where to.
        dtype: Of the weights.

    Raises:
        CheckpointError: The files are not a whole model.
        ModelError: It could not be fetched.
    """
    files = store.resolve(base.name, base.revision)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(files.path), **options)
            config = transformers.AutoConfig.from_pretrained(str(files.path), **options)
            model, info = _auto(kind).from_pretrained(
                str(files.path),
                config=config,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **_without_pooler(kind, config),
                **options,
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as exc:
        raise CheckpointError(f"the model {base.name} cannot be loaded for training: {exc}") from exc
    if wrong := [*sorted(info["missing_keys"]), *map(str, info["mismatched_keys"])]:
        raise CheckpointError(f"{base.name} lacks weights of {type(model).__name__}: {', '.join(wrong[:3])}")
    return Backbone(model.to(device, dtype), tokenizer, kind, files.name, files.revision, files.path)


def random_backbone(base: Base, kind: Kind, texts: Sequence[str], *, device: torch.device) -> Backbone:
    """Return a narrow model of the same architecture with random weights: nothing is fetched.

    Args:
        base: Its ``model_type``, or the configuration of files that are here, names the architecture.
        kind: What it is built as.
        texts: A tokenizer is trained on them.
        device: Where to.

    Raises:
        ConfigError: Neither is known.
    """
    written = {} if base.model_type else _local_config(base)
    model_type = str(base.model_type or written.get("model_type"))
    if model_type not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"base.model_type is {model_type!r}, and the files of {base.name} are not here to tell",
            hint="set base.model_type to what transformers calls the architecture: llama, qwen3, bert",
        )
    tokenizer = _train_tokenizer(texts)
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    kept = {name: value for name, value in written.items() if name not in _NOT_COPIED}
    config = transformers.AutoConfig.for_model(model_type, **{**kept, **_TINY, **tokens})
    with quiet():
        model = _auto(kind).from_config(config, **_without_pooler(kind, config))
    return Backbone(model.to(device, torch.float32), tokenizer, kind, base.name)


def with_adapter(model: Any, kind: Kind, lora: Lora | None, adapter: Path | None, tokens: Sequence[int] = ()) -> Any:
    """Return the model as it is trained: an adapter put on or gone on with, or all weights.

    Args:
        model: A transformers model.
        kind: What it is.
        lora: The adapter to train; none: all weights, an earlier adapter merged into them.
        adapter: Folder of an adapter of an earlier stage.
        tokens: Ids of tokens that are new, whose embeddings are trained with the adapter.

    Raises:
        CheckpointError: The earlier adapter cannot be loaded, or does not fit the model.
        ConfigError: The earlier adapter has another rank than the recipe.
    """
    if adapter is not None:
        model = _go_on(model, adapter, trainable=lora is not None)
        if lora is None:
            return model.merge_and_unload().requires_grad_(True)
        rank = model.peft_config["default"].r
        if rank != lora.rank:
            raise ConfigError(f"lora.rank is {lora.rank}, but the adapter in {adapter} has {rank}: make them equal")
    elif lora is not None:
        with _quiet_peft():
            model = get_peft_model(model, _lora_config(model, kind, lora, tokens))
    for value in model.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    return model


def save_backbone(backbone: Backbone, folder: Path, *, with_tokenizer: bool) -> Path:
    """Write what was trained: the adapter, with the base it belongs to, or all weights. Return its folder.

    Args:
        backbone: The trained model.
        folder: Output folder of the run.
        with_tokenizer: Whether the tokenizer is written beside an adapter (it has new tokens).
    """
    model, is_adapter = backbone.model, isinstance(backbone.model, PeftModel)
    target = folder / (ADAPTER if is_adapter else WEIGHTS)
    with quiet():
        if is_adapter:
            model.save_pretrained(str(target), save_embedding_layers=False)
            _name_base(target, backbone)
        else:
            model.save_pretrained(str(target))
        if with_tokenizer or not is_adapter:
            backbone.tokenizer.save_pretrained(str(target))
    return target


def _auto(kind: Kind) -> Any:
    return transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModel


def _without_pooler(kind: Kind, config: Any) -> dict[str, Any]:
    """Return the option that leaves BERT's pooler out: it is not used, and would be trained for nothing."""
    if kind == "causal":
        return {}
    model: Any = transformers.MODEL_MAPPING[type(config)]
    model = model[0] if isinstance(model, (tuple, list)) else model
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model).parameters else {}


def _local_config(base: Base) -> dict[str, Any]:
    files = store.find(base.name, base.revision)
    if files is None:
        return {}
    config: dict[str, Any] = json.loads((files.path / "config.json").read_text(encoding="utf-8"))
    return config


def _train_tokenizer(texts: Sequence[str]) -> Any:
    """Return a byte-level tokenizer; the first token ends a text and fills up a batch."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TINY_VOCABULARY,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = {"eos_token": _END, "pad_token": _END}
    fast: Any = transformers.PreTrainedTokenizerFast  # partly untyped
    return fast(tokenizer_object=tokenizer, model_max_length=512, **special)


def _lora_config(model: Any, kind: Kind, lora: Lora, tokens: Sequence[int]) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        task_type="CAUSAL_LM" if kind == "causal" else "FEATURE_EXTRACTION",
        trainable_token_indices=_new_rows(model, tokens) if tokens else None,
    )


def _new_rows(model: Any, tokens: Sequence[int]) -> dict[str, list[int]]:
    """Return the rows to train by module: of the embedding, and of the output layer where it has weights of its own."""
    wanted = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        wanted.append(model.get_output_embeddings())
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    return {names[id(module)]: list(tokens) for module in wanted}


def _go_on(model: Any, adapter: Path, *, trainable: bool) -> Any:
    read_adapter_config(adapter)  # refuses what is not there, and pickled weights
    try:
        with _quiet_peft():
            return PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as exc:
        raise CheckpointError(f"the adapter in {adapter} does not fit the model: {exc}") from exc


def _name_base(folder: Path, backbone: Backbone) -> None:
    """Have the adapter say what it belongs to, by name and not by a path of this machine."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": backbone.name, "revision": backbone.revision or None}
    path.write_text(json.dumps(dict(_sorted(config)), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's card: the run writes a better one, one folder up


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Keep peft's and transformers' deprecations to themselves: they are about each other."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _sorted(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries in one order: peft keeps sets, whose order differs from run to run."""
    for name in sorted(config):
        value = config[name]
        plain = isinstance(value, list) and all(isinstance(item, str) for item in value)
        yield name, sorted(value) if plain else value
