"""Fetches one file over HTTP: goes on where a broken download stopped, and checks what came.

jgo's own download starts from nothing, writes to the final name (so a broken file looks complete) and only warns of a
wrong checksum. This is what ``distribution`` gives jgo in its place.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests

from lrem_os.errors import DownloadFailed

CHECKSUMS = ("sha512", "sha256", "sha1")  # best first; a Maven repository publishes them beside the file
_TRIES = 5  # without a byte of progress between them
_TIMEOUT_S = (15.0, 60.0)  # to connect, and between two packets
_CHUNK = 1 << 18
_NETWORK_HINT = "check the network (HTTPS_PROXY and REQUESTS_CA_BUNDLE are honoured) and run it again: it goes on there"
_VERSION_HINT = "is node.version right? 3.6.0 is one that Maven Central has whole"

OnBytes = Callable[[int, int], None]
"""Called with the bytes so far and in all."""


def download(url: str, target: Path, *, on_bytes: OnBytes, sha256: str | None = None, pause_s: float = 1.0) -> None:
    """Fetch ``url`` to ``target``, through ``target`` + ``.part``, which outlives a failure and is continued.

    Args:
        url: What to fetch.
        target: Appears only when complete and checked.
        on_bytes: Told of progress.
        sha256: What it must be; ``None``: what is published beside it.
        pause_s: Wait after the first failure; doubles with each.

    Raises:
        DownloadFailed: No network, no such file, no checksum, or another one.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        algorithm, expected = ("sha256", sha256) if sha256 else _published_checksum(session, url)
        resumed = part.exists()
        _fetch_all(session, url, part, on_bytes, pause_s)
        if resumed and digest(part, algorithm) != expected:  # the old part may be of another file: once more, whole
            part.unlink()
            _fetch_all(session, url, part, on_bytes, pause_s)
    actual = digest(part, algorithm)
    if actual != expected:
        part.unlink()
        raise DownloadFailed(
            f"{url} has a wrong checksum ({algorithm} {actual[:16]}…, expected {expected[:16]}…): deleted",
            hint="run it again; if it happens again, a proxy or mirror on the way alters the file",
        )
    os.replace(part, target)


def digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _get(session: requests.Session, url: str, *, headers: Mapping[str, str] | None = None) -> requests.Response:
    try:
        return session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S)
    except requests.RequestException:
        raise
    except OSError as exc:  # what requests makes of a certificate bundle that is not there
        raise DownloadFailed(f"cannot fetch {url}: {exc}", hint="look at REQUESTS_CA_BUNDLE") from exc


def _published_checksum(session: requests.Session, url: str) -> tuple[str, str]:
    """Return the name and value of the best checksum published beside ``url``."""
    try:
        for algorithm in CHECKSUMS:
            with _get(session, f"{url}.{algorithm}") as response:
                if response.status_code == 404:
                    continue
                _check_status(response, url)
                words = response.text.split()  # "HEX" or "HEX  NAME"
            if words and len(words[0]) == hashlib.new(algorithm).digest_size * 2:
                return algorithm, words[0].lower()
        with _get(session, url) as response:
            _check_status(response, url)
    except requests.RequestException as exc:
        raise _unreachable(url, exc) from exc
    raise DownloadFailed(f"no checksum is published for {url}, so it cannot be trusted", hint=_VERSION_HINT)


def _fetch_all(session: requests.Session, url: str, part: Path, on_bytes: OnBytes, pause_s: float) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            return _fetch_rest(session, url, part, on_bytes)
        except requests.RequestException as exc:
            failures = failures + 1 if _size(part) == before else 1
            if failures == _TRIES:
                raise _unreachable(url, exc) from exc
            time.sleep(pause_s * 2 ** (failures - 1))


def _fetch_rest(session: requests.Session, url: str, part: Path, on_bytes: OnBytes) -> None:
    """Append to ``part`` what it lacks; a server that cannot send a rest sends the whole."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with _get(session, url, headers=headers) as response:
        if response.status_code == 416:  # nothing is left to send: the checksum decides
            return
        if response.status_code == 429 or response.status_code >= 500:
            raise requests.HTTPError(f"status {response.status_code}", response=response)
        _check_status(response, url)
        if response.status_code != 206:
            start = 0
        total = start + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if start else "wb") as file:
            on_bytes(start, total)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                on_bytes(file.tell(), total)


def _check_status(response: requests.Response, url: str) -> None:
    if response.status_code >= 400:
        raise DownloadFailed(
            f"{urlsplit(url).netloc} answers {response.status_code} {response.reason} for {urlsplit(url).path}",
            hint=_VERSION_HINT if response.status_code == 404 else "does a proxy on the way want a login?",
        )


def _unreachable(url: str, exc: requests.RequestException) -> DownloadFailed:
    return DownloadFailed(f"cannot fetch {url}: {cause_of(exc)}", hint=_NETWORK_HINT)


def cause_of(exc: requests.RequestException) -> str:
    """Return in a few words why a request failed; requests' own text names its connection pools."""
    causes = {
        requests.exceptions.SSLError: "its certificate does not verify",
        requests.exceptions.ProxyError: "the proxy does not let it through",
        requests.exceptions.Timeout: "it does not answer in time",
        requests.exceptions.HTTPError: str(exc),
        requests.exceptions.ChunkedEncodingError: "the connection breaks off again and again",
    }
    return next((text for kind, text in causes.items() if isinstance(exc, kind)), "no connection")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
