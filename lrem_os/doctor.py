"""Looks at everything that must fit together, and says of each part whether it does and what to do.

A check reads; it starts, fetches, creates and changes nothing. The functions called ``judge_*`` are pure: they turn
what was found into a verdict.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from opensearchpy import OpenSearch

from lrem_os import __version__, api
from lrem_os.config import Settings, cache_dir
from lrem_os.config_fields import without_userinfo
from lrem_os.errors import ConfigError, DependencyMissing, LremError
from lrem_os.extras import require
from lrem_os.model import inventory
from lrem_os.model.load import check_reasoner, load_embedder
from lrem_os.model.package import read_adapter_config
from lrem_os.node.home import node_root
from lrem_os.node.local import find_node, node_health, usable_java
from lrem_os.search import index as indices
from lrem_os.search.client import ServerInfo, server_info, translate_errors
from lrem_os.search.dialect import dialect_of
from lrem_os.search.mappings import build_mapping
from lrem_os.types import Embedder

Status = Literal["ok", "warn", "fail"]

LITTLE_SPACE_BYTES = 5 * 2**30  # OpenSearch, a model and a catalog of some hundred thousand products
NO_SPACE_BYTES = 1 * 2**30
_FEATURES = {
    "model": "embedding",
    "node": "lrem-os node",
    "eval": "lrem-os eval",
    "parquet": "reading .parquet",
    "remote": "models behind a server",
    "train": "lrem-os train",
    "serve": "lrem-os serve",
}
_PLUGINS = {"opensearch-knn": "vector and hybrid search", "opensearch-neural-search": "hybrid search"}


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Args:
        name: What was looked at.
        status: ``ok``; ``warn``: something is missing that you may not need; ``fail``: it will not work.
        message: One line.
        hint: What to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    message: str
    hint: str = ""


def diagnose(settings: Settings) -> Iterator[Check]:
    """Yield the checks as they end, the quick ones first."""
    yield Check(
        "lrem-os", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform(terse=True)}"
    )
    yield judge_packages(_missing_packages())
    yield from (judge_disk(path, shutil.disk_usage(path).free) for path in _filled_folders())
    yield judge_gpu(settings.model.device, has_gpu=Path("/dev/nvidia0").exists(), torch_sees_it=_torch_sees_gpu())
    yield _attempt("java", lambda: _java(settings))
    yield _attempt("node", lambda: _node(settings))
    model, embedder = _model(settings)
    yield model
    yield _attempt("reasoner", lambda: _reasoner(settings))
    yield from _cluster(settings, embedder)


def judge_packages(missing: Mapping[str, list[str]]) -> Check:
    """Judge which packages of which extra are not installed."""
    if not missing:
        return Check("packages", "ok", "all optional packages are installed")
    parts = [f"{_FEATURES[extra]} needs {', '.join(names)}" for extra, names in missing.items()]
    return Check(
        "packages", "warn", f"not installed: {'; '.join(parts)}", f"pip install 'lrem-os[{','.join(missing)}]'"
    )


def judge_disk(folder: Path, free_bytes: int) -> Check:
    """Judge the space left where models, OpenSearch and its data go."""
    message = f"{free_bytes / 2**30:.1f} GiB free for {folder}"
    if free_bytes >= LITTLE_SPACE_BYTES:
        return Check("disk", "ok", message)
    hint = "free some, or set LREM_OS_HOME to a folder on another disk"
    return Check("disk", "fail" if free_bytes < NO_SPACE_BYTES else "warn", message, hint)


def judge_gpu(device: str, *, has_gpu: bool, torch_sees_it: bool | None) -> Check:
    """Judge whether the model will run where it should; ``torch_sees_it`` is ``None`` without torch."""
    if torch_sees_it:
        return Check("gpu", "ok", "CUDA is usable" + (", but model.device is cpu" if device == "cpu" else ""))
    if device == "cuda":
        return Check("gpu", "fail", "model.device is cuda, but torch sees no GPU", "set model.device to auto or cpu")
    if has_gpu and torch_sees_it is False and device == "auto":
        hint = "install a CUDA build of torch that suits the driver"
        return Check("gpu", "warn", "there is a GPU, but this build of torch cannot use it", hint)
    return Check("gpu", "ok", f"none in use; the model runs on {os.cpu_count()} processors")


def judge_server(info: ServerInfo, health: str) -> Check:
    """Judge a cluster that answers and is new enough."""
    version = ".".join(map(str, info.version))
    name = dialect_of(info.engine).name
    message = f"{name} {version}, {health}"
    if health == "red":
        return Check("cluster", "fail", message, "look at GET _cluster/allocation/explain and at the logs")
    if info.plugins is None:
        return Check("cluster", "warn", f"{message}; its plugins may not be listed with these credentials")
    needed = set(dialect_of(info.engine).plugins["hybrid"])
    missing = {name: use for name, use in _PLUGINS.items() if name in needed and name not in info.plugins}
    if missing:
        needs = "; ".join(f"{plugin}, needed for {use}" for plugin, use in missing.items())
        hint = "install them on every node (bin/opensearch-plugin), or search with --mode bm25"
        return Check("cluster", "fail", f"{message}, lacks the plugins {needs}", hint)
    with_plugins = ", with k-NN and neural-search" if info.engine == "opensearch" else ""
    return Check("cluster", "ok", f"{message}{with_plugins}")


def judge_leftovers(versions: Iterable[indices.IndexState]) -> list[Check]:
    """Judge what a killed load may have left behind."""
    checks = []
    for state in versions:
        if state.is_loading:
            message = f"{state.name} has bulk-load settings (no refresh, no replicas): a load runs, or one was killed"
            checks.append(Check("index", "warn", message, "if none runs: `lrem-os index restore`"))
        if state.built and state.is_building:
            hint = f"`lrem-os index switch {state.name}` looks whether it is fit"
            checks.append(Check("index", "ok", f"{state.name} is built and not live", hint))
        elif state.is_building:
            message = f"{state.name} was rebuilt only in part and is not live"
            hint = f"run the same `lrem-os ingest --recreate` again, or `lrem-os index drop {state.name}`"
            checks.append(Check("index", "warn", message, hint))
    return checks


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    """Return what the check says; an error of ours is its verdict."""
    try:
        return check()
    except DependencyMissing as exc:
        return Check(name, "warn", str(exc), exc.hint or "")
    except LremError as exc:
        return Check(name, "fail", str(exc), exc.hint or "")


def _missing_packages() -> dict[str, list[str]]:
    """Return the packages of each extra that are not installed, as this distribution's metadata lists them."""
    missing: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires("lrem-os") or []
    except metadata.PackageNotFoundError:
        return {}  # run from a checkout, not installed: what is missing says so when it is needed
    for requirement in requirements:
        match = re.match(r"([\w.-]+).*\bextra == ['\"](\w+)['\"]", requirement)
        if match and match[2] in _FEATURES and not _is_installed(match[1]):
            missing.setdefault(match[2], []).append(match[1])
    return missing


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _filled_folders() -> list[Path]:
    """Return the folders that lrem-os fills, or what exists above them; one per disk."""
    wanted = (cache_dir().absolute(), node_root())
    folders = [next(path for path in (folder, *folder.parents) if path.exists()) for folder in wanted]
    return list({folder.stat().st_dev: folder for folder in folders}.values())


