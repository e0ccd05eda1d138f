"""OpenSearch and its plugins, or Elasticsearch, from Maven Central, unpacked once per version and set of plugins.

The parts come through jgo: it knows where a Maven repository keeps what, and what is there already.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrem_os.errors import ConfigError, DownloadFailed
from lrem_os.extras import require
from lrem_os.node.home import disk_errors, locked, make_folder
from lrem_os.node.program import program_of
from lrem_os.node.progress import OnProgress, Progress, silent
from lrem_os.types import Engine

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_PLUGIN_GROUP = "org.opensearch.plugin"
_OLDEST_MAJOR = 3
_OLDEST_ELASTICSEARCH_MAJOR = 9
_ENGLISH = "lrem-os-english"
# Beside most of these zips Maven Central holds no checksum, so those of the default versions are named here. That of
# OpenSearch itself equals the published one.
_SHA256 = {
    "elasticsearch-9.5.3.zip": "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d",
    "opensearch-3.6.0.zip": "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286",
    "opensearch-knn-3.6.0.0.zip": "ac392ca28a39b3bf290648a422ef30cb149dda2963a9d7feb26060e932341c9a",
    "neural-search-3.6.0.0.zip": "6ef1b206e79391e2e36268e32dc34d27fd8b8a59a8eb0a7393c97d53b038e433",
    "opensearch-job-scheduler-3.6.0.0.zip": "f81d0aa9fc850b18f803292bd7ae68bd33561f6c1d12db0f68529d40eddcee24",
    "opensearch-ml-plugin-3.6.0.0.zip": "c051d436fe1936da1477bb999db829eb2bc92b12989e376c300d0a874fb90f9d",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A zip on Maven Central.

    Args:
        folder: Where it goes inside the distribution; empty for OpenSearch itself.
    """

    group: str
    artifact: str
    version: str
    folder: str = ""


def parts(version: str, *, with_ml: bool, engine: Engine = "opensearch") -> tuple[Part, ...]:
    """Return what a node is made of; OpenSearch, or Elasticsearch, itself comes first.

    Raises:
        ConfigError: No version, or one that cannot be put together from Maven Central.
    """
    match = re.fullmatch(r"(\d+)\.\d+\.\d+", version)
    if match is None:
        raise ConfigError(f"node.version is {version!r}, which is no version", hint="write it like 3.6.0")
    if engine == "elasticsearch":
        return (_elasticsearch(version, int(match[1])),)
    if int(match[1]) < _OLDEST_MAJOR:
        raise ConfigError(
            f"node.version is {version}, but what Maven Central has of 2.x lacks modules that k-NN needs",
            hint="set node.version to 3.6.0, or point search.hosts at the cluster you have",
        )
    plugins = [("opensearch-knn", "opensearch-knn"), ("neural-search", "opensearch-neural-search")]
    if with_ml:
        ml = [("opensearch-ml-plugin", "opensearch-ml"), ("opensearch-job-scheduler", "opensearch-job-scheduler")]
        plugins = [*ml, *plugins]
    home = Part("org.opensearch.distribution.integ-test-zip", "opensearch", version)
    return (home, *(Part(_PLUGIN_GROUP, name, f"{version}.0", f"plugins/{folder}") for name, folder in plugins))


def _elasticsearch(version: str, major: int) -> Part:
    if major < _OLDEST_ELASTICSEARCH_MAJOR:
        raise ConfigError(
            f"node.version is {version}, and lrem-os speaks with Elasticsearch 9 or newer",
            hint="leave node.version out, or write one like 9.5.3",
        )
    return Part("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", version)


