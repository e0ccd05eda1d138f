"""Where a node keeps its files, and the user it runs as.

Root's cache lies under ``/root``, which the unprivileged user that must run OpenSearch cannot enter. So root uses the
system's cache folder (``/var/cache/lrem-os``), unless ``LREM_OS_HOME`` names another::

    ROOT/downloads/        what Maven Central sent, in a Maven repository's layout
    ROOT/distributions/    unpacked, read-only, shared by all nodes
    ROOT/jdks/             what --fetch-java fetched
    ROOT/nodes/NAME/       data, logs, config, snapshots and temporary files of one node
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from lrem_os.config import cache_dir
from lrem_os.errors import NodeError

USER = "lrem-os"
_ELSEWHERE = "set LREM_OS_HOME to a folder that you may write, without blanks in its path"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that runs the node when the caller is root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The folder of one node. ``path`` is the caller's; what is inside it belongs to the node's user."""

    path: Path

    @property
    def name(self) -> str:
        """Its name."""
        return self.path.name

    @property
    def data(self) -> Path:
        """The indices."""
        return self.path / "data"

    @property
    def logs(self) -> Path:
        """OpenSearch's own log files, and what a crashed JVM leaves."""
        return self.path / "logs"

    @property
    def config(self) -> Path:
        """``opensearch.yml`` and the like, written anew at each start."""
        return self.path / "config"

    @property
    def temporary(self) -> Path:
        """``java.io.tmpdir``."""
        return self.path / "tmp"

    @property
    def snapshots(self) -> Path:
        """Where snapshot repositories of type ``fs`` lie; of a cluster, the first member's is everyone's."""
        return self.path / "snapshots"

    def beside(self, name: str) -> NodeHome:
        """Return the folder of another node."""
        return NodeHome(self.path.with_name(name))

    @property
    def state(self) -> Path:
        """What ``state.NodeState`` is kept in."""
        return self.path / "node.json"

    @property
    def console(self) -> Path:
        """All that the process prints, from this start on. Here and not in ``logs``: root must not write there."""
        return self.path / "console.log"

    @property
    def marker(self) -> str:
        """The argument that only this node's process has: its command line proves that a process id is ours."""
        return f"-Epath.data={self.data}"


def node_root() -> Path:
    """Return the folder that holds downloads, distributions and nodes."""
    cache = cache_dir().expanduser().absolute()
    if os.name == "posix" and os.geteuid() == 0 and cache == Path(platformdirs.user_cache_dir("lrem-os")):
        return Path(platformdirs.site_cache_dir("lrem-os"))
    return cache


def node_home(name: str) -> NodeHome:
    """Return the folder of the node called ``name``; it may not exist yet."""
    return NodeHome(node_root() / "nodes" / name)


def check_root(root: Path) -> None:
    """Raise ``NodeError`` for a folder that OpenSearch's start script cannot handle."""
    if any(character.isspace() for character in str(root)):
        raise NodeError(f"OpenSearch cannot run from {str(root)!r}: the path holds a blank", hint=_ELSEWHERE)


def node_account() -> Account | None:
    """Return the user to run the node as, made if need be; ``None``: the caller is not root and runs it himself.

    Raises:
        NodeError: Root, but there is no unprivileged user and none can be made.
    """
    if os.geteuid() != 0:
        return None
    account = _account(USER) or _make_account() or _account("nobody")
    if account is None:
        raise NodeError(
            "OpenSearch refuses to run as root, and no unprivileged user could be made",
            hint=f"make one (useradd --system {USER}), or run lrem-os as another user",
        )
    return account


def _account(name: str) -> Account | None:
    import pwd  # POSIX only, and this module is imported where only a remote cluster is used

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _make_account() -> Account | None:
    if sys.platform == "darwin" or shutil.which("useradd") is None:
        return None
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    subprocess.run([*command, "--shell", "/usr/sbin/nologin", USER], check=False, capture_output=True)
    return _account(USER)


def can_reach(path: Path, account: Account | None) -> bool:
    """Say whether the node's user may enter the folder or run the file."""
    if account is None:
        return os.access(path, os.X_OK)
    # Asked of the kernel as that user: mode bits alone would miss access lists and mount options.
    done = subprocess.run(
        ["test", "-x", str(path)], user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False
    )
    return done.returncode == 0


def prepare_home(home: NodeHome, account: Account | None) -> None:
    """Make the folders of a node and hand them to its user.

    Raises:
        NodeError: The node's user cannot get there, or the disk refuses.
    """
    with disk_errors(home.path):
        make_folder(home.path)
        for folder in (home.data, home.logs, home.config, home.temporary, home.snapshots):
            folder.mkdir(mode=0o750, exist_ok=True)
            if account is not None and folder.lstat().st_uid != account.uid:
                _hand_over(folder, account)
    if not can_reach(home.path, account):
        who = account.name if account else "you"
        raise NodeError(
            f"{home.path} cannot be entered by the user that runs OpenSearch ({who})",
            hint="set LREM_OS_HOME to a folder whose parents everyone may enter, for example under /var/tmp",
        )


def _hand_over(folder: Path, account: Account) -> None:
    """Give a folder and all in it to the account. Never follows a link, which could lead out of the folder."""
    os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            os.chown(os.path.join(parent, name), account.uid, account.gid, follow_symlinks=False)


def make_folder(path: Path) -> None:
    """Make a folder, and its parents, that every user may enter, whatever the caller's umask is."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def write_whole(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file so that a reader sees the old or the new text, never a part, and no link is followed."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
            if account is not None:
                os.fchown(file.fileno(), account.uid, account.gid)
        os.replace(part, path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; the kernel lets go of it when the holder dies."""
    import fcntl  # POSIX only

    with disk_errors(path):
        make_folder(path.parent)
        file = path.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise ``NodeError`` where the disk is full, read-only, or refuses otherwise."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise NodeError(f"no space left on the disk of {path}", hint=f"free some, or {_ELSEWHERE}") from exc
        if exc.errno is None:  # not the disk: requests' errors are OSErrors too
            raise
        raise NodeError(f"cannot write {exc.filename or path}: {exc.strerror}", hint=_ELSEWHERE) from exc