def _torch_sees_gpu() -> bool | None:
    try:
        return bool(require("torch", extra="model").cuda.is_available())
    except DependencyMissing:
        return None


def _java(settings: Settings) -> Check:
    if settings.search.hosts:
        return Check("java", "ok", "not needed: search.hosts names the cluster")
    java = usable_java(settings.node)
    return Check("java", "ok", f"Java {java.version} in {java.home} ({java.source})")


def _node(settings: Settings) -> Check:
    if settings.search.hosts:
        return Check("node", "ok", "not needed: search.hosts names the cluster")
    node = find_node(settings.node)
    if node is None:
        return Check("node", "warn", f"node {settings.node.name} does not run", "lrem-os node up")
    return Check("node", "ok", f"node {node.name}, OpenSearch {node.version}, at {node.url}: {node_health(node)}")


def _model(settings: Settings) -> tuple[Check, Embedder | None]:
    """Return the verdict on the model, and the model itself if it loads: its identity is what an index is built for."""
    name = settings.model.name
    try:
        is_local = settings.model.backend != "openai" and not name.startswith("fake:")
        if is_local and (absent := inventory.missing(name, settings.model.revision)):
            return _to_be_fetched("model", absent, "lrem-os model pull"), None
        embedder = load_embedder(settings.model)
    except LremError as exc:
        return Check("model", "fail", str(exc), exc.hint or ""), None
    return Check("model", "ok", f"{name}, {embedder.dimension} dimensions, files as they were fetched"), embedder


def _reasoner(settings: Settings) -> Check:
    """Return the verdict on the reasoner's files; it is not loaded: that takes seconds and memory."""
    reasoning = settings.reasoning
    try:
        package = check_reasoner(settings.model, reasoning)
    except ConfigError:
        return Check("reasoner", "ok", "none configured (reasoning.name): --reason needs one")
    name = reasoning.name or settings.model.name
    if reasoning.backend == "openai":
        return Check("reasoner", "ok", f"{name} at {without_userinfo(', '.join(reasoning.servers))}, not asked")
    if name.startswith("fake:"):
        return Check("reasoner", "ok", f"{name}, for tests")
    if absent := inventory.missing(name, reasoning.revision):
        version = f" --revision {reasoning.revision}" if reasoning.revision else ""
        return _to_be_fetched("reasoner", absent, f"lrem-os model pull {name}{version}")
    if package is None and reasoning.adapter is not None:
        read_adapter_config(reasoning.adapter)
    adapter = f" with the adapter in {reasoning.adapter}" if reasoning.adapter else ""
    return Check("reasoner", "ok", f"{name}{adapter}, files as they were fetched")


def _to_be_fetched(check: str, absent: list[str], hint: str) -> Check:
    message = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not in the cache: the first command that"
    return Check(check, "warn", f"{message} needs it fetches it", hint)


def _cluster(settings: Settings, embedder: Embedder | None) -> Iterator[Check]:
    """Yield the checks that need the cluster; without one, say so once."""
    try:
        client = api.connect(settings)
        with translate_errors():
            yield judge_server(server_info(client), str(client.cluster.health()["status"]))
        yield from judge_leftovers(indices.list_versions(client, settings.index.name))
    except LremError as exc:
        yield Check("cluster", "fail", str(exc), exc.hint or "")
    else:
        yield _attempt("index", lambda: _index(client, settings, embedder))


def _index(client: OpenSearch, settings: Settings, embedder: Embedder | None) -> Check:
    state = indices.find_index(client, settings.index.name)
    if state is None:
        hint = "load a catalog: `lrem-os ingest catalog.jsonl`"
        return Check("index", "warn", f"there is no index {settings.index.name} yet", hint)
    message = f"{state.name} holds {indices.count_documents(client, state.name):,} products"
    if embedder is None:
        return Check("index", "warn", f"{message}; without the model nobody knows whether its vectors fit")
    indices.check_fingerprint(state, indices.index_identity(embedder.identity, settings.catalog.embed))
    engine = settings.search.engine
    indices.check_mapping(state, build_mapping(settings.catalog, settings.index, embedder.dimension, engine=engine))
    return Check("index", "ok", f"{message}, embedded by this model from these fields")