def ensure_distribution(
    version: str,
    *,
    with_ml: bool,
    downloads: Path,
    distributions: Path,
    engine: Engine = "opensearch",
    on_progress: OnProgress = silent,
) -> Path:
    """Return the folder of an unpacked OpenSearch or Elasticsearch, fetched first if it is not here yet.

    Several processes may ask at the same time: one fetches, the others wait for it.

    Raises:
        DownloadFailed: A part could not be fetched or is damaged.
        NodeError: The disk is full or read-only.
        DependencyMissing: jgo is not installed.
    """
    wanted = parts(version, with_ml=with_ml, engine=engine)
    target = distributions / (f"{engine}-{version}-ml" if with_ml else f"{engine}-{version}")
    if target.exists():
        return target
    with locked(downloads / ".lock"), disk_errors(distributions):
        if target.exists():
            return target
        context = _maven(downloads, on_progress)
        # Small parts first: a version that Maven Central lacks in part is noticed before 160 MB have come.
        fetched = {part: _resolve(context, part) for part in reversed(wanted)}
        on_progress(Progress(f"unpacking {program_of(engine).title} {version}"))
        make_folder(distributions)
        for left_over in distributions.glob(".unpack-*"):  # of a process that was killed
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=distributions) as scratch:
            home = unpack([(fetched[part], part.folder) for part in wanted], Path(scratch))
            if engine == "elasticsearch":
                add_english(home, version)
            os.rename(home, target)
    return target


def unpack(archives: Sequence[tuple[Path, str]], folder: Path) -> Path:
    """Unpack OpenSearch and, into it, its plugins, so that every user may read it and run what is meant to run.

    Args:
        archives: Zips and their folder inside the first, which holds one folder, ``opensearch-VERSION``.
        folder: Empty; receives that folder.

    Returns:
        The folder of the unpacked OpenSearch.
    """
    home = folder
    for archive, inside in archives:
        _unpack_one(archive, home / inside)
        home = home if inside else next(folder.iterdir())
    for path in (home, *home.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    return home


def add_english(home: Path, version: str) -> None:
    """Give an Elasticsearch from Maven Central the analyzer ``english``, which every full distribution has.

    A plugin of one class that returns Lucene's own; Lucene is in the distribution.

    Source: Elasticsearch documentation, "Creating text analysis plugins with the stable plugin API".
    """
    folder = home / "plugins" / _ENGLISH
    folder.mkdir(mode=0o755, parents=True)
    shutil.copyfile(Path(__file__).with_name("english") / f"{_ENGLISH}.jar", folder / f"{_ENGLISH}.jar")
    told = {"name": _ENGLISH, "description": "the analyzer english", "version": "1", "java.version": "21"}
    lines = [f"{key}={value}" for key, value in {**told, "elasticsearch.version": version}.items()]
    (folder / "stable-plugin-descriptor.properties").write_text("\n".join(lines) + "\n")
    components = {"org.elasticsearch.plugin.analysis.AnalyzerFactory": {"english": "lremos.EnglishAnalyzerFactory"}}
    (folder / "named_components.json").write_text(json.dumps(components))
    for path in folder.iterdir():
        path.chmod(0o644)


def _unpack_one(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                path = Path(file.extract(entry, folder))
                if not entry.is_dir():
                    path.chmod(0o755 if (entry.external_attr >> 16) & 0o111 else 0o644)
    except (zipfile.BadZipFile, zlib.error) as exc:
        archive.unlink()
        raise DownloadFailed(f"{archive} was damaged: deleted", hint="run it again to fetch it again") from exc


def _resolve(context: MavenContext, part: Part) -> Path:
    project = context.project(part.group, part.artifact)
    return project.at_version(part.version).artifact(packaging="zip").resolve()


def _maven(downloads: Path, on_progress: OnProgress) -> MavenContext:
    """Return jgo's context: its cache in ``downloads``, its remote repository, our way of fetching."""
    maven = require("jgo.maven", extra="node")
    from jgo.maven import PythonResolver  # after `require`, which says what to install

    from lrem_os.node.download import download

    class Resolver(PythonResolver):
        """Resumes and verifies, which jgo's own download does not."""

        def download(self, artifact: Any) -> Path | None:
            target: Path = artifact.cached_path
            folder = artifact.component.path_prefix.as_posix()
            message = f"fetching {artifact.filename}"
            base = next(iter(artifact.context.remote_repos.values()))
            download(
                f"{base}/{folder}/{artifact.filename}",
                target,
                sha256=_SHA256.get(artifact.filename),
                on_bytes=lambda done, total: on_progress(Progress(message, done, total)),
            )
            return target

    context: MavenContext = maven.MavenContext(resolver=Resolver(), repo_cache=downloads)
    return context
