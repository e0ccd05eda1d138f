"""What can be told about a model without loading it."""

from __future__ import annotations

import json
from typing import Any

from lrem_os.errors import CheckpointError
from lrem_os.model import store
from lrem_os.model.package import Package, find_package
from lrem_os.model.recipe import read_recipe


def pull(name: str, revision: str | None = None, *, force: bool = False) -> dict[str, Any]:
    """Fetch a model, or the bases of a trained one, and return its summary.

    Raises:
        CheckpointError: It cannot be used.
        ModelError: It could not be fetched.
    """
    package = find_package(name)
    if package is None:
        return summary(store.pull(name, revision, force=force))
    for part in package.parts.values():
        store.pull(part.base, part.version, force=force)
    return _package_summary(package)


def missing(name: str, revision: str | None = None) -> list[str]:
    """Return what would have to be fetched before this model can be used; what is here is checked.

    Raises:
        CheckpointError: Files are damaged.
    """
    package = find_package(name)
    wanted = [(name, revision)] if package is None else [(one.base, one.version) for one in package.parts.values()]
    return [base for base, version in wanted if store.find(base, version) is None]


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
    package = find_package(name)
    if package is not None:
        return _package_summary(package)
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


def _package_summary(package: Package) -> dict[str, Any]:
    parts = {
        name: f"{part.base}@{part.version or part.revision[:12]}{' + adapter' if part.adapter else ''}"
        for name, part in package.parts.items()
    }
    return {
        "name": package.name,
        "source": "package",
        "version": "",
        "revision": package.revision(next(iter(package.parts))),
        "path": str(package.folder),
        "bytes": sum((package.folder / file).stat().st_size for file in package.checksums),
        "files": dict(package.checksums),
        "kind": package.kind,
        "width": package.dimension,
        **parts,
        "notes": package.notes,
    }
