from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cjdk
import pytest

from lrem_os.errors import DownloadFailed, JavaMissing
from lrem_os.node.java import Java, fetch_java, find_java, parse_release, parse_version


def fake_java(home: Path, version: str, *, modules: str = "", release: bool = True) -> Path:
    """Make a home whose ``bin/java`` answers as a real one does."""
    (home / "bin").mkdir(parents=True)
    binary = home / "bin" / "java"
    feature = version.split(".")[0]
    binary.write_text(
        "#!/bin/sh\n"
        f"echo '    java.home = {home}' >&2\n"
        f"echo '    java.specification.version = {feature}' >&2\n"
        f"echo 'openjdk version \"{version}\"' >&2\n"
    )
    binary.chmod(0o755)
    if release:
        (home / "release").write_text(f'JAVA_VERSION="{version}"\n' + (f'MODULES="{modules}"\n' if modules else ""))
    return home


def find(tmp_path: Path, configured: Path | None = None, **environ: str) -> Java:
    return find_java(
        configured,
        environ={"PATH": "/nowhere", **environ},
        fetched=tmp_path / "jdks",
        user_home=tmp_path / "user",
        folders=(f"{tmp_path}/jvm/*",),
    )


def test_configured_wins_over_all_others(tmp_path: Path) -> None:
    fake_java(tmp_path / "jvm" / "25", "25.0.1")
    java = find(tmp_path, fake_java(tmp_path / "mine", "21.0.4"), JAVA_HOME=str(tmp_path / "jvm" / "25"))
    assert (java.home, java.version, java.source) == (tmp_path / "mine", 21, "node.java_home")


def test_an_old_configured_java_is_refused_though_a_good_one_is_there(tmp_path: Path) -> None:
    fake_java(tmp_path / "jvm" / "25", "25.0.1")
    with pytest.raises(JavaMissing, match=r"mine, which cannot be used: it is Java 17"):
        find(tmp_path, fake_java(tmp_path / "mine", "17.0.15"))


def test_a_configured_folder_without_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing, match="holds no bin/java"):
        find(tmp_path, tmp_path)


def test_an_old_java_home_and_an_old_path_are_passed_over(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", "17.0.15")
    good = fake_java(tmp_path / "jvm" / "temurin-25", "25.0.3")
    java = find(tmp_path, JAVA_HOME=str(old), PATH=str(old / "bin"))
    assert (java.home, java.source) == (good, "the usual folders")


def test_java_home_wins_over_path(tmp_path: Path) -> None:
    home, other = fake_java(tmp_path / "a", "21.0.1"), fake_java(tmp_path / "b", "25.0.1")
    assert find(tmp_path, JAVA_HOME=str(home), PATH=str(other / "bin")).home == home


def test_a_shim_on_the_path_is_asked_for_its_home(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "versions" / "21", "21.0.4")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "java").write_text(f'#!/bin/sh\nexec "{home}/bin/java" "$@"\n')
    (shims / "java").chmod(0o755)
    assert find(tmp_path, PATH=f"{shims}{os.pathsep}/usr/bin:/bin").home == home


def test_without_a_release_file_java_is_run(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jvm" / "plain", "23.0.1", release=False)
    assert find(tmp_path).home == home
    assert find(tmp_path).version == 23


def test_a_fetched_java_is_found_again(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jdks" / "v0" / "jdks" / "abc" / "jdk-21", "21.0.4")
    assert find(tmp_path).home == home


def test_tool_managers_in_the_users_home_are_looked_at(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "user" / ".sdkman" / "candidates" / "java" / "21.0.4-tem", "21.0.4")
    assert find(tmp_path).home == home


def test_the_newest_tried_version_is_preferred_to_an_untried_one(tmp_path: Path) -> None:
    for version in ("21.0.1", "27.0.0", "25.0.1", "31.0.0"):
        fake_java(tmp_path / "jvm" / version, version)
    assert find(tmp_path).version == 25


def test_an_untried_version_is_better_than_none(tmp_path: Path) -> None:
    for version in ("17.0.1", "31.0.0", "27.0.0"):
        fake_java(tmp_path / "jvm" / version, version)
    assert find(tmp_path).version == 27


def test_a_jre_without_locale_data_is_refused(tmp_path: Path) -> None:
    fake_java(tmp_path / "jvm" / "cut", "25.0.1", modules="java.base java.logging")
    with pytest.raises(JavaMissing, match=r"lacks the module jdk\.localedata"):
        find(tmp_path)
    whole = fake_java(tmp_path / "jvm" / "whole", "21.0.1", modules="java.base jdk.localedata")
    assert find(tmp_path).home == whole


def test_no_java_says_what_is_needed_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing, match="no Java found; OpenSearch needs Java 21 or newer") as caught:
        find(tmp_path)
    assert "--fetch-java" in str(caught.value.hint)
    assert "openjdk-21-jre-headless" in str(caught.value.hint)


def test_only_old_javas_are_named(tmp_path: Path) -> None:
    fake_java(tmp_path / "jvm" / "eleven", "11.0.2")
    with pytest.raises(JavaMissing, match=r"found .*/jvm/eleven \(it is Java 11\)"):
        find(tmp_path)


def test_a_java_that_the_nodes_user_may_not_run_is_passed_over(tmp_path: Path) -> None:
    private = fake_java(tmp_path / "jvm" / "a-private", "25.0.1")
    public = fake_java(tmp_path / "jvm" / "b-public", "25.0.1")
    java = find_java(
        None,
        environ={"PATH": "/nowhere"},
        fetched=tmp_path / "jdks",
        user_home=tmp_path,
        folders=(f"{tmp_path}/jvm/*",),
        may_run=lambda path: private not in path.parents,
    )
    assert java.home == public


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.8.0_402", 8), ("11", 11), ("17.0.15", 17), ("25.0.3+9-LTS", 25), ("26-ea", 26), ("", None), ("x", None)],
)
def test_parse_version(text: str, version: int | None) -> None:
    assert parse_version(text) == version


def test_parse_release() -> None:
    text = 'IMPLEMENTOR="X"\nJAVA_VERSION="21.0.4"\nMODULES="java.base jdk.localedata"\nLIBC=gnu\n'
    assert parse_release(text) == (21, frozenset({"java.base", "jdk.localedata"}))
    assert parse_release("nonsense") == (None, frozenset())


def test_fetching_without_a_network_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJDK_INDEX_URL", "https://127.0.0.1:1/index.json")
    with pytest.raises(DownloadFailed, match=r"Java 21 could not be fetched: no connection$"):
        fetch_java(tmp_path / "jdks")


def test_what_cjdk_fetches_is_found_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    fake_java(site / "jdk-21.0.4", "21.0.4")
    shutil.make_archive(str(site / "jdk"), "gztar", site, "jdk-21.0.4")
    with serving(site) as url:
        jdks = {"jdk@adoptium": {"1.21.0.4": f"tgz+{url}/jdk.tar.gz", "1.25.0.1": f"tgz+{url}/none"}}
        index = {system: dict.fromkeys(("amd64", "arm64"), jdks) for system in ("linux", "darwin")}
        (site / "index.json").write_text(json.dumps(index))
        monkeypatch.setenv("CJDK_INDEX_URL", f"{url}/index.json")
        # cjdk wants https; the rest of it is the real thing
        monkeypatch.setattr(cjdk, "java_home", partial(cjdk.java_home, _allow_insecure_for_testing=True))
        fetch_java(tmp_path / "jdks")
    java = find(tmp_path)
    assert (java.version, java.source) == (21, "fetched")
    assert tmp_path / "jdks" in java.home.parents


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
