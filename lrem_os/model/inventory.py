"""What can be told about a model without loading it."""

from __future__ import annotations

import json
from typing import Any

from lrem_os.errors import CheckpointError
from lrem_os.model import store
from lrem_os.model.recipe import read_recipe


def summary(files: store.ModelFiles) -> dict[str, Any]:
    """Return where a model is, what it is, and how large, as plain values."""
    return {
        "name": files.name,
        "source": files.source,
        "version": files.version,
        "revision": files.revision,
        "path": str(files.path),
        "bytes": files.num_bytes,
        "files": dict(files.checksums),
    }


def describe(name: str, revision: str | None = None) -> dict[str, Any]:
    """Return the summary of a model whose files have been checked, and how its makers use it.

    Raises:
        CheckpointError: It is not in the cache, or its files are missing or changed.
        ModelError: It needs a step that is not implemented here.
    """
    files = store.find(name, revision)
    if files is None:
        raise CheckpointError(f"{name} is not in the cache", hint=f"lrem-os model pull {name}")
    recipe = read_recipe(files.path)
    config = json.loads((files.path / "config.json").read_text(encoding="utf-8"))
    return {
        **summary(files),
        "architecture": recipe.architecture,
        "width": config.get("hidden_size"),
        "pooling": recipe.pooling,
        "max_tokens": recipe.max_tokens,
        "query_prompt": recipe.query_prompt,
        "item_prompt": recipe.item_prompt,
    }
