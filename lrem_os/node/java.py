"""Finds a Java that can run OpenSearch: configured, JAVA_HOME, PATH, fetched before, the usual folders.

A JVM is judged by the ``release`` file in its home, which every OpenJDK build since 9 has; one without it is asked
by running it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lrem_os.errors import DownloadFailed, JavaMissing
from lrem_os.extras import require
from lrem_os.node.progress import OnProgress, Progress, silent

MIN_VERSION = 21  # OpenSearch 3.x
BEST_VERSION = 25  # newest that OpenSearch 3.6 was tried on; a newer one is taken only when there is nothing else
FETCHED_VERSION = 21  # what OpenSearch 3.x itself asks for at least
_FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/lib64/jvm/*",
    "/usr/java/*",
    "/usr/local/java/*",
    "/opt/*",
    "/opt/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
)
_USER_FOLDERS = (
    ".sdkman/candidates/java/*",
    ".jdks/*",
    ".jabba/jdk/*",
    ".asdf/installs/java/*",
    ".local/share/mise/installs/java/*",
    "Library/Java/JavaVirtualMachines/*/Contents/Home",
)
_HINT = (
    "`lrem-os node up --fetch-java` fetches one, or install one (Debian, Ubuntu: openjdk-21-jre-headless or temurin-21;"
    " Fedora: java-21-openjdk-headless; macOS: brew install openjdk@21), or set node.java_home"
)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java installation.

    Args:
        home: Its home; ``bin/java`` is in it.
        version: Feature release, for example 21.
        source: Where it was found, for a person to read.
        fault: Why OpenSearch cannot run on it; empty when it can.
    """

    home: Path
    version: int
    source: str
    fault: str = ""


def find_java(
    configured: Path | None,
    *,
    environ: Mapping[str, str],
    fetched: Path,
    user_home: Path | None = None,
    folders: tuple[str, ...] = _FOLDERS,
    may_run: Callable[[Path], bool] = lambda path: os.access(path, os.X_OK),
) -> Java:
    """Return the Java to use.

    Args:
        configured: ``node.java_home``; if given, no other is looked for.
        environ: ``JAVA_HOME`` and ``PATH`` are read from it.
        fetched: Where ``fetch_java`` puts its own.
        user_home: Home of the user, whose tool managers' folders are looked at.
        folders: Patterns of the system's usual folders.
        may_run: Whether the node's user may run this file.

    Raises:
        JavaMissing: None can be used; names those that were seen.
    """
    if configured is not None:
        java = _judged(probe(configured.expanduser(), "node.java_home"), may_run)
        if java is None or java.fault:
            fault = "holds no bin/java" if java is None else f"cannot be used: {java.fault}"
            raise JavaMissing(
                f"node.java_home is {configured}, which {fault}",
                hint=f"set it to the home of a Java {MIN_VERSION} or newer, or unset it to have one looked for",
            )
        return java
    seen: list[Java] = []
    for group in _candidates(environ, fetched, user_home or Path.home(), folders):
        judged = [java for java in (_judged(java, may_run) for java in group) if java is not None]
        usable = [java for java in judged if not java.fault]
        if usable:
            return min(usable, key=_preference)
        seen += judged
    raise JavaMissing(_missing_text(seen), hint=_HINT)


def _preference(java: Java) -> tuple[bool, int, str]:
    """Newest first among those tried, then the oldest of the untried."""
    tried = java.version <= BEST_VERSION
    return (not tried, -java.version if tried else java.version, str(java.home))


def _missing_text(seen: list[Java]) -> str:
    if not seen:
        return f"no Java found; OpenSearch needs Java {MIN_VERSION} or newer"
    found = "; ".join(dict.fromkeys(f"{java.home} ({java.fault})" for java in seen))
    return f"no Java that OpenSearch can run on: it needs {MIN_VERSION} or newer, found {found}"


def _judged(java: Java | None, may_run: Callable[[Path], bool]) -> Java | None:
    if java is None or java.fault or may_run(java.home / "bin" / "java"):
        return java
    return Java(java.home, java.version, java.source, "the user that runs OpenSearch may not run it")


