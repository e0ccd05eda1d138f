"""What a model's own files say about how to use it: pooling, length, prompts (sentence-transformers' layout)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lrem_os.config import ModelSettings
from lrem_os.errors import CheckpointError, ConfigError, ModelError
from lrem_os.model.contract import Pooling, TokenContract
from lrem_os.model.store import ModelFiles

_RUNNABLE = {"Transformer", "Pooling", "Normalize"}
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}  # their positions start after the padding id
_FALLBACK_TOKENS = 512  # neither tokenizer nor model names a limit
_UNLIMITED = 10**6  # tokenizers write 10**30 for "not known"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the makers of a model use it.

    Args:
        architecture: Class name, for example ``BertModel``.
        pooling: How token states become one vector.
        max_tokens: Length the model was made for; special tokens count.
        max_positions: Length beyond which it cannot run.
        lowercase: Whether texts are lower-cased first.
        query_prompt: Put before a query.
        item_prompt: Put before an item.
        pools_prompt: Whether the tokens of the prompt are pooled too.
    """

    architecture: str
    pooling: Pooling
    max_tokens: int
    max_positions: int
    lowercase: bool = False
    query_prompt: str = ""
    item_prompt: str = ""
    pools_prompt: bool = True


def read_recipe(folder: Path, pooling: Pooling | Literal["auto"] = "auto") -> Recipe:
    """Return what the model files in a folder say.

    Args:
        folder: The model.
        pooling: Taken instead of what the files say, unless ``auto``.

    Raises:
        CheckpointError: A file is missing or not JSON.
        ModelError: The model needs a step that is not implemented here.
    """
    config = _read_object(folder / "config.json", required=True)
    pooling_config = _pooling_config(folder)
    transformer = _read_object(next(iter(sorted(folder.glob("sentence_*_config.json"))), folder / "-"))
    prompts = _read_object(folder / "config_sentence_transformers.json").get("prompts") or {}
    architecture = (config.get("architectures") or ["unknown"])[0]
    max_positions = _max_positions(config)
    made_for = transformer.get("max_seq_length") or _read_object(folder / "tokenizer_config.json").get(
        "model_max_length"
    )
    known = [limit for limit in (made_for, max_positions) if limit and limit < _UNLIMITED]
    return Recipe(
        architecture=architecture,
        pooling=_pooling(pooling_config, architecture, folder) if pooling == "auto" else pooling,
        max_tokens=int(min(known, default=_FALLBACK_TOKENS)),
        max_positions=max_positions or _UNLIMITED,
        lowercase=bool(transformer.get("do_lower_case")),
        query_prompt=prompts.get("query") or "",
        item_prompt=next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), ""),
        pools_prompt=bool(pooling_config.get("include_prompt", True)),
    )


def max_tokens_of(recipe: Recipe, settings: ModelSettings) -> int:
    """Return the length that texts are cut to.

    Raises:
        ConfigError: ``model.max_tokens`` is more than the model can read.
    """
    if settings.max_tokens is None:
        return recipe.max_tokens
    if settings.max_tokens > recipe.max_positions:
        raise ConfigError(
            f"model.max_tokens is {settings.max_tokens}, but {settings.name} cannot read more than"
            f" {recipe.max_positions}",
            hint=f"set it to {recipe.max_positions} or less",
        )
    return settings.max_tokens


def build_contract(
    files: ModelFiles, recipe: Recipe, settings: ModelSettings, *, dimension: int, tokenizer: Any
) -> TokenContract:
    """Return how a model turns texts into vectors, the same whichever library runs it.

    Args:
        files: The model.
        recipe: What its files say.
        settings: What is wanted instead.
        dimension: Length D of its vectors.
        tokenizer: Its tokenizer, of transformers.

    Raises:
        ConfigError: ``model.max_tokens`` is more than the model can read.
        ModelError: The model pools in a way that is not implemented here.
    """
    contract = TokenContract(
        model=files.name,
        revision=files.revision,
        dimension=dimension,
        pooling=recipe.pooling,
        max_tokens=max_tokens_of(recipe, settings),
        special_tokens=tuple(tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])),
        query_prefix=recipe.query_prompt if settings.query_prefix is None else settings.query_prefix,
        item_prefix=recipe.item_prompt if settings.item_prefix is None else settings.item_prefix,
        lowercase=recipe.lowercase,
    )
    if not recipe.pools_prompt and (contract.query_prefix or contract.item_prefix):
        raise ModelError(
            f"{files.name} leaves its prompt out when it pools, which lrem-os does not do",
            hint="set model.query_prefix and model.item_prefix to '', or take another model",
        )
    return contract


def _pooling_config(folder: Path) -> Mapping[str, Any]:
    """Return the pooling module's configuration; empty when the folder is a plain transformer.

    Raises:
        ModelError: The folder lists modules that are not implemented here.
    """
    found: Mapping[str, Any] = {}
    for module in _read_json(folder / "modules.json", list) or []:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind not in _RUNNABLE:
            raise ModelError(
                f"{folder.name}: the model has a {kind!r} module, which lrem-os does not run",
                hint=f"take a model made of {', '.join(sorted(_RUNNABLE))}",
            )
        if kind == "Pooling":
            found = _read_object(folder / module.get("path", "") / "config.json", required=True)
    return found


def _pooling(config: Mapping[str, Any], architecture: str, folder: Path) -> Pooling:
    """Return the pooling the makers used; without word from them, last token for decoders and mean for the rest."""
    if not config:
        return "last" if "CausalLM" in architecture else "mean"
    named = config.get("pooling_mode")  # since sentence-transformers 5.4; before, one switch a mode
    modes = [named] if named else [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    names: Mapping[str, Pooling] = {
        "mean": "mean",
        "cls": "cls",
        "lasttoken": "last",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    if len(modes) == 1 and modes[0] in names:
        return names[modes[0]]
    raise ModelError(
        f"{folder.name}: the model pools by {', '.join(map(str, modes)) or 'nothing'}, which lrem-os does not",
        hint="set model.pooling to mean, cls or last only if you know that the model was trained so",
    )


def _max_positions(config: Mapping[str, Any]) -> int | None:
    positions = config.get("max_position_embeddings")
    if not positions:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        return int(positions) - int(config.get("pad_token_id") or 1) - 1
    return int(positions)


def _read_object(path: Path, *, required: bool = False) -> dict[str, Any]:
    """Return a JSON object; a file that is not there is an empty one unless it is required."""
    found: dict[str, Any] | None = _read_json(path, dict)
    if found is None and required:
        raise CheckpointError(f"{path} is missing")
    return found or {}


def _read_json(path: Path, kind: type) -> Any:
    """Return what a JSON file holds, ``None`` if there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}, not a {kind.__name__}")
    return value
