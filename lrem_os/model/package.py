"""A trained model as one folder: adapters, and ``lrem.json``, which says what they belong to.

``lrem:NAME`` is a folder that ships with lrem-os (``lrem_os/pretrained/NAME``); any other folder with a ``lrem.json``
works the same. Kind ``composed``: an embedder and a reasoner, each a published base with a LoRA adapter; kind
``unified``: one causal LM, its adapter and its tokenizer with the added tokens. The bases are fetched as any model is.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.model.prompts import CHAT_TEMPLATE_VERSION, REASON_TEMPLATE_VERSION, UNIFIED_TEMPLATE_VERSION

MANIFEST = "lrem.json"
PREFIX = "lrem:"
FORMAT = 1
"""Of ``lrem.json``; raised when an older lrem-os would read a newer file wrongly."""

Kind = Literal["composed", "unified"]
_PARTS: Mapping[str, tuple[str, ...]] = {"composed": ("embedder", "reasoner"), "unified": ("model",)}
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "embedder": ("",),
    "reasoner": (REASON_TEMPLATE_VERSION, CHAT_TEMPLATE_VERSION),
    "model": (UNIFIED_TEMPLATE_VERSION,),
}
_SIDES: Mapping[str, Literal["both", "queries"]] = {"both": "both", "queries": "queries"}
_SUFFIXES = {".safetensors", ".json", ".txt", ".jinja"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Part:
    """A published model, and what training made of it.

    Args:
        base: Name of the published model, as ``model.name`` takes it; never a path of one machine.
        revision: Its hub commit, or hash of its files: what is found under the name must be this.
        version: What to ask for to get that: hub commit or wheel version; ``None``: the newest.
        adapter: Folder of the LoRA adapter; ``None``: the base as it is.
        template: Version of the prompt that it was trained on; empty for an embedder.
        side: ``queries``: an embedder whose adapter is for queries alone; items are embedded by the base, and an index
            that the base has built is valid.
    """

    base: str
    revision: str
    version: str | None = None
    adapter: Path | None = None
    template: str = ""
    side: Literal["both", "queries"] = "both"


@dataclass(frozen=True, slots=True)
class Package:
    """A trained model on disk, its files checked.

    Args:
        name: Its own, part of what makes vectors comparable.
        folder: Where it lies.
        kind: ``composed`` or ``unified``.
        dimension: Length D of its vectors.
        parts: ``embedder`` and ``reasoner``, or ``model``.
        checksums: SHA-256 by relative file name.
        notes: For people.
    """

    name: str
    folder: Path
    kind: Kind
    dimension: int
    parts: Mapping[str, Part]
    checksums: Mapping[str, str]
    notes: str = ""

    def revision(self, part: str) -> str:
        """Return a name for what decides a part's output: the base and the adapter's files."""
        one = self.parts[part]
        inside = f"{one.adapter.relative_to(self.folder).as_posix()}/" if one.adapter else "/"
        decisive = {name: digest for name, digest in self.checksums.items() if name.startswith(inside)}
        canonical = json.dumps([one.revision, one.template, decisive], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:40]


def find_package(name: str) -> Package | None:
    """Return the package that a model's name stands for, checked; ``None`` for names of plain models.

    Raises:
        CheckpointError: It is damaged, or does not fit this version of lrem-os.
        ConfigError: There is no such package.
    """
    if name.startswith(PREFIX):
        return read_package(_shipped(name))
    return read_package(Path(name).expanduser()) if (Path(name).expanduser() / MANIFEST).is_file() else None


def read_package(folder: Path) -> Package:
    """Return the package in a folder, every file compared with the manifest.

    Raises:
        CheckpointError: The manifest cannot be read, is of another format, names an unknown kind or template; a file
            is missing or changed; an adapter was trained on another base.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {manifest['format']!r}, and this lrem-os reads {FORMAT}", hint="update lrem-os"
            )
        if manifest["kind"] not in _PARTS:
            raise CheckpointError(f"{path} is of kind {manifest['kind']!r}, not {' or '.join(get_args(Kind))}")
        package = Package(
            name=str(manifest["name"]),
            folder=folder,
            kind=manifest["kind"],
            dimension=int(manifest["dimension"]),
            parts={name: _read_part(manifest[name], folder) for name in _PARTS[manifest["kind"]]},
            checksums={str(name): str(digest) for name, digest in manifest["files"].items()},
            notes=str(manifest.get("notes", "")),
        )
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path} is damaged: {exc!r}") from exc
    _check_files(package)
    for name, part in package.parts.items():
        _check_part(path, name, part, package.checksums)
    return package