def _candidates(
    environ: Mapping[str, str], fetched: Path, user_home: Path, folders: tuple[str, ...]
) -> Iterator[list[Java]]:
    """Yield groups of candidates, the first group with a usable one decides."""
    if home := environ.get("JAVA_HOME"):
        yield _probe_all([Path(home)], "JAVA_HOME")
    if binary := shutil.which("java", path=environ.get("PATH", os.defpath)):
        asked = ask(Path(binary))  # PATH may hold a link, or the shim of a version manager
        yield [] if asked is None else _probe_all([asked[0]], "PATH")
    yield _probe_all([path.parent.parent for path in fetched.glob("**/bin/java")], "fetched")
    roots = [path for pattern in folders for path in Path("/").glob(pattern.lstrip("/"))]
    roots += [path for pattern in _USER_FOLDERS for path in user_home.glob(pattern)]
    yield _probe_all(roots, "the usual folders")


def _probe_all(homes: list[Path], source: str) -> list[Java]:
    return [java for home in sorted(homes) if (java := probe(home, source)) is not None]


def probe(home: Path, source: str) -> Java | None:
    """Return what is installed at ``home``; ``None`` when that is no Java."""
    binary = home / "bin" / "java"
    try:
        if not binary.is_file():
            return None
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        release = ""
    version, modules = parse_release(release)
    if version is None:
        asked = ask(binary)
        if asked is None:
            return None
        version = asked[1]
    return Java(home, version, source, _fault(version, modules))


def parse_release(text: str) -> tuple[int | None, frozenset[str]]:
    """Return feature release and modules that a ``release`` file names; nothing when it does not.

    >>> parse_release('JAVA_VERSION="21.0.4"')
    (21, frozenset())
    """
    values = dict(re.findall(r'^(\w+)="([^"\n]*)"', text, flags=re.MULTILINE))
    return parse_version(values.get("JAVA_VERSION", "")), frozenset(values.get("MODULES", "").split())


def parse_version(text: str) -> int | None:
    """Return the feature release of a version number.

    >>> parse_version("25.0.3"), parse_version("1.8.0_402"), parse_version("26-ea"), parse_version("")
    (25, 8, 26, None)
    """
    match = re.match(r"(?:1\.)?(\d+)", text)
    return None if match is None else int(match[1])


def _fault(version: int, modules: frozenset[str]) -> str:
    if version < MIN_VERSION:
        return f"it is Java {version}"
    if modules and "jdk.localedata" not in modules:
        return f"its Java {version} lacks the module jdk.localedata"  # the node starts, but can create no index
    return ""


def ask(binary: Path) -> tuple[Path, int] | None:
    """Run a ``java`` and return its home and feature release; ``None`` when it does not answer as a Java does."""
    command = [str(binary), "-XshowSettings:properties", "-version"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(re.findall(r"^\s*([\w.]+) = (.+?)\s*$", done.stderr.decode(errors="replace"), re.MULTILINE))
    version = parse_version(properties.get("java.specification.version", ""))
    if done.returncode != 0 or version is None or "java.home" not in properties:
        return None
    return Path(properties["java.home"]), version


def fetch_java(folder: Path, on_progress: OnProgress = silent) -> None:
    """Fetch a JDK with ``cjdk`` into ``folder``, where ``find_java`` looks.

    Raises:
        DownloadFailed: It could not be fetched.
        DependencyMissing: ``cjdk`` is not installed.
    """
    cjdk = require("cjdk", extra="node")
    requests = require("requests", extra="node")
    from lrem_os.node.download import cause_of

    on_progress(Progress(f"fetching Java {FETCHED_VERSION}, about 200 MB"))
    try:
        cjdk.java_home(vendor="adoptium", version=str(FETCHED_VERSION), cache_dir=folder, progress=False)
    except cjdk.CjdkError as exc:
        cause = exc.__cause__
        text = cause_of(cause) if isinstance(cause, requests.RequestException) else str(exc)
        raise DownloadFailed(
            f"Java {FETCHED_VERSION} could not be fetched: {text}",
            hint="check the network (HTTPS_PROXY is honoured), or install Java 21 or newer by hand",
        ) from exc
