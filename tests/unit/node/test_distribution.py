from __future__ import annotations

import errno
import json
import os
import threading
import zipfile
from pathlib import Path

import pytest

from lrem_os.config import ELASTICSEARCH_VERSION
from lrem_os.errors import ConfigError, DownloadFailed, NodeError
from lrem_os.node import distribution, download
from lrem_os.node.distribution import ensure_distribution, parts, unpack
from lrem_os.node.progress import Progress


def write_zip(path: Path, files: dict[str, str], *, executable: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100750 if name in executable else 0o100600) << 16
            archive.writestr(entry, text)
    return path


def write_opensearch(path: Path) -> Path:
    files = {"opensearch-3.6.0/bin/opensearch": "#!/bin/sh", "opensearch-3.6.0/config/jvm.options": "-Xmx1g"}
    return write_zip(path, files, executable=("opensearch-3.6.0/bin/opensearch",))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the network: every wanted file is made on the spot. Returns the URLs asked for."""
    urls: list[str] = []

    def fake(url: str, target: Path, *, on_bytes: download.OnBytes, sha256: str | None = None) -> None:
        urls.append(url)
        on_bytes(1, 2)
        if target.name.startswith("opensearch-3"):
            write_opensearch(target)
        else:
            write_zip(target, {"plugin-descriptor.properties": "name=x"})

    monkeypatch.setattr(download, "download", fake)
    return urls


def ensure(tmp_path: Path, *, with_ml: bool = False) -> Path:
    return ensure_distribution(
        "3.6.0", with_ml=with_ml, downloads=tmp_path / "downloads", distributions=tmp_path / "distributions"
    )


def test_parts_of_a_node() -> None:
    assert [(part.artifact, part.version, part.folder) for part in parts("3.6.0", with_ml=False)] == [
        ("opensearch", "3.6.0", ""),
        ("opensearch-knn", "3.6.0.0", "plugins/opensearch-knn"),
        ("neural-search", "3.6.0.0", "plugins/opensearch-neural-search"),
    ]
    assert {part.folder for part in parts("3.6.0", with_ml=True)} == {
        *("", "plugins/opensearch-knn", "plugins/opensearch-neural-search"),
        *("plugins/opensearch-ml", "plugins/opensearch-job-scheduler"),
    }


def test_every_part_of_the_default_version_has_a_known_checksum() -> None:
    names = {f"{part.artifact}-{part.version}.zip" for part in parts("3.6.0", with_ml=True)}
    assert names | {f"elasticsearch-{ELASTICSEARCH_VERSION}.zip"} == set(distribution._SHA256)


@pytest.mark.parametrize("version", ["latest", "3.6", "3.6.0-SNAPSHOT", "../3.6.0", "2.19.6"])
def test_a_version_that_cannot_be_had_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.version is "):
        parts(version, with_ml=False)


def test_the_distribution_is_put_together_and_readable_by_all(tmp_path: Path, fetched: list[str]) -> None:
    before = os.umask(0o077)
    try:
        home = ensure(tmp_path)
    finally:
        os.umask(before)
    assert home == tmp_path / "distributions" / "opensearch-3.6.0"
    modes = {str(path.relative_to(home)): path.stat().st_mode & 0o777 for path in (home, *home.rglob("*"))}
    assert modes == {
        ".": 0o755,
        "bin": 0o755,
        "bin/opensearch": 0o755,
        "config": 0o755,
        "config/jvm.options": 0o644,
        "plugins": 0o755,
        "plugins/opensearch-knn": 0o755,
        "plugins/opensearch-knn/plugin-descriptor.properties": 0o644,
        "plugins/opensearch-neural-search": 0o755,
        "plugins/opensearch-neural-search/plugin-descriptor.properties": 0o644,
    }
    assert fetched[-1].endswith("/org/opensearch/distribution/integ-test-zip/opensearch/3.6.0/opensearch-3.6.0.zip")
    assert [path.name for path in (tmp_path / "distributions").iterdir()] == ["opensearch-3.6.0"]


def test_what_is_there_is_not_fetched_again(tmp_path: Path, fetched: list[str]) -> None:
    ensure(tmp_path)
    assert len(fetched) == 3
    ensure(tmp_path)
    assert len(fetched) == 3
    home = ensure(tmp_path, with_ml=True)  # only what ML Commons adds
    assert len(fetched) == 5
    assert (home / "plugins" / "opensearch-ml").is_dir()


def test_two_at_the_same_time_fetch_once(tmp_path: Path, fetched: list[str]) -> None:
    homes: list[Path] = []
    threads = [threading.Thread(target=lambda: homes.append(ensure(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(homes) == 4
    assert len(set(homes)) == 1
    assert len(fetched) == 3


def test_a_damaged_archive_is_deleted_and_fetched_again(tmp_path: Path, fetched: list[str]) -> None:
    ensure(tmp_path)
    (knn,) = (tmp_path / "downloads").rglob("opensearch-knn*.zip")
    knn.write_bytes(knn.read_bytes()[:40])
    with pytest.raises(DownloadFailed, match=r"opensearch-knn-3\.6\.0\.0\.zip was damaged"):
        ensure(tmp_path, with_ml=True)
    assert [path.name for path in (tmp_path / "distributions").iterdir()] == ["opensearch-3.6.0"]
    assert (ensure(tmp_path, with_ml=True) / "plugins" / "opensearch-knn").is_dir()


def test_left_overs_of_a_killed_process_are_swept(tmp_path: Path, fetched: list[str]) -> None:
    (tmp_path / "distributions" / ".unpack-dead" / "opensearch-3.6.0").mkdir(parents=True)
    ensure(tmp_path)
    assert [path.name for path in (tmp_path / "distributions").iterdir()] == ["opensearch-3.6.0"]


def test_a_full_disk_is_a_sentence(tmp_path: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(NodeError, match="no space left on the disk of") as caught:
        ensure(tmp_path)
    assert "LREM_OS_HOME" in str(caught.value.hint)
    assert list((tmp_path / "distributions").iterdir()) == []


def test_progress_names_what_is_fetched(tmp_path: Path, fetched: list[str]) -> None:
    told: list[Progress] = []
    ensure_distribution(
        "3.6.0",
        with_ml=False,
        downloads=tmp_path / "downloads",
        distributions=tmp_path / "distributions",
        on_progress=told.append,
    )
    assert Progress("fetching opensearch-3.6.0.zip", 1, 2) in told
    assert told[-1] == Progress("unpacking OpenSearch 3.6.0")


def test_unpack_returns_the_folder_of_opensearch(tmp_path: Path) -> None:
    home = write_opensearch(tmp_path / "home.zip")
    plugin = write_zip(tmp_path / "plugin.zip", {"a/b.txt": "x"})
    folder = tmp_path / "out"
    folder.mkdir()
    assert unpack([(home, ""), (plugin, "plugins/p")], folder) == folder / "opensearch-3.6.0"
    assert (folder / "opensearch-3.6.0" / "plugins" / "p" / "a" / "b.txt").read_text() == "x"


def test_parts_of_an_elasticsearch() -> None:
    [part] = parts("9.5.3", with_ml=False, engine="elasticsearch")
    assert (part.group, part.artifact, part.version, part.folder) == (
        "org.elasticsearch.distribution.integ-test-zip",
        "elasticsearch",
        "9.5.3",
        "",
    )
    with pytest.raises(ConfigError, match=r"node\.version is 8\.19\.21, and lrem-os speaks with Elasticsearch 9"):
        parts("8.19.21", with_ml=False, engine="elasticsearch")


def test_elasticsearch_gets_the_analyzer_english(tmp_path: Path) -> None:
    distribution.add_english(tmp_path, "9.5.3")
    folder = tmp_path / "plugins" / "lrem-os-english"
    told = dict(
        line.split("=", 1) for line in (folder / "stable-plugin-descriptor.properties").read_text().splitlines()
    )
    assert (told["name"], told["elasticsearch.version"]) == ("lrem-os-english", "9.5.3")
    [components] = json.loads((folder / "named_components.json").read_text()).values()
    with zipfile.ZipFile(folder / "lrem-os-english.jar") as jar:
        assert jar.namelist() == [f"{components['english'].replace('.', '/')}.class"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}  # another user runs the node