def write_package(
    folder: Path, *, name: str, kind: Kind, dimension: int, parts: Mapping[str, Part], notes: str = ""
) -> Package:
    """Copy the adapters into a folder, write the manifest, and return the package as it is read.

    Args:
        folder: Made if it is not there; files that are no part of the package stay.
        name: Lower case letters, digits, ``-`` and ``_``.
        kind: ``composed`` (parts ``embedder`` and ``reasoner``) or ``unified`` (part ``model``).
        dimension: Length D of its vectors.
        parts: Their adapters lie where training has put them.
        notes: For people: data, recipe, numbers.

    Raises:
        CheckpointError: What was written cannot be read as a package.
        ConfigError: The name or the parts are wrong.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a package cannot be named {name!r}: lower case letters, digits, - and _")
    if tuple(sorted(parts)) != _PARTS[kind]:
        raise ConfigError(f"a {kind} package has the parts {', '.join(_PARTS[kind])}, not {', '.join(parts)}")
    folder.mkdir(parents=True, exist_ok=True)
    checksums: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}
    for key, part in parts.items():
        for source in sorted(part.adapter.iterdir()) if part.adapter else ():
            if source.suffix in _SUFFIXES and source.is_file():
                target = folder / key / source.name
                target.parent.mkdir(exist_ok=True)
                if source.resolve() != target.resolve():
                    shutil.copyfile(source, target)
                checksums[f"{key}/{source.name}"] = _sha256(target)
        adapter = key if part.adapter else None
        rows[key] = {"base": part.base, "version": part.version, "revision": part.revision, "adapter": adapter}
        rows[key] |= {"template": part.template} if part.template else {"side": part.side}
    manifest = {"format": FORMAT, "name": name, "kind": kind, "dimension": dimension, **rows, "files": checksums}
    text = json.dumps(manifest | ({"notes": notes} if notes else {}), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return read_package(folder)


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """Return what an adapter says about itself.

    Raises:
        CheckpointError: It is no LoRA adapter in safetensors.
    """
    path = folder / "adapter_config.json"
    if not (folder / "adapter_model.safetensors").is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = "only pickled weights, which can run code when loaded" if pickled else "no adapter_model.safetensors"
        raise CheckpointError(f"{folder} holds {why}: no adapter that can be taken")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(f"{path} describes no LoRA adapter, and others are not taken")
    return config


def shipped() -> list[str]:
    """Return the names that ``lrem:`` takes."""
    folder = Path(str(resources.files("lrem_os"))) / "pretrained"
    return sorted(f"{PREFIX}{path.parent.name}" for path in folder.glob(f"*/{MANIFEST}"))


def _shipped(name: str) -> Path:
    found = shipped()
    if name not in found:
        raise ConfigError(f"there is no model {name}", hint=f"there is {', '.join(found) or 'none in this version'}")
    return Path(str(resources.files("lrem_os"))) / "pretrained" / name.removeprefix(PREFIX)


def _read_part(row: Mapping[str, Any], folder: Path) -> Part:
    adapter = row.get("adapter")
    if adapter is not None and not _NAME.fullmatch(adapter):
        raise ValueError(f"adapter {adapter!r} is no folder in here")
    return Part(
        base=str(row["base"]),
        revision=str(row["revision"]),
        version=None if row.get("version") is None else str(row["version"]),
        adapter=None if adapter is None else folder / adapter,
        template=str(row.get("template", "")),
        side=_SIDES[row.get("side", "both")],
    )


def _check_files(package: Package) -> None:
    for relative, expected in package.checksums.items():
        path = package.folder / relative
        if not path.resolve().is_relative_to(package.folder.resolve()) or not path.is_file():
            raise CheckpointError(f"{path} is missing: {package.name} is not whole")
        if (found := _sha256(path)) != expected:
            raise CheckpointError(f"{path} has changed: SHA-256 {found[:12]}…, was {expected[:12]}…")


def _check_part(path: Path, name: str, part: Part, checksums: Mapping[str, str]) -> None:
    known = _TEMPLATES[name]
    if part.template not in known:
        raise CheckpointError(
            f"{path}: the {name} was trained on the template {part.template!r}, and this lrem-os has"
            f" {', '.join(filter(None, known)) or 'none'}",
            hint="update lrem-os",
        )
    if part.adapter is None:
        return
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if f"{part.adapter.name}/{file}" not in checksums:
            raise CheckpointError(f"{path} has no checksum of {part.adapter.name}/{file}")
    recorded = read_adapter_config(part.adapter).get("base_model_name_or_path")
    if recorded != part.base:
        raise CheckpointError(f"{path}: the {name}'s adapter was trained on {recorded}, not on {part.base}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
