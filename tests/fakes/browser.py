"""A real Chromium without a network, driven over the DevTools protocol on a pipe: no package but the browser.

``find_browser`` looks for one: ``LREM_OS_BROWSER``, the usual names on the path, then the test's own cache, which npm
fills once (``@sparticuz/chromium``, a build that needs no system libraries; 6 s, 200 MB unpacked).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PACKAGE = "@sparticuz/chromium@153.0.0"
_UNPACK = """
const { brotliDecompressSync } = require("zlib"), { execFileSync } = require("child_process"), fs = require("fs");
const [from, to] = process.argv.slice(1);
fs.mkdirSync(to, { recursive: true });
for (const name of ["al2023.tar", "fonts.tar", "swiftshader.tar"]) {
  if (!fs.existsSync(`${from}/${name}.br`)) continue;
  execFileSync("tar", ["-x", "-C", to], { input: brotliDecompressSync(fs.readFileSync(`${from}/${name}.br`)) });
}
fs.writeFileSync(`${to}/chromium.part`, brotliDecompressSync(fs.readFileSync(`${from}/chromium.br`)), { mode: 0o755 });
fs.renameSync(`${to}/chromium.part`, `${to}/chromium`);
"""
_ON_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_HOW_TO_GET_ONE = "install Chromium or Chrome (apt-get install chromium), or name one in LREM_OS_BROWSER"
_PATIENCE_S = 60.0  # of a loaded machine; a call takes milliseconds


class BrowserFailed(Exception):
    """The browser, or the page in it, did not do what was asked."""


def find_browser(cache: Path) -> tuple[str, str]:
    """Return the browser's path, or an empty one and the reason why there is none."""
    if named := os.environ.get("LREM_OS_BROWSER"):
        return named, ""
    for name in _NAMES:
        if path := shutil.which(name):
            return path, ""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "", f"no browser: none of {', '.join(_NAMES)} is on the path; {_HOW_TO_GET_ONE}"
    if not (cache / "chromium").exists():
        reason = _fetch(cache)
        if reason:
            return "", f"no browser: none of {', '.join(_NAMES)} is on the path, and {reason}; {_HOW_TO_GET_ONE}"
    return str(cache / "chromium"), ""


def _fetch(cache: Path) -> str:
    """Fill the cache; return why that did not work."""
    if not (shutil.which("npm") and shutil.which("node")):
        return "npm is not there to fetch one"
    cache.mkdir(parents=True, exist_ok=True)
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--no-save",
        "--prefix",
        cache,
        _PACKAGE,
    ]
    package = cache / "node_modules" / "@sparticuz" / "chromium" / "bin"
    try:
        for command in (install, ["node", "-e", _UNPACK, package, cache]):
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=180, check=False)
            if done.returncode:
                return f"npm could not fetch one: {(done.stderr or done.stdout).strip()[-200:]}"
    except subprocess.TimeoutExpired:
        return "npm could not fetch one in 180 s"
    finally:
        shutil.rmtree(cache / "node_modules", ignore_errors=True)
    return ""


class Page:
    """One tab. Everything the page logs, throws or asks of the network is kept."""

    def __init__(self, browser: Browser, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a DevTools command."""
        return self._browser.call(method, params, self._session, self)

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light", script: bool = True
    ) -> None:
        """Load a file with the network off."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def js(self, code: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise BrowserFailed(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def until(self, code: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.js(code):
            if time.monotonic() > end:
                raise BrowserFailed(f"never true: {code}; complaints: {self.complaints}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key, as a keyboard does."""
        text = {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Tab": 9, "Backspace": 8}.get(key, ord(key.upper()) if len(key) == 1 else 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        """Close the tab, and forget what it kept."""
        self._browser.call("Target.disposeBrowserContext", {"browserContextId": self._context})

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Keep what an event says."""
        match method:
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str([part.get("value") for part in params["args"]]))
            case "Runtime.exceptionThrown":
                self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


def _pipe() -> tuple[int, int]:
    """Return both ends of a pipe, with numbers that leave 3 and 4 free: there the browser expects its own."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


class Browser:
    """A running browser process."""

    def __init__(self, path: str, home: Path) -> None:
        to_browser, self._write = _pipe()
        self._read, from_browser = _pipe()
        flags = ["--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars"]
        flags += ["--proxy-server=127.0.0.1:9", f"--user-data-dir={home}", "--force-prefers-reduced-motion"]
        library = Path(path).parent / "lib"
        environ = {**os.environ, "HOME": str(home)}
        if library.is_dir():  # the cached build brings its libraries along
            environ |= {"LD_LIBRARY_PATH": str(library), "FONTCONFIG_PATH": str(Path(path).parent)}
        command = [sys.executable, "-c", _ON_PIPES, str(to_browser), str(from_browser), path, *flags]
        with (home / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                pass_fds=(to_browser, from_browser),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._log = home / "browser.log"
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def call(self, method: str, params: dict[str, Any], session: str = "", page: Page | None = None) -> dict[str, Any]:
        """Send a command and return its answer; what happens meanwhile is told to its page."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserFailed(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if told := self._pages.get(answer.get("sessionId", "")):
                told.heard(answer["method"], answer["params"])

    def page(self, downloads: Path) -> Page:
        """Open a tab without a network and without anything kept from another; its downloads go into a folder."""
        context = self.call("Target.createBrowserContext", {})["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._pages[session] = page = Page(self, context, session)
        allowed = {"behavior": "allow", "downloadPath": str(downloads), "browserContextId": context}
        self.call("Browser.setDownloadBehavior", allowed)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        return page

    def close(self) -> None:
        """End the process."""
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        os.close(self._read)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise BrowserFailed(f"the browser ended: {self._log.read_text(errors='replace')[-500:]}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def running_browser(path: str, home: Path) -> Iterator[Browser]:
    """Run a browser with a profile of its own."""
    browser = Browser(path, home)
    try:
        yield browser
    finally:
        browser.close()
