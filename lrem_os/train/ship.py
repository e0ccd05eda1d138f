"""From two trained adapters to the package that is shipped: bases named, weights in half precision, checksums."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.model import store
from lrem_os.model.package import Package, Part, read_adapter_config, write_package
from lrem_os.model.prompts import REASON_TEMPLATE_VERSION
from lrem_os.train.backbone import ADAPTER
from lrem_os.train.recipes import load_recipe
from lrem_os.train.settings import EmbedderRecipe, ReasonerRecipe, Recipe, RlRecipe


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter, as training leaves it.

    Args:
        adapter: Its folder.
        base: The published model that it was trained on, as ``model.name`` takes it.
    """

    adapter: Path
    base: str


def ship_composed(
    folder: Path, name: str, embedder: Trained, reasoner: Trained, *, dimension: int, query_side: bool, notes: str = ""
) -> Package:
    """Write the package of a composed model, and return it as it is read.

    The adapters are stored in float16: half the size, and their products with the base's weights move by less than
    the base's own rounding to bfloat16.

    Args:
        folder: Where to.
        name: The package's name.
        embedder: Its embedder.
        reasoner: Its reasoner.
        dimension: Length D of a vector.
        query_side: Whether the embedder's adapter is for queries alone (``items: frozen`` in its recipe).
        notes: For people.

    Raises:
        CheckpointError: An adapter cannot be read.
        ModelError: A base could not be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="lrem-os-") as scratch:
        parts = {
            "embedder": _part(embedder, Path(scratch) / "embedder", side="queries" if query_side else "both"),
            "reasoner": _part(reasoner, Path(scratch) / "reasoner", template=REASON_TEMPLATE_VERSION),
        }
        return write_package(folder, name=name, kind="composed", dimension=dimension, parts=parts, notes=notes)


def ship_runs(folder: Path, name: str, *, embedder: Path, reasoner: Path) -> Package:
    """Write the package of two training runs, each a folder as ``train.run`` leaves it.

    Raises:
        CheckpointError: A run has no adapter.
        ConfigError: A folder is no training run, or one of another stage.
        ModelError: A base could not be fetched.
    """
    embed, reason = _recipe(embedder), _recipe(reasoner)
    if not isinstance(embed, EmbedderRecipe) or not isinstance(reason, ReasonerRecipe | RlRecipe):
        raise ConfigError(f"{embedder} must be a run of the stage embedder, and {reasoner} one of reasoner or rl")
    base = store.resolve(embed.base.name, embed.base.revision)
    dimension = int(json.loads((base.path / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    return ship_composed(
        folder,
        name,
        Trained(embedder / ADAPTER, embed.base.name),
        Trained(reasoner / ADAPTER, reason.base.name),
        dimension=dimension,
        query_side=embed.options.items == "frozen",
    )


def _recipe(run: Path) -> Recipe:
    return load_recipe(run / "recipe.yaml")


def _part(trained: Trained, scratch: Path, *, side: str = "both", template: str = "") -> Part:
    files = store.resolve(trained.base)
    config = dict(read_adapter_config(trained.adapter))
    config |= {"base_model_name_or_path": trained.base, "inference_mode": True, "revision": None}
    scratch.mkdir()
    (scratch / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = load_file(trained.adapter / "adapter_model.safetensors")
    halves = {key: value.to(torch.float16).contiguous() for key, value in tensors.items()}
    if not all(bool(value.isfinite().all()) for value in halves.values()):
        raise CheckpointError(f"{trained.adapter} has weights that float16 cannot hold")
    save_file(halves, scratch / "adapter_model.safetensors", metadata={"format": "pt"})
    for extra in ("tokenizer.json", "tokenizer_config.json"):
        if (trained.adapter / extra).is_file():
            shutil.copyfile(trained.adapter / extra, scratch / extra)
    return Part(
        base=trained.base,
        revision=files.revision,
        version=files.version or None,
        adapter=scratch,
        template=template,
        side="queries" if side == "queries" else "both",
    )
