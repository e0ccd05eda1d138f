from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import platformdirs
import pytest

from lrem_os.errors import NodeError
from lrem_os.node.home import (
    Account,
    NodeHome,
    can_reach,
    check_root,
    disk_errors,
    locked,
    make_folder,
    node_account,
    node_home,
    node_root,
    prepare_home,
    write_whole,
)

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="what root does can only be seen as root")


def test_lrem_os_home_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path))
    assert node_root() == tmp_path
    assert node_home("two").path == tmp_path / "nodes" / "two"


def test_a_users_node_lies_in_the_users_cache_and_roots_in_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LREM_OS_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert node_root() == Path(platformdirs.user_cache_dir("lrem-os"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert node_root() == Path(platformdirs.site_cache_dir("lrem-os"))


def test_a_path_with_a_blank_is_refused() -> None:
    with pytest.raises(NodeError, match="holds a blank"):
        check_root(Path("/home/a user/.cache"))
    check_root(Path("/home/a-user/.cache"))


def test_somebody_who_is_not_root_runs_the_node_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert node_account() is None


@needs_root
def test_root_gets_an_unprivileged_account() -> None:
    account = node_account()
    assert account is not None
    assert account.uid != 0
    assert account.gid != 0


@needs_root
def test_root_hands_the_nodes_folders_to_the_account_but_follows_no_link(tmp_path: Path) -> None:
    account = Account("nobody", 65534, 65534)
    open_up(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("root's")
    home = NodeHome(tmp_path / "nodes" / "x")
    home.data.mkdir(parents=True)
    (home.data / "old").write_text("")
    (home.data / "link").symlink_to(secret)
    prepare_home(home, account)
    assert {path.stat().st_uid for path in (home.data, home.logs, home.config, home.data / "old")} == {65534}
    assert secret.stat().st_uid == 0
    assert home.path.stat().st_uid == 0


@needs_root
def test_a_home_that_the_account_cannot_enter_is_refused(tmp_path: Path) -> None:
    open_up(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(NodeError, match=r"cannot be entered by the user that runs OpenSearch \(nobody\)"):
        prepare_home(NodeHome(tmp_path / "closed" / "x"), Account("nobody", 65534, 65534))


@needs_root
def test_can_reach_is_asked_as_the_account(tmp_path: Path) -> None:
    open_up(tmp_path)
    script = tmp_path / "java"
    script.write_text("")
    script.chmod(0o700)
    assert not can_reach(script, Account("nobody", 65534, 65534))
    script.chmod(0o755)
    assert can_reach(script, Account("nobody", 65534, 65534))


def open_up(path: Path) -> None:
    """pytest's folders are closed to other users."""
    for folder in (path, *list(path.parents)[:2]):
        folder.chmod(0o755)


def test_make_folder_is_open_to_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")} == {0o755}


def test_write_whole_replaces_a_link_and_leaves_its_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "opensearch.yml").symlink_to(target)
    write_whole(tmp_path / "opensearch.yml", "new")
    assert target.read_text() == "precious"
    assert (tmp_path / "opensearch.yml").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["opensearch.yml", "target"]


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []

    def work(name: str) -> None:
        with locked(tmp_path / "lock"):
            events.append(f"{name} in")
            time.sleep(0.05)
            events.append(f"{name} out")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "no space left"), (errno.EROFS, "cannot write /x: Read-only")],
)
def test_disk_errors_are_sentences(number: int, message: str) -> None:
    with pytest.raises(NodeError, match=message), disk_errors(Path("/x")):
        raise OSError(number, os.strerror(number))


def test_an_error_that_is_not_the_disks_passes() -> None:
    with pytest.raises(OSError, match="no number") as caught, disk_errors(Path("/x")):
        raise OSError("no number")
    assert type(caught.value) is OSError
